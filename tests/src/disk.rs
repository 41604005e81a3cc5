//! A data disk for guests that QEMU starts without firmware: the whole disk is a file system.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use tempfile::TempDir;

use crate::environment;
use crate::file_system::FileSystem;
use crate::host;

/// Enough for the tiny model, the store and ext4's own journal.
const SIZE_MIB: u64 = 96;
/// The serial by which the guest finds its data disk.
pub(crate) const SERIAL: &str = "kos-data";

/// A data disk in a temporary directory, deleted with it.
#[derive(Debug)]
pub struct DataDisk {
    directory: TempDir,
}

impl DataDisk {
    /// A fresh file system that holds the tiny model as `models/tiny.gguf`.
    pub fn create() -> Result<Self> {
        Self::with_models(&[("tiny.gguf", &environment::model()?)])
    }

    /// A fresh file system that holds these files as `models/NAME`.
    pub fn with_models(models: &[(&str, &Path)]) -> Result<Self> {
        let directory = TempDir::with_prefix("kos-data-").context("cannot create a directory")?;
        let disk = DataDisk { directory };
        host::set_size(&disk.path(), SIZE_MIB << 20)?;
        let content = content_with_models(models)?;
        disk.file_system().make(content.path(), SIZE_MIB << 10)?;
        Ok(disk)
    }

    /// The disk's image file.
    pub fn path(&self) -> PathBuf {
        self.directory.path().join("data.img")
    }

    /// The file system on it.
    pub fn file_system(&self) -> FileSystem {
        FileSystem::at(&self.path(), 0)
    }
}

/// A directory that holds these files as `models/NAME`, as a data file system has them.
pub(crate) fn content_with_models(models: &[(&str, &Path)]) -> Result<TempDir> {
    let content = TempDir::with_prefix("kos-content-").context("cannot create a directory")?;
    let directory = content.path().join("models");
    fs::create_dir(&directory).context("cannot create the disk's content")?;
    for (name, source) in models {
        fs::copy(source, directory.join(name))
            .with_context(|| format!("cannot copy the model {}", source.display()))?;
    }
    Ok(content)
}
