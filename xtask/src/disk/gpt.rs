//! A partition table as bytes: GPT with its protective MBR, for sectors of 512 bytes.
//!
//! The whole table is made or read at once and is a pure value in between: a disk's table is
//! never patched. (Format: UEFI Specification 2.10, chapter 5.)

use anyhow::{Context, Result, bail, ensure};
use uuid::Uuid;

/// Bytes of a sector, here and on every disk that kOS is written to.
pub const SECTOR: u64 = 512;
/// Sectors of 1 MiB: partitions begin and end there, for the sake of flash memory's blocks.
pub const ALIGNMENT: u64 = (1 << 20) / SECTOR;
/// Sectors at a disk's start that the table takes: MBR, header and entries.
pub const PRIMARY_SECTORS: u64 = 2 + ENTRY_SECTORS;
/// Sectors at a disk's end: entries and header again.
pub const BACKUP_SECTORS: u64 = ENTRY_SECTORS + 1;

const ENTRY_SECTORS: u64 = (ENTRY_COUNT * ENTRY_BYTES) as u64 / SECTOR;
/// What every tool makes, and some expect.
const ENTRY_COUNT: usize = 128;
const ENTRY_BYTES: usize = 128;
const HEADER_BYTES: usize = 92;
/// UTF-16 units of a partition's name.
const NAME_UNITS: usize = 36;
const SIGNATURE: &[u8; 8] = b"EFI PART";
const REVISION: u32 = 0x0001_0000;

/// A partition of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    /// What it is for.
    pub type_guid: Uuid,
    /// Which one it is.
    pub guid: Uuid,
    /// Its name, for people.
    pub name: String,
    /// Its first sector.
    pub first: u64,
    /// How many sectors it has.
    pub sectors: u64,
}

/// A partition table: partition N is `partitions[N - 1]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// The disk's identity.
    pub disk_guid: Uuid,
    /// In the order of their numbers.
    pub partitions: Vec<Partition>,
}

impl Table {
    /// The first and the last sectors of a disk of `disk_sectors` sectors.
    pub fn to_bytes(&self, disk_sectors: u64) -> Result<(Vec<u8>, Vec<u8>)> {
        self.check(disk_sectors)?;
        let entries = self.entries();
        let backup_header = disk_sectors - 1;
        let mut primary = protective_mbr(disk_sectors);
        primary.extend(self.header(&entries, disk_sectors, 1, backup_header, 2));
        primary.extend(&entries);
        let first_entry = disk_sectors - BACKUP_SECTORS;
        let mut backup = entries.clone();
        backup.extend(self.header(&entries, disk_sectors, backup_header, 1, first_entry));
        Ok((primary, backup))
    }

    /// Reads a table from a disk's first [`PRIMARY_SECTORS`] sectors.
    pub fn from_bytes(primary: &[u8]) -> Result<Table> {
        let sector = SECTOR as usize;
        ensure!(
            primary.len() >= PRIMARY_SECTORS as usize * sector,
            "the disk is smaller than a partition table"
        );
        let header = &primary[sector..2 * sector];
        if &header[..8] != SIGNATURE {
            bail!("the disk has no GUID partition table");
        }
        let mut without_sum = header[..HEADER_BYTES].to_vec();
        without_sum[16..20].fill(0);
        ensure!(
            get_u32(header, 16) == crc32fast::hash(&without_sum),
            "the partition table's header is damaged"
        );
        let shape = (get_u32(header, 80) as usize, get_u32(header, 84) as usize);
        ensure!(
            shape == (ENTRY_COUNT, ENTRY_BYTES) && get_u64(header, 72) == 2,
            "the partition table has {} entries of {} bytes, and only one of {ENTRY_COUNT} of \
             {ENTRY_BYTES} at sector 2 is read",
            shape.0,
            shape.1
        );
        let entries = &primary[2 * sector..PRIMARY_SECTORS as usize * sector];
        ensure!(
            get_u32(header, 88) == crc32fast::hash(entries),
            "the partition table's entries are damaged"
        );
        let mut partitions = Vec::new();
        for entry in entries.chunks_exact(ENTRY_BYTES) {
            let type_guid = get_guid(entry, 0);
            if type_guid.is_nil() {
                break;
            }
            let (first, last) = (get_u64(entry, 32), get_u64(entry, 40));
            partitions.push(Partition {
                type_guid,
                guid: get_guid(entry, 16),
                name: name_from_units(&entry[56..]),
                first,
                sectors: last
                    .checked_add(1)
                    .and_then(|end| end.checked_sub(first))
                    .context("a partition ends before it begins")?,
            });
        }
        Ok(Table {
            disk_guid: get_guid(header, 56),
            partitions,
        })
    }

