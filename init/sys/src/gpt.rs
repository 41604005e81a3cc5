//! The GUID partition table of a disk: read from whichever copy is good, changed in memory, and
//! written once, so that the power may fail at any moment.
//!
//! Order is everything here. The copy at the disk's end is written and on the medium before the
//! first sector of the other one is touched; so one of the two is whole at any time, and the next
//! boot finds it. A table whose only good copy is the one at the end is put right before anything
//! in it is changed ([`Table::write`] writes no copy that is right already).

mod codec;

use kos_manifest::disk::{ALIGNMENT_BYTES, SECTOR_BYTES};
use kos_manifest::guid::Guid;

use crate::error::SysError;
use crate::medium::Medium;
use codec::{Header, SECTOR};

/// Sectors between possible beginnings of partitions.
const ALIGNMENT: u64 = ALIGNMENT_BYTES / SECTOR_BYTES;

/// One partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    /// Its number, from 1: its place among the entries.
    pub number: u32,
    /// What it is for.
    pub kind: Guid,
    /// Its own identity.
    pub guid: Guid,
    /// Its first sector.
    pub first: u64,
    /// Its last sector.
    pub last: u64,
    /// Flags, kept as they are.
    pub attributes: u64,
    /// Its name in UTF-16.
    pub name: [u16; 36],
}

impl Partition {
    /// Where it begins, in bytes. The table was checked to lie within its disk.
    pub fn start_bytes(&self) -> u64 {
        self.first.saturating_mul(SECTOR_BYTES)
    }

    /// How long it is, in bytes.
    pub fn bytes(&self) -> u64 {
        (self.last - self.first + 1).saturating_mul(SECTOR_BYTES)
    }
}

/// The table of one disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// The disk's identity.
    pub disk: Guid,
    /// Which copy it was read from.
    pub origin: Origin,
    /// The partitions in use, by number. They share no sector, and lie between the two below.
    partitions: Vec<Partition>,
    first_usable: u64,
    last_usable: u64,
    entries: u32,
    entries_at: u64,
}

/// The copies of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// At the disk's beginning.
    Primary,
    /// At the disk's end, because the other one is damaged.
    Backup,
}

/// What is wrong with one copy of a table.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TableError {
    /// There is none.
    #[error("no table is there")]
    Signature,
    /// A revision of the form that is not known.
    #[error("found revision {0:#x}, allowed: 0x10000")]
    Revision(u32),
    /// The header's length.
    #[error("found a header of {0} bytes, allowed: 92 to 512")]
    HeaderLength(usize),
    /// The header is damaged.
    #[error("the header's checksum is wrong")]
    HeaderSum,
    /// The header belongs elsewhere.
    #[error("the header says that it is at sector {says}, and is at {at}")]
    Place {
        /// Where it says that it is.
        says: u64,
        /// Where it is.
        at: u64,
    },
    /// The entries' length.
    #[error("found entries of {0} bytes, allowed: 128")]
    EntryLength(u32),
    /// The number of entries.
    #[error("found {0} entries, allowed: 1 to 1024")]
    EntryCount(u32),
    /// The table is of another, larger disk.
    #[error("partitions may be from sector {first} to {last}, and the disk has {sectors} sectors")]
    Usable {
        /// First.
        first: u64,
        /// Last.
        last: u64,
        /// What there is.
        sectors: u64,
    },
    /// The entries lie where partitions are, or beyond the end.
    #[error("the entries are at sector {0}, where they cannot be")]
    EntriesPlace(u64),
    /// The entries are damaged.
    #[error("the entries' checksum is wrong")]
    EntriesSum,
    /// A partition that is not on the disk.
    #[error("partition {number} is from sector {first} to {last}, where it cannot be")]
    Partition {
        /// Its number.
        number: u32,
        /// First.
        first: u64,
        /// Last.
        last: u64,
    },
    /// Two partitions share a sector.
    #[error("partitions {0} and {1} overlap")]
    Overlap(u32, u32),
    /// The disk has no room for a table.
    #[error("the disk has {0} sectors, which is too small for a table")]
    TooSmall(u64),
}

impl Table {
    /// Reads the table of a disk; the copy at its end when the one at its beginning is damaged.
    ///
    /// # Errors
    /// The disk cannot be read, or neither copy is good.
    pub fn read(disk: &(impl Medium + ?Sized)) -> Result<Self, SysError> {
        let sectors = disk.bytes() / SECTOR_BYTES;
        let refuse = |reason: String| {
            Err(SysError::refused(
                "read the partition table of",
                disk.name(),
                reason,
            ))
        };
        // Room for both copies, and for one sector between them.
        if sectors < 2 * (codec::entry_sectors(1) + 1) + 2 {
            return refuse(TableError::TooSmall(sectors).to_string());
        }
        let primary = match read_copy(disk, 1, sectors)? {
            Ok((header, partitions)) => {
                let entries_at = header.entries_at;
                return Ok(Self::new(header, partitions, Origin::Primary, entries_at));
            }
            Err(error) => error,
        };
        match read_copy(disk, sectors - 1, sectors)? {
            // Where the first copy's entries were is told by its header, which is gone; sector 2
            // is where everybody has them.
            Ok((header, _)) if header.first_usable < 2 + header.entry_sectors() => {
                refuse(TableError::EntriesPlace(2).to_string())
            }
            Ok((header, partitions)) => Ok(Self::new(header, partitions, Origin::Backup, 2)),
            Err(backup) => refuse(format!("at its beginning {primary}; at its end {backup}")),
        }
    }

    fn new(header: Header, partitions: Vec<Partition>, origin: Origin, entries_at: u64) -> Self {
        Table {
            disk: header.disk,
            origin,
            partitions,
            first_usable: header.first_usable,
            last_usable: header.last_usable,
            entries: header.entries,
            entries_at,
        }
    }

