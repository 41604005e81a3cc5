//! The disk of a box: a copy of the image that users get, and what the host sees on it.
//!
//! Everything here is about a disk that no guest has, but for its path.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use kos_qemu::{Attachment, Disk};
use tempfile::TempDir;

use crate::fat::Fat;
use crate::file_system::FileSystem;
use crate::gpt::{Gpt, Partition};
use crate::host::{copy_sparse, set_size, succeed, tool};
use crate::{disk, environment};

/// The partition that the firmware reads and the owner writes.
pub const BOOT: &str = "kos-boot";
/// The partition that becomes `/data`.
pub const DATA: &str = "kos-data";

/// A whole disk in a temporary directory, deleted with it.
#[derive(Debug)]
pub struct BoxDisk {
    directory: TempDir,
}

impl BoxDisk {
    /// A copy of the image of this run's UEFI board, as `flash` would write it.
    pub fn create() -> Result<Self> {
        Self::copy_of(&environment::disk_image()?)
    }

    /// A copy of this whole disk.
    pub fn copy_of(image: &Path) -> Result<Self> {
        let directory = TempDir::with_prefix("kos-disk-").context("cannot create a directory")?;
        let disk = BoxDisk { directory };
        copy_sparse(image, &disk.path())
            .with_context(|| format!("cannot copy the disk {}", image.display()))?;
        Ok(disk)
    }

    /// A disk of this size (such as `1G`) that `cargo xtask flash` wrote this image to, with more of
    /// its options: another box than all others.
    pub fn flashed(image: &Path, size: &str, options: &[&str]) -> Result<Self> {
        let directory = TempDir::with_prefix("kos-disk-").context("cannot create a directory")?;
        let disk = BoxDisk { directory };
        let mut flash = Command::new(environment::xtask()?);
        flash.args(["flash", "--yes", "--size", size]).args(options);
        flash.arg("--image").arg(image).arg("--to").arg(disk.path());
        succeed(flash.stdin(Stdio::null()))?;
        Ok(disk)
    }

    /// Another disk that has the same content, identity included.
    pub fn duplicate(&self) -> Result<Self> {
        Self::copy_of(&self.path())
    }

    /// The disk's image file.
    pub fn path(&self) -> PathBuf {
        self.directory.path().join("disk.img")
    }

    /// The disk for a guest.
    pub fn attached(&self, attachment: Attachment) -> Disk {
        Disk::new(self.path()).attached(attachment)
    }

    /// The same content on a larger disk.
    pub fn grow(self, bytes: u64) -> Result<Self> {
        self.resize(bytes)?;
        Ok(self)
    }

    /// As [`BoxDisk::grow`], between two boots.
    pub fn resize(&self, bytes: u64) -> Result<()> {
        let now = self.bytes()?;
        ensure!(now <= bytes, "the disk has {now} bytes already");
        set_size(&self.path(), bytes)
    }

    /// Its size.
    pub fn bytes(&self) -> Result<u64> {
        Ok(fs::metadata(self.path())?.len())
    }

    /// Its partition table.
    pub fn table(&self) -> Result<Gpt> {
        Gpt::read(&self.path())
    }

    /// Changes its partition table with these options of sgdisk.
    pub fn sgdisk(&self, options: &[&str]) -> Result<()> {
        succeed(tool("sgdisk").args(options).arg(self.path())).map(drop)
    }

    /// Fails unless both partition tables are valid and are where they belong.
    pub fn check_table(&self) -> Result<()> {
        let words = succeed(tool("sgdisk").arg("--verify").arg(self.path()))?;
        ensure!(
            words.contains("No problems found"),
            "sgdisk --verify: {words}"
        );
        Ok(())
    }

    /// The files of the partition that the firmware reads.
    pub fn boot_files(&self) -> Result<Fat> {
        self.fat(BOOT)
    }

    /// The files of a partition with a FAT file system.
    pub fn fat(&self, name: &str) -> Result<Fat> {
        Ok(Fat::at(&self.path(), self.table()?.partition(name)?.start))
    }

    /// The file system that becomes `/data`.
    pub fn data(&self) -> Result<FileSystem> {
        let start = self.table()?.partition(DATA)?.start;
        Ok(FileSystem::at(&self.path(), start))
    }

