//! Both copies of a GUID partition table, between bytes and values. Every number in it is somebody
//! else's and is checked before it is used.
//!
//! The layout is that of the UEFI specification, chapter 5.3.

use kos_manifest::guid::Guid;

use super::{Partition, Table, TableError};
use crate::checksum::crc32;

/// Bytes in a sector.
pub const SECTOR: usize = 512;
/// The only length of an entry that Linux takes.
const ENTRY: usize = 128;
/// Eight times what everybody uses; a bound on what is read into memory.
const MAX_ENTRIES: u32 = 1024;

const SIGNATURE: &[u8; 8] = b"EFI PART";
const REVISION: u32 = 0x0001_0000;
/// The header as the specification has it; longer ones are read, and not written.
const HEADER: usize = 92;

/// What a header says, with its sums and its own place checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Where the other copy's header is.
    pub other_at: u64,
    /// First sector that a partition may have.
    pub first_usable: u64,
    /// Last sector that a partition may have.
    pub last_usable: u64,
    /// The disk's identity.
    pub disk: Guid,
    /// First sector of the entries.
    pub entries_at: u64,
    /// Number of entries.
    pub entries: u32,
    entries_sum: u32,
}

impl Header {
    /// Understands the header in `sector`, which was read from sector number `at` of a disk of
    /// `sectors` sectors.
    pub fn parse(sector: &[u8; SECTOR], at: u64, sectors: u64) -> Result<Self, TableError> {
        if !sector.starts_with(SIGNATURE) {
            return Err(TableError::Signature);
        }
        let revision = word(sector, 8);
        if revision != REVISION {
            return Err(TableError::Revision(revision));
        }
        let length = usize::try_from(word(sector, 12)).unwrap_or(usize::MAX);
        if !(HEADER..=SECTOR).contains(&length) {
            return Err(TableError::HeaderLength(length));
        }
        let mut summed = *sector;
        summed[16..20].fill(0);
        if crc32(&summed[..length]) != word(sector, 16) {
            return Err(TableError::HeaderSum);
        }
        let says = long(sector, 24);
        if says != at {
            return Err(TableError::Place { says, at });
        }
        let header = Header {
            other_at: long(sector, 32),
            first_usable: long(sector, 40),
            last_usable: long(sector, 48),
            disk: guid(sector, 56),
            entries_at: long(sector, 72),
            entries: word(sector, 80),
            entries_sum: word(sector, 88),
        };
        let entry = word(sector, 84);
        if usize::try_from(entry) != Ok(ENTRY) {
            return Err(TableError::EntryLength(entry));
        }
        if !(1..=MAX_ENTRIES).contains(&header.entries) {
            return Err(TableError::EntryCount(header.entries));
        }
        if header.first_usable > header.last_usable || header.last_usable >= sectors {
            return Err(TableError::Usable {
                first: header.first_usable,
                last: header.last_usable,
                sectors,
            });
        }
        // Each header has its entries on its own side of what partitions may have.
        let end = header.entries_at.saturating_add(header.entry_sectors());
        let beside = if at == 1 {
            header.entries_at > at && end <= header.first_usable
        } else {
            header.entries_at > header.last_usable && end <= at
        };
        if !beside {
            return Err(TableError::EntriesPlace(header.entries_at));
        }
        Ok(header)
    }

    /// Sectors that the entries fill.
    pub fn entry_sectors(&self) -> u64 {
        entry_sectors(self.entries)
    }

    /// Understands the entries, read from where the header says they are.
    pub fn partitions(&self, bytes: &[u8]) -> Result<Vec<Partition>, TableError> {
        let length = usize::try_from(self.entries).unwrap_or(0) * ENTRY;
        let bytes = bytes.get(..length).ok_or(TableError::EntriesSum)?;
        if crc32(bytes) != self.entries_sum {
            return Err(TableError::EntriesSum);
        }
        let mut partitions = Vec::new();
        for (number, entry) in (1..).zip(bytes.chunks_exact(ENTRY)) {
            let partition = Partition {
                number,
                kind: guid(entry, 0),
                guid: guid(entry, 16),
                first: long(entry, 32),
                last: long(entry, 40),
                attributes: long(entry, 48),
                name: std::array::from_fn(|at| half(entry, 56 + 2 * at)),
            };
            if partition.kind == Guid::ZERO {
                continue;
            }
            let inside = partition.first >= self.first_usable && partition.last <= self.last_usable;
            if partition.first > partition.last || !inside {
                return Err(TableError::Partition {
                    number,
                    first: partition.first,
                    last: partition.last,
                });
            }
            partitions.push(partition);
        }
        overlap(&partitions)?;
        Ok(partitions)
    }
}

/// Refuses partitions that share a sector.
fn overlap(partitions: &[Partition]) -> Result<(), TableError> {
    let mut by_place: Vec<&Partition> = partitions.iter().collect();
    by_place.sort_by_key(|partition| partition.first);
    for pair in by_place.windows(2) {
        if let [before, behind] = pair
            && behind.first <= before.last
        {
            return Err(TableError::Overlap(before.number, behind.number));
        }
    }
    Ok(())
}

