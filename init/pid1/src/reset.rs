//! Factory reset: the data partition is asked for anew, and made empty by the next boot (or by this
//! one, when it has not mounted it yet). Nothing else on any disk is touched.
//!
//! It is asked for over D-Bus, by the kernel argument `kos.reset=data`, or by the file `kos-reset`
//! on the boot partition. All three end in the same mark on the data partition, so that a power
//! cut on the way leaves a reset that is done or one that is still to be done.

use anyhow::{Result, anyhow, bail};
use kos_manifest::disk::MIN_DATA_BYTES;
use kos_manifest::guid::Guid;
use kos_sys::block::{Disk, size};
use kos_sys::data_partition;
use kos_sys::gpt::Table;
use kos_sys::medium::{Device, Medium};
use kos_sys::provision::{Asked, ask_for_empty};

use crate::disk::{BootDisk, Disks, Roots};

/// What a reset makes empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// The data partition of the boot disk, which has this partition table.
    Partition {
        /// The disk.
        disk: Disk,
        /// Its identity, so that another disk in its place is left alone.
        table: Guid,
    },
    /// A whole disk, which the kernel argument names.
    Whole(Disk),
}

impl Target {
    /// What a reset would make empty.
    ///
    /// # Errors
    /// Why there is nothing, as a sentence.
    pub fn of(disks: &Disks) -> Result<Self, String> {
        let target = match (&disks.data, &disks.boot) {
            (Some(Ok(disk)), _) => Target::Whole(disk.clone()),
            (Some(Err(problem)), _) | (None, Err(problem)) => return Err(problem.detail.clone()),
            (None, Ok(boot)) => Target::Partition {
                disk: boot.disk.clone(),
                table: boot.table.disk,
            },
        };
        if target.disk().read_only {
            return Err(format!("{} is read-only.", target.disk().node.display()));
        }
        Ok(target)
    }

    fn disk(&self) -> &Disk {
        match self {
            Target::Partition { disk, .. } | Target::Whole(disk) => disk,
        }
    }

    /// Asks for a reset when everything has stopped and nothing is mounted any more; tells what
    /// was done.
    ///
    /// # Errors
    /// The disk is another one by now, or cannot be written.
    pub fn ask(&self, roots: &Roots) -> Result<String> {
        match self {
            Target::Whole(disk) => ask_whole(disk),
            Target::Partition { disk, table } => {
                let mut opened = BootDisk::open(roots, disk.clone()).map_err(told)?;
                if opened.table.disk != *table {
                    bail!("{} is another disk now", disk.node.display());
                }
                ask_partition(&mut opened)
            }
        }
    }
}

/// Asks for a reset before anything is mounted; tells what was done.
///
/// # Errors
/// There is no disk to reset, or it cannot be written.
pub fn ask_at_boot(disks: &mut Disks) -> Result<String> {
    match Target::of(disks).map_err(|why| anyhow!("{why}"))? {
        Target::Whole(disk) => ask_whole(&disk),
        Target::Partition { .. } => match &mut disks.boot {
            Ok(boot) => ask_partition(boot),
            Err(problem) => bail!("{}", problem.detail),
        },
    }
}

fn ask_partition(disk: &mut BootDisk) -> Result<String> {
    let mut table = disk.table.clone();
    let asked = ask_for_empty(disk, &mut table, random_guid()?, MIN_DATA_BYTES).map_err(told)?;
    disk.table = table;
    let node = disk.disk.node.display();
    Ok(match asked {
        Asked::Again => format!("the data partition of {node} is to be made empty"),
        Asked::New => format!("{node} had no data partition, and has an empty one now"),
    })
}

fn ask_whole(disk: &Disk) -> Result<String> {
    let node = disk.node.display();
    let mut device = Device::open_to_write(&disk.node).map_err(told)?;
    // kos.data names a disk that is a file system as a whole. One with partitions is something
    // else, and whoever named it did not mean all of it.
    let mut first = [0; 512];
    device.read_at(0, &mut first).map_err(told)?;
    if first[510..] == [0x55, 0xaa] || Table::read(&device).is_ok() {
        bail!("{node} has partitions, and is not a data disk as a whole");
    }
    if device.bytes() < MIN_DATA_BYTES {
        bail!(
            "{node} has {}, and a data disk needs {}",
            size(device.bytes()),
            size(MIN_DATA_BYTES)
        );
    }
    data_partition::mark(&mut device).map_err(told)?;
    Ok(format!("{node} is to be made empty"))
}

/// A GUID that nothing else has.
///
/// # Errors
/// The kernel has no random numbers.
pub fn random_guid() -> Result<Guid> {
    Ok(Guid::from_random(random()?))
}

/// Random bytes.
///
/// # Errors
/// The kernel has none.
pub fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| anyhow!("no random numbers: {error}"))?;
    Ok(bytes)
}

fn told(error: kos_sys::SysError) -> anyhow::Error {
    anyhow!("{}", error.full())
}

#[cfg(test)]
mod tests;