    /// Makes the file system of `/data` with the tiny model on it, instead of leaving that to the
    /// first boot.
    pub fn make_data(&self) -> Result<FileSystem> {
        let partition = self.table()?.partition(DATA)?.clone();
        let zeros = vec![0; 4096];
        self.write(&partition, &zeros)?;
        let content = disk::content_with_models(&[("tiny.gguf", &environment::model()?)])?;
        let data = self.data()?;
        data.make(content.path(), partition.bytes >> 10)?;
        Ok(data)
    }

    /// Overwrites the beginning of a partition.
    pub fn write(&self, partition: &Partition, bytes: &[u8]) -> Result<()> {
        let file = File::options().write(true).open(self.path())?;
        file.write_all_at(bytes, partition.start)
            .with_context(|| format!("cannot write to partition {}", partition.name))
    }

    /// Reads the beginning of a partition.
    pub fn read(&self, partition: &Partition, bytes: &mut [u8]) -> Result<()> {
        let file = File::open(self.path())?;
        file.read_exact_at(bytes, partition.start)
            .with_context(|| format!("cannot read partition {}", partition.name))
    }

    /// The disk as it is now, to compare with later.
    pub fn snapshot(&self) -> Result<BoxDisk> {
        self.duplicate()
    }

    /// What differs from an earlier state of it: partitions by label, and `the table` for what is
    /// before, behind and between them. The partitions are those of the earlier state.
    pub fn changed_since(&self, before: &BoxDisk) -> Result<Vec<String>> {
        let table = before.table()?;
        let mut changed: Vec<String> = Vec::new();
        for place in self.differences(before)? {
            let at = |one: &&Partition| (one.start..one.start + one.bytes).contains(&place);
            let name = table
                .partitions
                .iter()
                .find(at)
                .map_or("the table", |partition| &partition.name);
            if !changed.iter().any(|known| known == name) {
                changed.push(name.to_string());
            }
        }
        changed.sort();
        Ok(changed)
    }

    /// The places of the blocks that are not the same on both.
    fn differences(&self, other: &BoxDisk) -> Result<Vec<u64>> {
        /// Not larger than what partitions are aligned to.
        const BLOCK: usize = 64 * 1024;
        let (ours, theirs) = (File::open(self.path())?, File::open(other.path())?);
        let (mut one, mut two) = (vec![0; BLOCK], vec![0; BLOCK]);
        let end = self.bytes()?.max(other.bytes()?);
        let mut places = Vec::new();
        for place in (0..end).step_by(BLOCK) {
            fill(&ours, &mut one, place)?;
            fill(&theirs, &mut two, place)?;
            if one != two {
                places.push(place);
            }
        }
        Ok(places)
    }
}

/// Reads a block; behind the file's end there are zeros.
fn fill(file: &File, block: &mut [u8], place: u64) -> Result<()> {
    let mut filled = 0;
    while filled < block.len() {
        match file.read_at(&mut block[filled..], place + filled as u64)? {
            0 => break,
            count => filled += count,
        }
    }
    block[filled..].fill(0);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A disk as an image has it, but for what is in its partitions.
    fn disk() -> BoxDisk {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("disk.img");
        set_size(&path, 100 << 20).unwrap();
        let disk = BoxDisk::copy_of(&path).unwrap();
        disk.sgdisk(&["--new=1:1M:+32M", "--change-name=1:kos-boot"])
            .unwrap();
        disk.sgdisk(&["--new=2:34M:+64M", "--change-name=2:kos-data"])
            .unwrap();
        disk
    }

    #[test]
    fn a_change_is_found_where_it_was_made() {
        let disk = disk();
        let before = disk.snapshot().unwrap();
        assert!(disk.changed_since(&before).unwrap().is_empty());
        let data = disk.table().unwrap().partition(DATA).unwrap().clone();
        disk.write(&data, b"x").unwrap();
        assert_eq!(disk.changed_since(&before).unwrap(), ["kos-data"]);
        disk.sgdisk(&["--randomize-guids"]).unwrap();
        assert_eq!(
            disk.changed_since(&before).unwrap(),
            ["kos-data", "the table"]
        );
    }

    #[test]
    fn a_disk_that_grew_has_its_second_table_in_the_wrong_place() {
        let disk = disk();
        disk.check_table().unwrap();
        let disk = disk.grow(200 << 20).unwrap();
        assert!(disk.check_table().is_err());
    }
}