/// A table as it stands on a disk: each copy in one piece.
pub struct Encoded {
    /// Header, at sector 1, and the entries where the table has them.
    pub primary_header: [u8; SECTOR],
    /// The entries, the same for both copies.
    pub entries: Vec<u8>,
    /// The header at the disk's last sector.
    pub backup_header: [u8; SECTOR],
    /// First sector of the backup's entries; its header follows them.
    pub backup_entries_at: u64,
}

/// Writes a table down for a disk of `sectors` sectors, which it fits.
pub fn encode(table: &Table, sectors: u64) -> Encoded {
    let entry_sectors = entry_sectors(table.entries);
    let length = usize::try_from(entry_sectors).unwrap_or(0) * SECTOR;
    let mut entries = vec![0; length];
    for partition in &table.partitions {
        let at = usize::try_from(partition.number - 1).unwrap_or(0) * ENTRY;
        let entry = &mut entries[at..at + ENTRY];
        entry[0..16].copy_from_slice(&partition.kind.to_disk());
        entry[16..32].copy_from_slice(&partition.guid.to_disk());
        entry[32..40].copy_from_slice(&partition.first.to_le_bytes());
        entry[40..48].copy_from_slice(&partition.last.to_le_bytes());
        entry[48..56].copy_from_slice(&partition.attributes.to_le_bytes());
        for (unit, bytes) in partition.name.iter().zip(entry[56..].chunks_exact_mut(2)) {
            bytes.copy_from_slice(&unit.to_le_bytes());
        }
    }
    let summed = usize::try_from(table.entries).unwrap_or(0) * ENTRY;
    let sum = crc32(&entries[..summed]);
    let backup_at = sectors - 1;
    let backup_entries_at = backup_at - entry_sectors;
    Encoded {
        primary_header: header(table, sum, 1, backup_at, table.entries_at),
        backup_header: header(table, sum, backup_at, 1, backup_entries_at),
        entries,
        backup_entries_at,
    }
}

fn header(table: &Table, sum: u32, at: u64, other_at: u64, entries_at: u64) -> [u8; SECTOR] {
    let mut sector = [0; SECTOR];
    sector[..8].copy_from_slice(SIGNATURE);
    sector[8..12].copy_from_slice(&REVISION.to_le_bytes());
    sector[12..16].copy_from_slice(&92u32.to_le_bytes());
    sector[24..32].copy_from_slice(&at.to_le_bytes());
    sector[32..40].copy_from_slice(&other_at.to_le_bytes());
    sector[40..48].copy_from_slice(&table.first_usable.to_le_bytes());
    sector[48..56].copy_from_slice(&table.last_usable.to_le_bytes());
    sector[56..72].copy_from_slice(&table.disk.to_disk());
    sector[72..80].copy_from_slice(&entries_at.to_le_bytes());
    sector[80..84].copy_from_slice(&table.entries.to_le_bytes());
    sector[84..88].copy_from_slice(&128u32.to_le_bytes());
    sector[88..92].copy_from_slice(&sum.to_le_bytes());
    let whole = crc32(&sector[..HEADER]);
    sector[16..20].copy_from_slice(&whole.to_le_bytes());
    sector
}

/// Sectors that so many entries fill.
pub fn entry_sectors(entries: u32) -> u64 {
    (u64::from(entries) * ENTRY as u64).div_ceil(SECTOR as u64)
}

/// The protective MBR with the size of a disk of `sectors` sectors; `None` when it is right
/// already, or is not purely protective: then it is somebody's work, and stays.
pub fn protective_mbr(sector: &[u8; SECTOR], sectors: u64) -> Option<[u8; SECTOR]> {
    const FIRST: usize = 446;
    let entry = &sector[FIRST..FIRST + 16];
    let alone = sector[FIRST + 16..510].iter().all(|byte| *byte == 0);
    let protective = entry[4] == 0xee && word(entry, 8) == 1;
    let size = u32::try_from(sectors - 1).unwrap_or(u32::MAX);
    if !alone || !protective || sector[510..] != [0x55, 0xaa] || word(entry, 12) == size {
        return None;
    }
    let mut new = *sector;
    new[FIRST + 12..FIRST + 16].copy_from_slice(&size.to_le_bytes());
    Some(new)
}

/// Fields at offsets that stand above as numbers below the length of what they are read from.
fn half(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from(half(bytes, at)) | u32::from(half(bytes, at + 2)) << 16
}

fn long(bytes: &[u8], at: usize) -> u64 {
    u64::from(word(bytes, at)) | u64::from(word(bytes, at + 4)) << 32
}

fn guid(bytes: &[u8], at: usize) -> Guid {
    Guid::from_disk(std::array::from_fn(|index| bytes[at + index]))
}
