//! `/data`: the disk that the kernel arguments name, or memory, and which of the two it is.
//!
//! The disk is found by its serial number, never by label. Whatever is wrong with it, the box
//! boots: `/data` is then a tmpfs, and the console says why.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use kos_sys::block::{Superblock, find_by_serial};
use kos_sys::mount::{MountFlags, mount};

use crate::spec::DATA;

/// What `/data` is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Data {
    /// A disk.
    Disk {
        /// Its device node.
        device: PathBuf,
    },
    /// Memory: what is written there is gone with the power.
    Memory {
        /// Why it is not a disk.
        why: String,
    },
}

impl Data {
    /// `disk` or `tmpfs`.
    pub fn kind(&self) -> &'static str {
        match self {
            Data::Disk { .. } => "disk",
            Data::Memory { .. } => "tmpfs",
        }
    }

    /// The device, or why there is none.
    pub fn detail(&self) -> String {
        match self {
            Data::Disk { device } => device.display().to_string(),
            Data::Memory { why } => why.clone(),
        }
    }
}

/// Mounts `/data` from the disk with this serial number, if one is named and can be used.
///
/// # Errors
/// When not even a tmpfs can be mounted.
pub fn mount_data(serial: Option<&str>) -> Result<Data> {
    let why = match serial.map(mount_disk) {
        None => "no data disk is named (kernel argument kos.data)".to_owned(),
        Some(Ok(device)) => return Ok(Data::Disk { device }),
        Some(Err(error)) => format!("{error:#}"),
    };
    // Half of the memory, the kernel's own default, is too much beside a model.
    mount(
        "tmpfs",
        Path::new(DATA),
        "tmpfs",
        flags(),
        "mode=0755,size=25%",
    )
    .map_err(|error| anyhow!("{}", error.full()))
    .context("cannot mount a tmpfs as /data")?;
    Ok(Data::Memory { why })
}

fn mount_disk(serial: &str) -> Result<PathBuf> {
    let device = find_by_serial(Path::new("/sys"), Path::new("/dev"), serial)
        .map_err(|error| anyhow!("{}", error.full()))?
        .with_context(|| format!("no disk has the serial number '{serial}'"))?;
    let superblock = Superblock::read(&device).map_err(|error| anyhow!("{}", error.full()))?;
    if superblock.is_none() {
        return Err(anyhow!(
            "there is no ext4 file system on {}",
            device.display()
        ));
    }
    // A journal that was not closed is replayed by the mount itself. Errors that ext4 meets make
    // it read-only rather than worse.
    mount(
        &device.to_string_lossy(),
        Path::new(DATA),
        "ext4",
        flags(),
        "errors=remount-ro",
    )
    .map_err(|error| anyhow!("{}", error.full()))?;
    Ok(device)
}

fn flags() -> MountFlags {
    MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC | MountFlags::NOATIME
}
