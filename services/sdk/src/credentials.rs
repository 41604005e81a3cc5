//! Secrets that PID 1 hands to a service, as files below `$CREDENTIALS_DIRECTORY`.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

/// Largest credential, in bytes: a key or a token, never a document.
const MAX_BYTES: u64 = 64 * 1024;

/// Reads a credential by name, without the white space around it.
///
/// # Errors
/// When the service was given none of that name, or one that is too large or not UTF-8.
pub fn read(name: &str) -> Result<String> {
    let directory = std::env::var_os("CREDENTIALS_DIRECTORY")
        .context("the service was given no credentials ($CREDENTIALS_DIRECTORY is not set)")?;
    let path = PathBuf::from(directory).join(name);
    read_file(&path, name)?.with_context(|| format!("there is no credential '{name}'"))
}

/// As [`read`], for a credential that need not be there: one that the owner of the box may give,
/// in `kos-box.toml` for example. `None` when there is none.
///
/// # Errors
/// When there is one that is too large or not UTF-8.
pub fn read_optional(name: &str) -> Result<Option<String>> {
    match std::env::var_os("CREDENTIALS_DIRECTORY") {
        Some(directory) => read_file(&PathBuf::from(directory).join(name), name),
        None => Ok(None),
    }
}

fn read_file(path: &Path, name: &str) -> Result<Option<String>> {
    let size = match std::fs::metadata(path) {
        Ok(metadata) => metadata.len(),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => {
            return Err(error).with_context(|| format!("cannot find the credential '{name}'"));
        }
    };
    ensure!(
        size <= MAX_BYTES,
        "the credential '{name}' has {size} bytes, allowed: {MAX_BYTES}"
    );
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("cannot read the credential '{name}'"))?;
    Ok(Some(text.trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credential_is_read_bounded_or_absent() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        assert_eq!(read_file(&path, "key").unwrap(), None);
        std::fs::write(&path, " text \n").unwrap();
        assert_eq!(read_file(&path, "key").unwrap().as_deref(), Some("text"));
        std::fs::write(&path, vec![b'x'; 70_000]).unwrap();
        let error = read_file(&path, "key").unwrap_err().to_string();
        assert!(
            error.contains("'key' has 70000 bytes, allowed: 65536"),
            "{error}"
        );
        std::fs::write(&path, [0xff]).unwrap();
        assert!(read_file(&path, "key").is_err());
    }
}
