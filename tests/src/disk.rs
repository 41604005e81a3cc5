//! The guest's data disk as the host sees it: made with `mke2fs`, judged by its superblock.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use crate::environment;

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
        let content = disk.directory.path().join("content");
        let models_directory = content.join("models");
        fs::create_dir_all(&models_directory).context("cannot create the disk's content")?;
        for (name, source) in models {
            fs::copy(source, models_directory.join(name))
                .with_context(|| format!("cannot copy the model {}", source.display()))?;
        }
        File::create(disk.path())
            .and_then(|file| file.set_len(SIZE_MIB * 1024 * 1024))
            .context("cannot create the disk's file")?;
        // Root's sbin directories hold mke2fs, and an ordinary user's PATH may lack them.
        let mut search = std::env::var_os("PATH").unwrap_or_default();
        search.push(":/usr/sbin:/sbin");
        let output = Command::new("mke2fs")
            .env("PATH", search)
            .args([
                "-q",
                "-t",
                "ext4",
                "-E",
                "root_owner=0:0",
                "-L",
                "kos-data",
                "-d",
            ])
            .arg(&content)
            .arg(disk.path())
            .output()
            .context("cannot run mke2fs (Debian: e2fsprogs); `cargo xtask test` installs it")?;
        if !output.status.success() {
            bail!("mke2fs failed: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(disk)
    }

    /// The disk's image file.
    pub fn path(&self) -> PathBuf {
        self.directory.path().join("data.img")
    }

    /// What the file system says about itself now. Meaningful while no guest has the disk.
    pub fn file_system(&self) -> Result<FileSystem> {
        let mut block = [0; 1024];
        File::open(self.path())
            .and_then(|mut file| {
                file.seek(SeekFrom::Start(1024))?;
                file.read_exact(&mut block)
            })
            .context("cannot read the disk's superblock")?;
        FileSystem::parse(&block)
    }
}

/// What an ext4 superblock says about how the file system was left (Linux'
/// `Documentation/filesystems/ext4/super.rst`; all fields little-endian).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileSystem {
    /// `s_state`: bit 0 means unmounted cleanly, bit 1 that errors were found.
    pub state: u16,
    /// `s_feature_incompat` has `RECOVER`: the journal holds what must be replayed.
    pub needs_recovery: bool,
    /// `s_mnt_count`: how often it was mounted since it was made.
    pub mounts: u16,
}

impl FileSystem {
    fn parse(block: &[u8; 1024]) -> Result<Self> {
        let half = |at: usize| u16::from_le_bytes([block[at], block[at + 1]]);
        let magic = half(0x38);
        if magic != 0xef53 {
            bail!("the disk holds no ext4 file system: its magic is {magic:#x}");
        }
        let incompatible = u32::from(half(0x60)) | u32::from(half(0x62)) << 16;
        Ok(FileSystem {
            state: half(0x3a),
            needs_recovery: incompatible & 0x4 != 0,
            mounts: half(0x34),
        })
    }

    /// Whether it was mounted at least once and then unmounted in order.
    pub fn was_left_clean(self) -> bool {
        self.state == 1 && !self.needs_recovery && self.mounts > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fresh_file_system_is_whole_and_was_never_mounted() {
        let disk = DataDisk::with_models(&[]).unwrap();
        let found = disk.file_system().unwrap();
        assert_eq!(
            found,
            FileSystem {
                state: 1,
                needs_recovery: false,
                mounts: 0
            }
        );
        assert!(!found.was_left_clean());
    }

    #[test]
    fn a_journal_to_replay_is_not_clean() {
        let mut block = [0; 1024];
        block[0x38..0x3a].copy_from_slice(&[0x53, 0xef]);
        block[0x3a] = 1;
        block[0x34] = 1;
        assert!(FileSystem::parse(&block).unwrap().was_left_clean());
        block[0x60] = 0x4;
        assert!(!FileSystem::parse(&block).unwrap().was_left_clean());
        assert!(FileSystem::parse(&[0; 1024]).is_err());
    }
}
