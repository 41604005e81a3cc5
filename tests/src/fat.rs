//! The files of a FAT file system inside a disk's image, by mtools: nothing is mounted.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::host::{output, succeed, tool};

/// Where a FAT file system is.
#[derive(Debug, Clone)]
pub struct Fat {
    path: PathBuf,
    offset: u64,
}

impl Fat {
    /// The file system that begins at this byte of this file.
    pub fn at(path: &Path, offset: u64) -> Self {
        let path = path.to_path_buf();
        Fat { path, offset }
    }

    /// Puts a file into it, over one of the same name.
    pub fn write(&self, name: &str, content: &[u8]) -> Result<()> {
        let file = tempfile::NamedTempFile::new()?;
        fs::write(file.path(), content)?;
        let mut mcopy = tool("mcopy");
        mcopy.args(["-o", "-i", &self.image()]).arg(file.path());
        succeed(mcopy.arg(format!("::{name}"))).map(drop)
    }

    /// Makes a directory in one that exists.
    pub fn make_directory(&self, name: &str) -> Result<()> {
        let mut mmd = tool("mmd");
        mmd.args(["-i", &self.image()]);
        succeed(mmd.arg(format!("::{name}"))).map(drop)
    }

    /// Takes a file out of it.
    pub fn read(&self, name: &str) -> Result<Vec<u8>> {
        let directory = tempfile::tempdir()?;
        let file = directory.path().join("file");
        let mut mcopy = tool("mcopy");
        mcopy.args(["-i", &self.image(), &format!("::{name}")]);
        succeed(mcopy.arg(&file))?;
        fs::read(&file).with_context(|| format!("{name} was not copied"))
    }

    /// Whether it has this file.
    pub fn has(&self, name: &str) -> Result<bool> {
        let mut mdir = tool("mdir");
        mdir.args(["-b", "-i", &self.image(), &format!("::{name}")]);
        Ok(output(&mut mdir)?.status.success())
    }

    /// Every file with its content.
    pub fn files(&self) -> Result<BTreeMap<PathBuf, Vec<u8>>> {
        let directory = tempfile::tempdir()?;
        let mut mcopy = tool("mcopy");
        mcopy.args(["-s", "-n", "-i", &self.image(), "::*"]);
        succeed(mcopy.arg(directory.path()))?;
        let mut files = BTreeMap::new();
        collect(directory.path(), directory.path(), &mut files)?;
        Ok(files)
    }

    fn image(&self) -> String {
        format!("{}@@{}", self.path.display(), self.offset)
    }
}

fn collect(root: &Path, directory: &Path, files: &mut BTreeMap<PathBuf, Vec<u8>>) -> Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(root, &path, files)?;
        } else {
            files.insert(path.strip_prefix(root)?.to_path_buf(), fs::read(&path)?);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_go_in_and_come_out() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("disk.img");
        crate::host::set_size(&path, 8 << 20).unwrap();
        let fat = Fat::at(&path, 1 << 20);
        let mut mformat = tool("mformat");
        mformat.args(["-i", &fat.image(), "-T", "8192", "::"]);
        succeed(&mut mformat).unwrap();
        assert!(!fat.has("kos-reset").unwrap());
        fat.write("kos-reset", b"").unwrap();
        fat.write("kos-box.toml", b"hostname = \"a\"\n").unwrap();
        assert!(fat.has("kos-reset").unwrap());
        assert_eq!(fat.read("kos-box.toml").unwrap(), b"hostname = \"a\"\n");
        let files = fat.files().unwrap();
        assert_eq!(
            files.keys().collect::<Vec<_>>(),
            [Path::new("kos-box.toml"), Path::new("kos-reset")]
        );
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 8 << 20);
    }
}
