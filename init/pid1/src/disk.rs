//! The disk that the box booted from, and the one that `/data` is on: found by identity, waited
//! for when they are slow, and never guessed.
//!
//! An identity is what the firmware or the kernel's command line says, not a label. Exactly one
//! disk must have it. All others are read as far as their partition tables, and never written.
//! What is there when the first disk fits is compared; a copy that is plugged in later is not seen
//! before the next boot, and is left alone until then.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Result;
use kos_manifest::board_info::{BoardInfo, Firmware};
use kos_manifest::control::DataProblem;
use kos_manifest::guid::Guid;
use kos_sys::SysError;
use kos_sys::block::Disk;
use kos_sys::gpt::Table;
use kos_sys::medium::{Device, Medium};
use kos_sys::partitions;
use kos_sys::provision::{PartitionedDisk, read_and_repair};
use kos_sys::watch::Watch;

use crate::cmdline::Arguments;
use crate::data::Problem;

/// How long after the first line of PID 1 a disk may appear. Disks on USB spin up, and card readers
/// settle, within a few seconds.
const PATIENCE: Duration = Duration::from_secs(10);

/// A disk's node may be there before it can be opened, so that looking again only when another
/// node appears would be too late.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// Where the kernel shows things; a test has directories of its own.
#[derive(Debug, Clone)]
pub struct Roots {
    /// `/sys`.
    pub sys: PathBuf,
    /// `/dev`.
    pub dev: PathBuf,
}

impl Default for Roots {
    fn default() -> Self {
        Roots {
            sys: "/sys".into(),
            dev: "/dev".into(),
        }
    }
}

/// What tells the boot disk from all others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Identity {
    /// The GUID of its partition table (`kos.disk`).
    Table(Guid),
    /// The GUID of the partition that the boot loader was read from (UEFI).
    Partition(Guid),
}

impl Identity {
    fn fits(self, table: &Table) -> bool {
        match self {
            Identity::Table(guid) => table.disk == guid,
            Identity::Partition(guid) => table
                .partitions()
                .iter()
                .any(|partition| partition.guid == guid),
        }
    }

    fn told(self) -> String {
        match self {
            Identity::Table(guid) => format!("the identity {guid} (kernel argument kos.disk)"),
            Identity::Partition(guid) => {
                format!("the partition {guid} that the box was started from")
            }
        }
    }
}

/// What is known about the disks, once the boot has looked.
pub struct Disks {
    /// The disk that the box booted from.
    pub boot: Result<BootDisk, Problem>,
    /// The disk that `/data` is on as a whole, when `kos.data` names one.
    pub data: Option<Result<Disk, Problem>>,
}

impl Disks {
    /// When nothing could be looked at.
    pub fn unknown(why: &str) -> Self {
        Disks {
            boot: Err(Problem::new(DataProblem::Missing, why)),
            data: None,
        }
    }

    /// Looks for them, and waits for those that are named and not there, until [`PATIENCE`] after
    /// `begun`.
    ///
    /// # Errors
    /// The machine's disks cannot be listed.
    pub fn find(
        roots: &Roots,
        arguments: &Arguments,
        identity: Result<Identity, Problem>,
        begun: Instant,
    ) -> Result<Self> {
        let serial = arguments.data_serial.as_deref();
        let mut watch = Watch::new().and_then(|mut watch| {
            watch.add_directory(&roots.dev)?;
            Ok(watch)
        });
        let (boot, data) = loop {
            let all = told(Disk::list(&roots.sys, &roots.dev))?;
            let boot = identity.clone().map(|wanted| fitting(&all, wanted));
            let data = serial.map(|serial| {
                let mut all = all.clone();
                all.retain(|disk| disk.has_serial(serial));
                all
            });
            let waiting =
                boot.as_ref().is_ok_and(Vec::is_empty) || data.as_ref().is_some_and(Vec::is_empty);
            let left = PATIENCE.saturating_sub(begun.elapsed());
            if !waiting || left.is_zero() {
                break (boot, data);
            }
            match &mut watch {
                Ok(watch) => {
                    told(watch.wait(left.min(LOOK_AGAIN)))?;
                    told(watch.drain())?;
                }
                // Without a watch there is the clock.
                Err(_) => std::thread::sleep(left.min(LOOK_AGAIN)),
            }
        };
        let wanted = identity.clone();
        let boot = boot.and_then(|found| {
            let told = wanted.map_or_else(|_| String::new(), Identity::told);
            let disk = the_only(found, &told)?;
            BootDisk::open(roots, disk).map_err(|error| {
                Problem::new(
                    DataProblem::Missing,
                    format!("The disk with {told} cannot be used: {}.", error.full()),
                )
            })
        });
        let data = data.map(|found| {
            let told = format!("the serial number '{}'", serial.unwrap_or_default());
            the_only(found, &told)
        });
        Ok(Disks { boot, data })
    }