    /// The partitions, by number.
    pub fn partitions(&self) -> &[Partition] {
        &self.partitions
    }

    /// The partition with this number.
    pub fn partition(&self, number: u32) -> Option<&Partition> {
        self.partitions
            .iter()
            .find(|partition| partition.number == number)
    }

    /// The partition that lies last on the disk.
    pub fn last(&self) -> Option<&Partition> {
        self.partitions
            .iter()
            .max_by_key(|partition| partition.last)
    }

    /// Takes all of a disk of `bytes` bytes into use: an image that was written to a larger disk
    /// knows only its own size.
    pub fn fit_to(&mut self, bytes: u64) {
        let end = (bytes / SECTOR_BYTES).saturating_sub(codec::entry_sectors(self.entries) + 2);
        // What is in use stays in use, however the disk shrank.
        let used = self.last().map_or(self.first_usable, |last| last.last);
        self.last_usable = end.max(used);
    }

    /// Makes the partition that lies last on the disk as large as the disk allows; tells whether
    /// that changed it.
    pub fn grow_last(&mut self) -> bool {
        let end = self.aligned_end();
        let last = self
            .partitions
            .iter_mut()
            .max_by_key(|partition| partition.last);
        match last {
            Some(last) if last.last + 1 < end => {
                last.last = end - 1;
                true
            }
            _ => false,
        }
    }

    /// Adds a partition behind all others, as large as the disk allows; gives back its number.
    /// `None` when there are not `min_bytes` of room, or no entry for it.
    pub fn add(&mut self, kind: Guid, guid: Guid, name: &str, min_bytes: u64) -> Option<u32> {
        let after = self.last().map_or(self.first_usable, |last| last.last + 1);
        let first = after
            .max(self.first_usable)
            .checked_next_multiple_of(ALIGNMENT)?;
        let end = self.aligned_end();
        let sectors = end.checked_sub(first)?;
        if sectors == 0 || sectors.saturating_mul(SECTOR_BYTES) < min_bytes {
            return None;
        }
        let number = (1..=self.entries).find(|number| self.partition(*number).is_none())?;
        let mut units = [0; 36];
        for (unit, letter) in units.iter_mut().zip(name.encode_utf16()) {
            *unit = letter;
        }
        self.partitions.push(Partition {
            number,
            kind,
            guid,
            first,
            last: end - 1,
            attributes: 0,
            name: units,
        });
        self.partitions.sort_by_key(|partition| partition.number);
        Some(number)
    }

    /// Writes what of the table is not on the disk yet; tells whether there was anything.
    ///
    /// # Errors
    /// The disk cannot be read or written, or has become too small.
    pub fn write(&self, disk: &mut (impl Medium + ?Sized)) -> Result<bool, SysError> {
        let sectors = disk.bytes() / SECTOR_BYTES;
        if self.last_usable + codec::entry_sectors(self.entries) + 2 > sectors {
            return Err(SysError::refused(
                "write the partition table of",
                disk.name(),
                TableError::TooSmall(sectors),
            ));
        }
        let encoded = codec::encode(self, sectors);
        let mut written = false;
        // 1. The end of the disk: entries and header are neighbours there.
        let mut backup = encoded.entries.clone();
        backup.extend_from_slice(&encoded.backup_header);
        written |= write_if_new(disk, encoded.backup_entries_at, &backup)?;
        // 2. The beginning. Where the entries follow the header, as they do on all disks but odd
        // ones, it is one write, and most often one page of a card.
        if self.entries_at == 2 {
            let mut primary = encoded.primary_header.to_vec();
            primary.extend_from_slice(&encoded.entries);
            written |= write_if_new(disk, 1, &primary)?;
        } else {
            written |= write_if_new(disk, self.entries_at, &encoded.entries)?;
            written |= write_if_new(disk, 1, &encoded.primary_header)?;
        }
        // 3. What old programs see instead of the table; nothing that kOS reads.
        let mut mbr = [0; SECTOR];
        disk.read_at(0, &mut mbr)?;
        if let Some(mbr) = codec::protective_mbr(&mbr, sectors) {
            written |= write_if_new(disk, 0, &mbr)?;
        }
        Ok(written)
    }

    /// One past the last sector that a partition may have, on a boundary.
    fn aligned_end(&self) -> u64 {
        (self.last_usable + 1) / ALIGNMENT * ALIGNMENT
    }
}

/// One copy: the outer error is the disk's, the inner one the table's.
type Copy = Result<(Header, Vec<Partition>), TableError>;

fn read_copy(disk: &(impl Medium + ?Sized), at: u64, sectors: u64) -> Result<Copy, SysError> {
    let mut sector = [0; SECTOR];
    disk.read_at(at * SECTOR_BYTES, &mut sector)?;
    let header = match Header::parse(&sector, at, sectors) {
        Ok(header) => header,
        Err(error) => return Ok(Err(error)),
    };
    let length = usize::try_from(header.entry_sectors()).unwrap_or(0) * SECTOR;
    let mut entries = vec![0; length];
    disk.read_at(header.entries_at * SECTOR_BYTES, &mut entries)?;
    Ok(header
        .partitions(&entries)
        .map(|partitions| (header, partitions)))
}

fn write_if_new(
    disk: &mut (impl Medium + ?Sized),
    sector: u64,
    bytes: &[u8],
) -> Result<bool, SysError> {
    let mut there = vec![0; bytes.len()];
    disk.read_at(sector * SECTOR_BYTES, &mut there)?;
    if there == bytes {
        return Ok(false);
    }
    disk.write_at(sector * SECTOR_BYTES, bytes)?;
    disk.sync()?;
    Ok(true)
}

#[cfg(test)]
mod tests;
