//! A disk's partition table (GPT, UEFI specification 5.3), as far as tests look at it. Sectors have
//! 512 bytes. Whether the table is valid in every field is left to `sgdisk --verify`.

use std::fmt;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Context, Result, ensure};

const SECTOR: u64 = 512;

/// A GUID as it stands in a table: the first three groups are little-endian.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Guid([u8; 16]);

impl fmt::Display for Guid {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        const ORDER: [usize; 16] = [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15];
        for (place, index) in ORDER.into_iter().enumerate() {
            if matches!(place, 4 | 6 | 8 | 10) {
                formatter.write_str("-")?;
            }
            write!(formatter, "{:02x}", self.0[index])?;
        }
        Ok(())
    }
}

impl fmt::Debug for Guid {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

/// One partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    /// From 1, as everyone counts them.
    pub number: usize,
    /// Its label.
    pub name: String,
    /// Its own GUID.
    pub guid: Guid,
    /// Its first byte on the disk.
    pub start: u64,
    /// Its size.
    pub bytes: u64,
}

/// The primary table of a disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gpt {
    /// The disk's own GUID.
    pub guid: Guid,
    /// The partitions that there are.
    pub partitions: Vec<Partition>,
}

impl Gpt {
    /// Reads the table of the disk in this file.
    pub fn read(path: &Path) -> Result<Self> {
        let file = File::open(path).with_context(|| format!("open {}", path.display()))?;
        let mut header = [0; 92];
        file.read_exact_at(&mut header, SECTOR)?;
        ensure!(
            header.starts_with(b"EFI PART"),
            "{} has no partition table",
            path.display()
        );
        let place = number(&header, 72) * SECTOR;
        let (count, size) = (word(&header, 80), word(&header, 84));
        ensure!(
            size >= 128 && count <= 1024,
            "a table of {count} entries of {size} bytes"
        );
        let mut table = vec![0; count * size];
        file.read_exact_at(&mut table, place)?;
        let partitions = table.chunks_exact(size).enumerate().filter_map(partition);
        Ok(Gpt {
            guid: guid(&header, 56),
            partitions: partitions.collect(),
        })
    }

    /// The partition of this label.
    pub fn partition(&self, name: &str) -> Result<&Partition> {
        let found = self.partitions.iter().find(|one| one.name == name);
        found.with_context(|| format!("no partition {name} in {self:?}"))
    }
}

fn partition((index, entry): (usize, &[u8])) -> Option<Partition> {
    if entry[..16] == [0; 16] {
        return None;
    }
    let (first, last) = (number(entry, 32), number(entry, 40));
    let units = entry[56..128]
        .chunks_exact(2)
        .map(|pair| u16::from_le_bytes([pair[0], pair[1]]));
    let name: Vec<u16> = units.take_while(|unit| *unit != 0).collect();
    Some(Partition {
        number: index + 1,
        name: String::from_utf16_lossy(&name),
        guid: guid(entry, 16),
        start: first * SECTOR,
        bytes: (last + 1).saturating_sub(first) * SECTOR,
    })
}

fn guid(bytes: &[u8], at: usize) -> Guid {
    let mut guid = [0; 16];
    guid.copy_from_slice(&bytes[at..at + 16]);
    Guid(guid)
}

fn number(bytes: &[u8], at: usize) -> u64 {
    let mut number = [0; 8];
    number.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(number)
}

fn word(bytes: &[u8], at: usize) -> usize {
    let word = [bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]];
    u32::from_le_bytes(word) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::{set_size, succeed, tool};

    #[test]
    fn a_table_of_sgdisk_is_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("disk.img");
        set_size(&path, 16 << 20).unwrap();
        let mut sgdisk = tool("sgdisk");
        sgdisk.args(["--disk-guid=01234567-89ab-cdef-0123-456789abcdef"]);
        sgdisk.args(["--new=1:2048:4095", "--change-name=1:kos-boot"]);
        sgdisk.args(["--partition-guid=1:00112233-4455-6677-8899-aabbccddeeff"]);
        succeed(sgdisk.arg(&path)).unwrap();
        let table = Gpt::read(&path).unwrap();
        assert_eq!(
            table.guid.to_string(),
            "01234567-89ab-cdef-0123-456789abcdef"
        );
        let partition = table.partition("kos-boot").unwrap();
        assert_eq!((partition.start, partition.bytes), (1 << 20, 1 << 20));
        assert_eq!(
            partition.guid.to_string(),
            "00112233-4455-6677-8899-aabbccddeeff"
        );
        assert!(table.partition("kos-data").is_err());
    }
}