    /// The first of the two that was named and not found.
    pub fn problem(&self) -> Option<&Problem> {
        let data = self.data.as_ref().and_then(|data| data.as_ref().err());
        let boot = self.boot.as_ref().err();
        data.or(boot.filter(|problem| problem.code != DataProblem::NotNamed))
    }
}

/// What says which disk the box booted from: the kernel argument, else UEFI.
pub fn identity(
    arguments: &Arguments,
    board: Option<&BoardInfo>,
    efivars: &Path,
) -> Result<Identity, Problem> {
    if let Some(guid) = arguments.disk {
        return Ok(Identity::Table(guid));
    }
    let why = match kos_sys::efivar::loader_partition(efivars) {
        Ok(Some(guid)) => return Ok(Identity::Partition(guid)),
        Err(error) => format!("UEFI's answer is of no use: {}", error.full()),
        Ok(None) => match board.map(|board| board.firmware) {
            Some(Firmware::Uefi) => {
                "the boot loader did not tell it through UEFI, and there is no kernel argument \
                 kos.disk"
                    .to_owned()
            }
            _ => "there is no kernel argument kos.disk or kos.data".to_owned(),
        },
    };
    Err(Problem::new(
        DataProblem::NotNamed,
        format!("Nothing says which disk the box is to use: {why}."),
    ))
}

fn fitting(all: &[Disk], wanted: Identity) -> Vec<Disk> {
    let fits = |disk: &&Disk| {
        // A disk that cannot be read is not the one: the firmware read it a moment ago.
        Device::open_to_read(&disk.node)
            .and_then(|device| Table::read(&device))
            .is_ok_and(|table| wanted.fits(&table))
    };
    all.iter().filter(fits).cloned().collect()
}

fn the_only(mut found: Vec<Disk>, told: &str) -> Result<Disk, Problem> {
    let names: Vec<String> = found
        .iter()
        .map(|disk| disk.node.display().to_string())
        .collect();
    match (found.pop(), found.is_empty()) {
        (Some(disk), true) => Ok(disk),
        (None, _) => Err(Problem::new(
            DataProblem::Missing,
            format!("No disk has {told}."),
        )),
        _ => Err(Problem::new(
            DataProblem::Ambiguous,
            format!(
                "{} disks have {told}: {}. Neither is used.",
                names.len(),
                names.join(", ")
            ),
        )),
    }
}

/// The disk that the box booted from, open, with its partition table read.
pub struct BootDisk {
    /// Which it is.
    pub disk: Disk,
    /// Its partitions.
    pub table: Table,
    /// What could not be put right in its partition table.
    pub damage: Option<String>,
    device: Device,
    roots: Roots,
}

impl BootDisk {
    /// Opens a disk, and puts its partition table right where it can be written.
    ///
    /// # Errors
    /// It cannot be read, or has no partition table.
    pub fn open(roots: &Roots, disk: Disk) -> Result<Self, SysError> {
        let device = if disk.read_only {
            Device::open_to_read(&disk.node)?
        } else {
            Device::open_to_write(&disk.node)?
        };
        let table = Table::read(&device)?;
        let mut opened = BootDisk {
            disk,
            table,
            damage: None,
            device,
            roots: roots.clone(),
        };
        if !opened.disk.read_only {
            match read_and_repair(&mut opened) {
                Ok(table) => opened.table = table,
                Err(error) => opened.damage = Some(error.full()),
            }
        }
        Ok(opened)
    }

    /// The device node of a partition, which the kernel is told of where it does not know it.
    ///
    /// # Errors
    /// There is no such partition, or the kernel does not take it.
    pub fn node(&self, table: &Table, number: u32) -> Result<PathBuf, SysError> {
        partitions::show(
            &self.roots.sys,
            &self.roots.dev,
            &self.device,
            table,
            number,
        )
    }
}

impl PartitionedDisk for BootDisk {
    fn whole(&mut self) -> &mut dyn Medium {
        &mut self.device
    }

    fn partition(&mut self, table: &Table, number: u32) -> Result<Box<dyn Medium + '_>, SysError> {
        let node = self.node(table, number)?;
        let device = if self.disk.read_only {
            Device::open_to_read(&node)?
        } else {
            Device::open_to_write(&node)?
        };
        Ok(Box::new(device))
    }
}

/// Shows UEFI's variables, read-only, where the machine has them.
///
/// # Errors
/// The kernel refuses.
pub fn mount_efivars(efivars: &Path) -> Result<()> {
    use kos_sys::mount::{MountFlags, mount};
    if !efivars.exists() {
        return Ok(());
    }
    let flags = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    told(mount("efivarfs", efivars, "efivarfs", flags, ""))
}

fn told<T>(result: Result<T, SysError>) -> Result<T> {
    result.map_err(|error| anyhow::anyhow!("{}", error.full()))
}

#[cfg(test)]
mod tests;
