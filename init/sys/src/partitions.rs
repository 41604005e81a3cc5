//! The kernel's own view of a disk's partitions, and changing it while one of them is in use.
//!
//! `BLKRRPART` (read the table anew) refuses as soon as one partition is mounted; `BLKPG` changes
//! one at a time, and can make a mounted one larger. It also shows the partitions of a table that
//! the kernel did not take, as it looks at the first copy only.

use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use kos_manifest::disk::SECTOR_BYTES;

use crate::error::{SysError, Told};
use crate::gpt::{Partition, Table};
use crate::kernel_file;
use crate::medium::Device;

/// `BLKPG`: `_IO(0x12, 105)`.
const BLKPG: u32 = 0x1269;

/// More than the minor numbers of any disk.
const MAX_PARTITIONS: usize = 1024;

/// `struct blkpg_ioctl_arg`.
#[repr(C)]
struct Request {
    operation: libc::c_int,
    flags: libc::c_int,
    length: libc::c_int,
    data: *mut KernelPartition,
}

/// `struct blkpg_partition`; the names have no meaning any more.
#[repr(C)]
struct KernelPartition {
    start: i64,
    length: i64,
    number: libc::c_int,
    device_name: [u8; 64],
    volume_name: [u8; 64],
}

/// One partition as the kernel has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// Its number.
    pub number: u32,
    /// Its first sector.
    pub first: u64,
    /// Its length in sectors.
    pub sectors: u64,
    /// Its name below `/dev`.
    pub name: String,
}

/// A change to the kernel's view.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    Add,
    Delete,
    Resize,
}

impl Change {
    /// `BLKPG_ADD_PARTITION` and its siblings, and the verb for errors.
    fn code(self) -> (libc::c_int, &'static str) {
        match self {
            Change::Add => (1, "add"),
            Change::Delete => (2, "delete"),
            Change::Resize => (3, "resize"),
        }
    }
}

/// The partitions of a disk (`vda`) that the kernel knows.
///
/// # Errors
/// The disk is gone.
pub fn known(sys_root: &Path, disk: &str) -> Result<Vec<Known>, SysError> {
    let directory = sys_root.join("block").join(disk);
    let listing = std::fs::read_dir(&directory).told("list", directory.display())?;
    let mut partitions = Vec::new();
    for entry in listing.take(MAX_PARTITIONS) {
        let path = entry.told("list", directory.display())?.path();
        let number = |file: &str| kernel_file::read_number(&path.join(file));
        let Ok(partition) = number("partition") else {
            continue;
        };
        let name = path.file_name().unwrap_or_default();
        partitions.push(Known {
            number: u32::try_from(partition).unwrap_or(u32::MAX),
            first: number("start")?,
            sectors: number("size")?,
            name: name.to_string_lossy().into_owned(),
        });
    }
    Ok(partitions)
}

/// Makes the kernel know one partition of a table as the table has it; gives back its device node.
/// `disk` is the whole disk, open for reading at least.
///
/// # Errors
/// There is no such partition, or the kernel refuses: it begins elsewhere now, and is in use.
pub fn show(
    sys_root: &Path,
    dev_root: &Path,
    disk: &Device,
    table: &Table,
    number: u32,
) -> Result<PathBuf, SysError> {
    let path = disk.path();
    let subject = || format!("partition {number} of {}", path.display());
    let wanted = table
        .partition(number)
        .ok_or_else(|| SysError::refused("open", subject(), "the table has none"))?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let find = || -> Result<Option<Known>, SysError> {
        let known = known(sys_root, &name)?;
        Ok(known.into_iter().find(|known| known.number == number))
    };
    for change in changes(wanted, find()?.as_ref()).iter().copied() {
        let (_, verb) = change.code();
        call(disk, change, wanted).told(verb, subject())?;
    }
    match find()? {
        Some(known) => Ok(dev_root.join(known.name)),
        None => Err(SysError::refused(
            "open",
            subject(),
            "the kernel does not show it",
        )),
    }
}

/// What has to be changed for the kernel to know a partition as it should be.
fn changes(wanted: &Partition, known: Option<&Known>) -> &'static [Change] {
    let sectors = wanted.last - wanted.first + 1;
    match known {
        None => &[Change::Add],
        Some(known) if known.first != wanted.first => &[Change::Delete, Change::Add],
        Some(known) if known.sectors != sectors => &[Change::Resize],
        Some(_) => &[],
    }
}

fn call(disk: &Device, change: Change, partition: &Partition) -> std::io::Result<()> {
    let bytes = |sectors: u64| {
        let bytes = sectors.checked_mul(SECTOR_BYTES);
        bytes
            .and_then(|bytes| i64::try_from(bytes).ok())
            .ok_or(std::io::ErrorKind::InvalidInput)
    };
    let mut told = KernelPartition {
        start: bytes(partition.first)?,
        length: bytes(partition.last - partition.first + 1)?,
        number: libc::c_int::try_from(partition.number)
            .map_err(|_| std::io::ErrorKind::InvalidInput)?,
        device_name: [0; 64],
        volume_name: [0; 64],
    };
    let request = Request {
        operation: change.code().0,
        flags: 0,
        length: size_of::<KernelPartition>() as libc::c_int,
        data: &raw mut told,
    };
    // SAFETY: the request and the partition it points to have the kernel's layout (repr(C), the
    // length said in it), live on this stack, and are only read.
    let result = unsafe { libc::ioctl(disk.file().as_raw_fd(), BLKPG.into(), &raw const request) };
    if result < 0 {
        return Err(std::io::Error::last_os_error());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use kos_manifest::guid::Guid;

    use super::*;

    #[test]
    fn only_what_differs_is_changed() {
        let wanted = Partition {
            number: 2,
            kind: Guid::ZERO,
            guid: Guid::ZERO,
            first: 2048,
            last: 4095,
            attributes: 0,
            name: [0; 36],
        };
        let known = |first, sectors| Known {
            number: 2,
            first,
            sectors,
            name: "vda2".to_owned(),
        };
        assert_eq!(changes(&wanted, None), [Change::Add]);
        assert_eq!(changes(&wanted, Some(&known(2048, 2048))), []);
        assert_eq!(changes(&wanted, Some(&known(2048, 100))), [Change::Resize]);
        assert_eq!(
            changes(&wanted, Some(&known(1024, 2048))),
            [Change::Delete, Change::Add]
        );
    }

    #[test]
    fn the_kernels_view_is_read() {
        let root = tempfile::tempdir().unwrap();
        let disk = root.path().join("block/mmcblk0");
        for (name, files) in [
            ("queue", vec![("hw_sector_size", "512")]),
            (
                "mmcblk0p2",
                vec![("partition", "2"), ("start", "2048"), ("size", "131072")],
            ),
        ] {
            std::fs::create_dir_all(disk.join(name)).unwrap();
            for (file, value) in files {
                std::fs::write(disk.join(name).join(file), value).unwrap();
            }
        }
        let expected = Known {
            number: 2,
            first: 2048,
            sectors: 131_072,
            name: "mmcblk0p2".to_owned(),
        };
        assert_eq!(known(root.path(), "mmcblk0").unwrap(), [expected]);
        assert!(known(root.path(), "vda").is_err());
    }
}
