//! What a boot may write to the disk that it came from, before anything of it is mounted: a
//! partition table put right and made to fit, a data partition asked for anew, a file system made.
//!
//! Each step is right after a power cut in any of the others, and does nothing on a disk where it
//! was done: a boot takes them all, in the order in which they stand here. That is tested write by
//! write in `tests/power_cut.rs`.

use kos_manifest::disk::{DATA_PARTITION_NAME, DATA_PARTITION_TYPE};
use kos_manifest::guid::Guid;

use crate::data_partition::{self, Fresh};
use crate::error::SysError;
use crate::gpt::{Origin, Partition, Table};
use crate::medium::Medium;
use crate::seed::Seed;

/// A disk, whole and by partition.
pub trait PartitionedDisk {
    /// The whole of it.
    fn whole(&mut self) -> &mut dyn Medium;

    /// One partition of it, as `table` has it.
    ///
    /// # Errors
    /// There is no such partition, or it cannot be opened.
    fn partition(&mut self, table: &Table, number: u32) -> Result<Box<dyn Medium + '_>, SysError>;
}

/// Reads the partition table. When its first copy is damaged, that is put right before anything
/// else, as the only good one must not be written to.
///
/// # Errors
/// The disk cannot be read or written, or no copy is good.
pub fn read_and_repair(disk: &mut dyn PartitionedDisk) -> Result<Table, SysError> {
    let table = Table::read(disk.whole())?;
    if table.origin == Origin::Primary {
        return Ok(table);
    }
    table.write(disk.whole())?;
    Table::read(disk.whole())
}

/// The data partition of a table.
pub fn data_partition(table: &Table) -> Option<&Partition> {
    let mut all = table.partitions().iter();
    all.find(|partition| partition.kind == DATA_PARTITION_TYPE)
}

/// How a data partition was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// The partition that was there is given up.
    Again,
    /// There was none, and now there is.
    New,
}

/// Asks for an empty data partition: marks the one that is there, or adds one behind all others.
/// `guid` is what a new one would be called, `min_bytes` the least that makes sense.
///
/// # Errors
/// There is neither a data partition nor room for one, or the disk cannot be written.
pub fn ask_for_empty(
    disk: &mut dyn PartitionedDisk,
    table: &mut Table,
    guid: Guid,
    min_bytes: u64,
) -> Result<Asked, SysError> {
    if let Some(number) = data_partition(table).map(|partition| partition.number) {
        data_partition::mark(disk.partition(table, number)?.as_mut())?;
        return Ok(Asked::Again);
    }
    let mut changed = table.clone();
    changed.fit_to(disk.whole().bytes());
    let added = changed.add(DATA_PARTITION_TYPE, guid, DATA_PARTITION_NAME, min_bytes);
    let Some(partition) = added.and_then(|number| changed.partition(number)) else {
        return Err(SysError::refused(
            "add a data partition to",
            disk.whole().name(),
            format!("there is no room of {min_bytes} bytes behind its last partition"),
        ));
    };
    // The marker is there before the partition is: whoever sees the one sees the other.
    let start = partition.start_bytes();
    let whole = disk.whole();
    whole.write_at(start, &kos_manifest::disk::marker_sector())?;
    whole.sync()?;
    changed.write(whole)?;
    *table = changed;
    Ok(Asked::New)
}

/// Takes all of the disk into use: the second copy of the table at its end, and the data partition
/// as large as it can be when it is the last one. Gives back its size before, when that changed.
///
/// # Errors
/// The disk cannot be written; then `table` is as it was.
pub fn fit(disk: &mut dyn PartitionedDisk, table: &mut Table) -> Result<Option<u64>, SysError> {
    let mut changed = table.clone();
    changed.fit_to(disk.whole().bytes());
    let before = table.last().map(Partition::bytes);
    let ours = table
        .last()
        .is_some_and(|last| last.kind == DATA_PARTITION_TYPE);
    let grown = ours && changed.grow_last();
    changed.write(disk.whole())?;
    *table = changed;
    Ok(before.filter(|_| grown))
}

/// Makes a file system where one is asked for; tells whether it did.
///
/// # Errors
/// It is asked for, and there is no seed, the partition is too small for it, or the disk cannot be
/// written.
pub fn make_if_asked(
    partition: &mut dyn Medium,
    seed: Option<&Seed<'_>>,
    fresh: Fresh,
) -> Result<bool, SysError> {
    if !data_partition::is_marked(partition)? {
        return Ok(false);
    }
    let seed = seed.ok_or_else(|| {
        SysError::refused(
            "make the file system of",
            partition.name(),
            "the image has no seed of one",
        )
    })?;
    data_partition::make(partition, seed, fresh)?;
    Ok(true)
}
