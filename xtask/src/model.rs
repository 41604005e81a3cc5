//! Model files as xtask sees them: whether a file is a GGUF at all, before a guest is booted.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// The first bytes of every GGUF file.
const MAGIC: &[u8; 4] = b"GGUF";
/// Versions whose layout kos-infer reads (little-endian).
const VERSIONS: std::ops::RangeInclusive<u32> = 2..=3;

/// A file that begins like a GGUF.
#[derive(Debug, Clone)]
pub struct Model {
    /// Where it is on the host.
    pub path: PathBuf,
    /// Its name in the guest's /data/models.
    pub name: String,
    /// Its size.
    pub bytes: u64,
}

impl Model {
    /// Checks the file's first bytes and name.
    pub fn check(path: &Path) -> Result<Model> {
        let path = path
            .canonicalize()
            .with_context(|| format!("find the model {}", path.display()))?;
        let mut file =
            File::open(&path).with_context(|| format!("open the model {}", path.display()))?;
        let bytes = file.metadata()?.len();
        let mut head = Vec::new();
        Read::by_ref(&mut file)
            .take(8)
            .read_to_end(&mut head)
            .with_context(|| format!("read the model {}", path.display()))?;
        if let Err(found) = check_head(&head) {
            bail!("{} is not a GGUF model: {found}", path.display());
        }
        let stem = path
            .file_stem()
            .and_then(|stem| stem.to_str())
            .unwrap_or_default();
        let plain = |letter: char| letter.is_ascii_alphanumeric() || "._-+ ".contains(letter);
        if stem.is_empty() || !stem.chars().all(plain) {
            bail!(
                "{}: a model's name may hold letters, digits, space and . _ - + (it becomes the \
                 name that clients ask for)",
                path.display()
            );
        }
        // The guest finds models by the ending.
        let name = format!("{stem}.gguf");
        Ok(Model { path, name, bytes })
    }
}

/// What is wrong with a file's first eight bytes.
fn check_head(head: &[u8]) -> Result<(), String> {
    let Some((magic, version)) = head.split_first_chunk::<4>() else {
        return Err(format!("it has only {} bytes", head.len()));
    };
    if magic != MAGIC {
        return Err(format!(
            "it begins with \"{}\" and not with \"GGUF\"{}",
            magic.escape_ascii(),
            match magic {
                b"PK\x03\x04" => " (a zip archive or a PyTorch checkpoint)",
                b"ggjt" | b"ggml" | b"lmgg" | b"tjgg" => " (an older format of llama.cpp)",
                b"<!DO" | b"<htm" => " (a web page: was the download refused?)",
                b"vers" => " (a Git LFS pointer: the file itself was not fetched)",
                _ => "",
            }
        ));
    }
    let Some(version) = version.first_chunk::<4>() else {
        return Err("it ends after its first word".to_owned());
    };
    let version = u32::from_le_bytes(*version);
    if !VERSIONS.contains(&version) {
        return Err(format!("its version is {version}, and kOS reads 2 and 3"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::check_head;

    #[test]
    fn a_foreign_file_is_told_by_its_first_bytes() {
        assert_eq!(check_head(b"GGUF\x03\0\0\0"), Ok(()));
        assert!(
            check_head(b"GGUF\x03\0")
                .unwrap_err()
                .contains("ends after")
        );
        assert!(check_head(b"GG").unwrap_err().contains("only 2 bytes"));
        assert!(
            check_head(b"GGUF\0\0\0\x03")
                .unwrap_err()
                .contains("version is 50331648")
        );
        let error = check_head(b"version ").unwrap_err();
        assert!(
            error.contains("begins with \"vers\"") && error.contains("Git LFS"),
            "{error}"
        );
    }
}