    fn check(&self, disk_sectors: u64) -> Result<()> {
        ensure!(
            self.partitions.len() <= ENTRY_COUNT,
            "{} partitions, allowed: {ENTRY_COUNT}",
            self.partitions.len()
        );
        let mut free_from = PRIMARY_SECTORS;
        for partition in &self.partitions {
            let Partition {
                name,
                first,
                sectors,
                ..
            } = partition;
            ensure!(
                name.encode_utf16().count() <= NAME_UNITS,
                "partition {name}: its name is longer than {NAME_UNITS} letters"
            );
            ensure!(
                *first >= free_from && *sectors > 0,
                "partition {name}: it begins at sector {first}, and the first free one is \
                 {free_from}"
            );
            free_from = first + sectors;
        }
        ensure!(
            free_from + BACKUP_SECTORS <= disk_sectors,
            "the partitions need a disk of {} bytes, and this one has {}",
            (free_from + BACKUP_SECTORS) * SECTOR,
            disk_sectors * SECTOR
        );
        Ok(())
    }

    fn entries(&self) -> Vec<u8> {
        let mut entries = vec![0; ENTRY_COUNT * ENTRY_BYTES];
        for (entry, partition) in entries.chunks_exact_mut(ENTRY_BYTES).zip(&self.partitions) {
            entry[..16].copy_from_slice(&partition.type_guid.to_bytes_le());
            entry[16..32].copy_from_slice(&partition.guid.to_bytes_le());
            put_u64(entry, 32, partition.first);
            put_u64(entry, 40, partition.first + partition.sectors - 1);
            for (index, unit) in partition.name.encode_utf16().enumerate() {
                entry[56 + 2 * index..][..2].copy_from_slice(&unit.to_le_bytes());
            }
        }
        entries
    }

    fn header(
        &self,
        entries: &[u8],
        disk_sectors: u64,
        own: u64,
        other: u64,
        first_entry: u64,
    ) -> Vec<u8> {
        let mut header = vec![0; SECTOR as usize];
        header[..8].copy_from_slice(SIGNATURE);
        put_u32(&mut header, 8, REVISION);
        put_u32(&mut header, 12, HEADER_BYTES as u32);
        put_u64(&mut header, 24, own);
        put_u64(&mut header, 32, other);
        put_u64(&mut header, 40, PRIMARY_SECTORS);
        put_u64(&mut header, 48, disk_sectors - BACKUP_SECTORS - 1);
        header[56..72].copy_from_slice(&self.disk_guid.to_bytes_le());
        put_u64(&mut header, 72, first_entry);
        put_u32(&mut header, 80, ENTRY_COUNT as u32);
        put_u32(&mut header, 84, ENTRY_BYTES as u32);
        put_u32(&mut header, 88, crc32fast::hash(entries));
        let sum = crc32fast::hash(&header[..HEADER_BYTES]);
        put_u32(&mut header, 16, sum);
        header
    }
}

