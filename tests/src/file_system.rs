//! An ext4 file system in a file, from some byte on: what its superblock says, and what e2fsprogs
//! think of it. Meaningful while no guest has the disk.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use tempfile::NamedTempFile;

use crate::host::{output, succeed, tool};

/// Where a file system is.
#[derive(Debug, Clone)]
pub struct FileSystem {
    path: PathBuf,
    offset: u64,
}

impl FileSystem {
    /// The file system that begins at this byte of this file.
    pub fn at(path: &Path, offset: u64) -> Self {
        let path = path.to_path_buf();
        FileSystem { path, offset }
    }

    /// Makes it anew with these files in it; `kib` is its size.
    pub fn make(&self, content: &Path, kib: u64) -> Result<()> {
        let offset = self.offset;
        let options = format!("root_owner=0:0,quotatype=prjquota,offset={offset}");
        let mut mke2fs = tool("mke2fs");
        // No block is kept for root: what is free is what is said to be free.
        mke2fs.args(["-q", "-F", "-t", "ext4", "-m", "0", "-I", "256"]);
        mke2fs.args(["-O", "quota,project", "-E", &options, "-d"]);
        succeed(mke2fs.arg(content).arg(&self.path).arg(kib.to_string()))?;
        // mke2fs does not count what it copies against the quotas.
        self.check(&["-f", "-y"], &[0, 1])
    }

    /// What it says about itself.
    pub fn superblock(&self) -> Result<Superblock> {
        let mut block = [0; 1024];
        File::open(&self.path)
            .and_then(|file| file.read_exact_at(&mut block, self.offset + 1024))
            .context("cannot read the superblock")?;
        Superblock::parse(&block)
    }

    /// Fails unless it was mounted, unmounted in order, and e2fsck finds nothing to mend.
    pub fn check_left_clean(&self) -> Result<()> {
        let superblock = self.superblock()?;
        ensure!(
            superblock.was_left_clean(),
            "not left clean: {superblock:?}"
        );
        self.check(&["-f", "-n"], &[0])
    }

    /// Fails unless e2fsck makes a copy of it whole without a question, as it does after a loss of
    /// power.
    pub fn check_mendable(&self) -> Result<()> {
        // e2fsck 1.47 loses the offset when it opens the file system anew behind its journal.
        let copy = self.copy()?;
        // 1: mended (e2fsck(8)).
        FileSystem::at(copy.path(), 0).check(&["-f", "-p"], &[0, 1])
    }

    /// Everything from its first byte on, in a file of its own; zeros become holes.
    fn copy(&self) -> Result<NamedTempFile> {
        let (from, to) = (File::open(&self.path)?, NamedTempFile::new()?);
        let bytes = from.metadata()?.len().saturating_sub(self.offset);
        to.as_file().set_len(bytes)?;
        let mut chunk = vec![0; 1 << 20];
        let mut place = 0;
        while place < bytes {
            let count = usize::try_from(bytes - place)?.min(chunk.len());
            let chunk = &mut chunk[..count];
            from.read_exact_at(chunk, self.offset + place)?;
            if chunk.iter().any(|byte| *byte != 0) {
                to.as_file().write_all_at(chunk, place)?;
            }
            place += count as u64;
        }
        Ok(to)
    }

    fn check(&self, options: &[&str], fine: &[i32]) -> Result<()> {
        let output = output(tool("e2fsck").args(options).arg(self.name()))?;
        if output
            .status
            .code()
            .is_some_and(|code| fine.contains(&code))
        {
            return Ok(());
        }
        bail!(
            "e2fsck {options:?} of {}: {}\n{}",
            self.name(),
            output.status,
            String::from_utf8_lossy(&output.stdout)
        )
    }

    /// Runs commands of debugfs that may write. It reports no failure by its exit code.
    pub fn change(&self, commands: &[&str]) -> Result<()> {
        for command in commands {
            let mut debugfs = tool("debugfs");
            succeed(debugfs.args(["-w", "-R", command]).arg(self.name()))?;
        }
        Ok(())
    }

    /// Fills it with one file until this many bytes are free, more or less.
    pub fn fill(&self, leave: u64) -> Result<()> {
        let Superblock {
            free_blocks,
            block_bytes,
            ..
        } = self.superblock()?;
        let free = free_blocks * block_bytes;
        ensure!(free > leave, "only {free} bytes are free as it is");
        let filling = NamedTempFile::new()?;
        // Written as it is: debugfs would make holes of zeros.
        let chunk = vec![0x5a; 1 << 20];
        let mut bytes = free - leave;
        while bytes > 0 {
            let count = bytes.min(chunk.len() as u64);
            std::io::Write::write_all(&mut filling.as_file(), &chunk[..usize::try_from(count)?])?;
            bytes -= count;
        }
        let command = format!("write {} filling", filling.path().display());
        self.change(&[&command])?;
        let left = self.superblock()?.free_blocks * block_bytes;
        // Its map of extents takes blocks of its own.
        ensure!(left <= leave, "{left} bytes are left free");
        Ok(())
    }

