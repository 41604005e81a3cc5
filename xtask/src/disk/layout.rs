//! Which partitions a disk has, for each kind of firmware, and what is in them.
//!
//! The first partition is the one that a user may open on any computer, for settings; the last
//! one is the data partition, because it grows. What is between is what updates write.

use anyhow::{Context, Result, ensure};
use kos_manifest::disk::{DATA_PARTITION_NAME, MIN_DATA_BYTES};
use uuid::Uuid;

use super::fat::Files;
use super::gpt::{self, ALIGNMENT, BACKUP_SECTORS, PRIMARY_SECTORS, SECTOR, Table};
use super::guid;
use crate::board::Disk;

/// The name of the partition with settings.
pub const BOOT: &str = "kos-boot";

/// A whole disk.
#[derive(Debug)]
pub struct Layout {
    disk_guid: Uuid,
    first_sector: u64,
    partitions: Vec<Partition>,
    raw: Vec<Raw>,
}

/// A partition with what is in it.
#[derive(Debug)]
pub struct Partition {
    /// Its name in the table.
    pub name: &'static str,
    /// Its size, whole MiB.
    pub bytes: u64,
    /// What is in it.
    pub content: Content,
}

/// What is in a partition.
#[derive(Debug)]
pub enum Content {
    /// A FAT32 volume.
    Fat {
        /// Its label.
        label: &'static str,
        /// Its files.
        files: Files,
    },
    /// Nothing but the request that PID 1 makes a file system.
    DataMarker,
}

/// Bytes that a firmware reads from before the first partition.
#[derive(Debug)]
pub struct Raw {
    /// What it is.
    pub name: String,
    /// Where it begins.
    pub sector: u64,
    /// The bytes.
    pub bytes: Vec<u8>,
}

impl Layout {
    /// A disk for UEFI.
    pub fn uefi(disk_guid: Uuid, disk: &Disk, boot: Files) -> Layout {
        Layout {
            disk_guid,
            first_sector: disk.first_partition / SECTOR,
            partitions: vec![fat(BOOT, disk.boot_partition, "KOS-BOOT", boot), data()],
            raw: Vec::new(),
        }
    }

    /// A card for a Raspberry Pi: `boot` says which slot is started, and slot B is empty.
    ///
    /// # Errors
    /// When the board gives the slots no size.
    pub fn raspberry_pi(
        disk_guid: Uuid,
        disk: &Disk,
        boot: Files,
        slot_a: Files,
    ) -> Result<Layout> {
        let slot = disk
            .slot_partitions
            .context("a Raspberry Pi's disk without slots")?;
        Ok(Layout {
            disk_guid,
            first_sector: disk.first_partition / SECTOR,
            partitions: vec![
                fat(BOOT, disk.boot_partition, "KOS-BOOT", boot),
                fat("kos-a", slot, "KOS-A", slot_a),
                fat("kos-b", slot, "KOS-B", Files::new()),
                data(),
            ],
            raw: Vec::new(),
        })
    }

    /// A card for a board that U-Boot starts, with U-Boot on it.
    pub fn u_boot(disk_guid: Uuid, disk: &Disk, boot: Files, raw: Vec<Raw>) -> Layout {
        Layout {
            disk_guid,
            first_sector: disk.first_partition / SECTOR,
            partitions: vec![fat(BOOT, disk.boot_partition, "KOS-BOOT", boot), data()],
            raw,
        }
    }

    /// The partitions with their contents, in the table's order.
    pub fn partitions(&self) -> &[Partition] {
        &self.partitions
    }

    /// What is before the first partition, checked: it overlaps nothing.
    pub fn raw(&self) -> Result<&[Raw]> {
        let mut free_from = PRIMARY_SECTORS;
        for raw in &self.raw {
            let end = raw.sector + (raw.bytes.len() as u64).div_ceil(SECTOR);
            ensure!(
                raw.sector >= free_from && end <= self.first_sector,
                "{}: sectors {} to {end}, and only {free_from} to {} are free",
                raw.name,
                raw.sector,
                self.first_sector
            );
            free_from = end;
        }
        Ok(&self.raw)
    }

    /// The partition table. Its GUIDs derive from the disk's.
    pub fn table(&self) -> Table {
        let mut first = self.first_sector;
        let disk = self.disk_guid.to_string();
        let partitions = self.partitions.iter().map(|partition| {
            let sectors = partition.bytes / SECTOR;
            let entry = gpt::Partition {
                type_guid: match partition.content {
                    Content::Fat { .. } => guid::EFI_SYSTEM,
                    Content::DataMarker => guid::KOS_DATA,
                },
                guid: guid::derived(&["partition", &disk, partition.name]),
                name: partition.name.to_owned(),
                first,
                sectors,
            };
            first += sectors;
            entry
        });
        Table {
            partitions: partitions.collect(),
            disk_guid: self.disk_guid,
        }
    }

    /// How large the image is: whole MiB, with the table's copy in the last one.
    pub fn disk_sectors(&self) -> u64 {
        let used: u64 = self.partitions.iter().map(|part| part.bytes / SECTOR).sum();
        (self.first_sector + used + BACKUP_SECTORS).next_multiple_of(ALIGNMENT)
    }
}

fn fat(name: &'static str, bytes: u64, label: &'static str, files: Files) -> Partition {
    let content = Content::Fat { label, files };
    Partition {
        name,
        bytes,
        content,
    }
}

fn data() -> Partition {
    Partition {
        name: DATA_PARTITION_NAME,
        bytes: MIN_DATA_BYTES,
        content: Content::DataMarker,
    }
}