/// An MBR with one partition over the whole disk, so that a tool that knows no GPT sees no free
/// disk.
fn protective_mbr(disk_sectors: u64) -> Vec<u8> {
    let mut mbr = vec![0; SECTOR as usize];
    let entry = &mut mbr[446..462];
    // Cylinder, head and sector: the first one behind the MBR, and "beyond what can be said".
    entry[1..4].copy_from_slice(&[0, 2, 0]);
    entry[4] = 0xee;
    entry[5..8].fill(0xff);
    put_u32(entry, 8, 1);
    put_u32(
        entry,
        12,
        u32::try_from(disk_sectors - 1).unwrap_or(u32::MAX),
    );
    mbr[510..].copy_from_slice(&[0x55, 0xaa]);
    mbr
}

fn name_from_units(bytes: &[u8]) -> String {
    let units: Vec<u16> = bytes
        .chunks_exact(2)
        .map(|pair| u16::from_le_bytes([pair[0], pair[1]]))
        .take_while(|unit| *unit != 0)
        .collect();
    String::from_utf16_lossy(&units)
}

fn get_guid(bytes: &[u8], offset: usize) -> Uuid {
    let mut field = [0; 16];
    field.copy_from_slice(&bytes[offset..offset + 16]);
    Uuid::from_bytes_le(field)
}

fn get_u32(bytes: &[u8], offset: usize) -> u32 {
    let mut field = [0; 4];
    field.copy_from_slice(&bytes[offset..offset + 4]);
    u32::from_le_bytes(field)
}

fn get_u64(bytes: &[u8], offset: usize) -> u64 {
    let mut field = [0; 8];
    field.copy_from_slice(&bytes[offset..offset + 8]);
    u64::from_le_bytes(field)
}

fn put_u32(bytes: &mut [u8], offset: usize, value: u32) {
    bytes[offset..offset + 4].copy_from_slice(&value.to_le_bytes());
}

fn put_u64(bytes: &mut [u8], offset: usize, value: u64) {
    bytes[offset..offset + 8].copy_from_slice(&value.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::guid;

    fn table() -> Table {
        let partition = |name: &str, first, sectors| Partition {
            type_guid: guid::EFI_SYSTEM,
            guid: guid::derived(&[name]),
            name: name.to_owned(),
            first,
            sectors,
        };
        Table {
            disk_guid: guid::derived(&["disk"]),
            partitions: vec![
                partition("boot", 2048, 4096),
                partition("daten-ü", 6144, 100),
            ],
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        let (primary, backup) = table().to_bytes(10_000).unwrap();
        assert_eq!(primary.len() as u64, PRIMARY_SECTORS * SECTOR);
        assert_eq!(backup.len() as u64, BACKUP_SECTORS * SECTOR);
        assert_eq!(Table::from_bytes(&primary).unwrap(), table());
    }

    #[test]
    fn a_damaged_table_is_not_read() {
        let (primary, _) = table().to_bytes(10_000).unwrap();
        for (offset, complaint) in [
            (512, "no GUID partition table"),
            (512 + 56, "header is damaged"),
            (1024 + 32, "entries are damaged"),
        ] {
            let mut damaged = primary.clone();
            damaged[offset] ^= 1;
            let error = Table::from_bytes(&damaged).unwrap_err().to_string();
            assert!(error.contains(complaint), "{offset}: {error}");
        }
        assert!(Table::from_bytes(&primary[..512]).is_err());
    }

    #[test]
    fn partitions_that_overlap_or_do_not_fit_are_refused() {
        let error = table().to_bytes(6244).unwrap_err().to_string();
        assert!(error.contains("need a disk of 3213824 bytes"), "{error}");
        assert!(table().to_bytes(6244 + BACKUP_SECTORS).is_ok());
        let mut overlapping = table();
        overlapping.partitions[1].first = 6143;
        let error = overlapping.to_bytes(10_000).unwrap_err().to_string();
        assert!(error.contains("first free one is 6144"), "{error}");
        overlapping.partitions[0].first = PRIMARY_SECTORS - 1;
        assert!(overlapping.to_bytes(10_000).is_err());
    }
}