    /// e2fsprogs' name of a file system inside a file.
    fn name(&self) -> String {
        format!("{}?offset={}", self.path.display(), self.offset)
    }
}

/// What an ext4 superblock says about how the file system was left (Linux'
/// `Documentation/filesystems/ext4/super.rst`; all fields little-endian).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Superblock {
    /// `s_state`: bit 0 means unmounted cleanly, bit 1 that errors were found.
    pub state: u16,
    /// `s_feature_incompat` has `RECOVER`: the journal holds what must be replayed.
    pub needs_recovery: bool,
    /// `s_mnt_count`: how often it was mounted since it was made.
    pub mounts: u16,
    /// Size of a block.
    pub block_bytes: u64,
    /// Blocks of the whole file system.
    pub blocks: u64,
    /// Blocks that hold nothing.
    pub free_blocks: u64,
    /// `s_uuid`.
    pub uuid: [u8; 16],
}

impl Superblock {
    fn parse(block: &[u8; 1024]) -> Result<Self> {
        let half = |at: usize| u16::from_le_bytes([block[at], block[at + 1]]);
        let word = |at: usize| u32::from(half(at)) | u32::from(half(at + 2)) << 16;
        // The upper half has a meaning in file systems with 64-bit block numbers only.
        let incompatible = word(0x60);
        let wide = |low: usize, high: usize| {
            let high = if incompatible & 0x80 != 0 {
                word(high)
            } else {
                0
            };
            u64::from(word(low)) | u64::from(high) << 32
        };
        let magic = half(0x38);
        if magic != 0xef53 {
            bail!("no ext4 file system is here: its magic is {magic:#x}");
        }
        let mut uuid = [0; 16];
        uuid.copy_from_slice(&block[0x68..0x78]);
        Ok(Superblock {
            state: half(0x3a),
            needs_recovery: incompatible & 0x4 != 0,
            mounts: half(0x34),
            block_bytes: 1024 << word(0x18),
            blocks: wide(0x4, 0x150),
            free_blocks: wide(0xc, 0x158),
            uuid,
        })
    }

    /// Whether it was mounted at least once and then unmounted in order.
    pub fn was_left_clean(&self) -> bool {
        self.state == 1 && !self.needs_recovery && self.mounts > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file_system(offset: u64, kib: u64) -> (tempfile::TempDir, FileSystem) {
        let directory = tempfile::tempdir().unwrap();
        let content = directory.path().join("content");
        std::fs::create_dir(&content).unwrap();
        let path = directory.path().join("disk.img");
        crate::host::set_size(&path, offset + kib * 1024).unwrap();
        let file_system = FileSystem::at(&path, offset);
        file_system.make(&content, kib).unwrap();
        (directory, file_system)
    }

    #[test]
    fn a_fresh_file_system_is_whole_and_was_never_mounted() {
        let (_directory, file_system) = file_system(3 << 20, 16 << 10);
        let found = file_system.superblock().unwrap();
        assert_eq!(
            (found.state, found.needs_recovery, found.mounts),
            (1, false, 0)
        );
        assert_eq!(found.blocks * found.block_bytes, 16 << 20);
        assert!(!found.was_left_clean());
        file_system.check_mendable().unwrap();
        assert!(file_system.check_left_clean().is_err());
    }

    #[test]
    fn filling_leaves_what_it_shall() {
        let (_directory, file_system) = file_system(1 << 20, 32 << 10);
        file_system.fill(1 << 20).unwrap();
        let found = file_system.superblock().unwrap();
        let left = found.free_blocks * found.block_bytes;
        assert!(left <= 1 << 20 && left > 900_000, "{left}");
        file_system.check_mendable().unwrap();
    }

    #[test]
    fn a_journal_to_replay_is_not_clean() {
        let mut block = [0; 1024];
        block[0x38..0x3a].copy_from_slice(&[0x53, 0xef]);
        block[0x3a] = 1;
        block[0x34] = 1;
        assert!(Superblock::parse(&block).unwrap().was_left_clean());
        block[0x60] = 0x4;
        assert!(!Superblock::parse(&block).unwrap().was_left_clean());
        assert!(Superblock::parse(&[0; 1024]).is_err());
    }
}
