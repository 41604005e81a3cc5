//! `/data`: a disk's partition, a whole disk, or memory; which of them it is, and what is wrong.
//!
//! Whatever is wrong, the box boots and `/data` exists. A file system is made where the marker asks
//! for one, grown when its place has grown, and never repaired: what cannot be mounted is left as
//! it is for somebody who can look at it.

mod growth;
mod problem;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use anyhow::{Context, Result, anyhow};
use kos_manifest::control::DataProblem;
use kos_sys::SysError;
use kos_sys::block::{Disk, size};
use kos_sys::data_partition::{Fresh, is_marked};
use kos_sys::ext4::{self, Room, Superblock};
use kos_sys::medium::{Device, Medium};
use kos_sys::mount::{MountFlags, bind, mount};
use kos_sys::provision::{data_partition, fit, make_if_asked};
use kos_sys::seed::Seed;

use crate::console::{Console, lock};
use crate::disk::{BootDisk, Disks};
use crate::reset::{Target, random};
use crate::spec::{DATA, RUN};
use growth::Growth;
pub use problem::Problem;

/// What `/data` is.
#[derive(Debug)]
pub struct Data {
    /// The device node that is mounted; `None` when `/data` is memory.
    device: Option<PathBuf>,
    /// What was wrong at boot, or in the growth after it.
    problem: Mutex<Option<Problem>>,
    /// What of a growth the boot did not wait for.
    growth: Option<Growth>,
    /// What a factory reset makes empty, or why there is nothing.
    pub reset_target: Result<Target, String>,
}

/// How `/data` is at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Now {
    /// `disk` or `tmpfs`.
    pub kind: &'static str,
    /// The device, or what is wrong, as sentences.
    pub detail: String,
    /// What is wrong.
    pub problem: Option<Problem>,
    /// How much room there is.
    pub room: Room,
}

impl Data {
    /// In memory, as nothing else could be done.
    pub fn lost(why: &str) -> Self {
        Data {
            device: None,
            problem: Mutex::new(Some(Problem::new(DataProblem::Missing, why))),
            growth: None,
            reset_target: Err(why.to_owned()),
        }
    }

    /// How it is now. Room and errors are asked for; the rest does not change after the boot.
    pub fn now(&self) -> Now {
        let room = Room::of(Path::new(DATA)).unwrap_or_default();
        let at_boot = lock(&self.problem).clone();
        let Some(device) = &self.device else {
            let detail = at_boot.as_ref().map(|problem| problem.detail.clone());
            return Now {
                kind: "tmpfs",
                detail: detail.unwrap_or_default(),
                problem: at_boot,
                room,
            };
        };
        let shown = device.display().to_string();
        let name = device.file_name().unwrap_or_default().to_string_lossy();
        let errors = ext4::errors(Path::new("/sys"), &name).unwrap_or_default();
        let problem = Problem::of_errors(errors, room.read_only, &shown)
            .or_else(|| Problem::of_room(room, &shown))
            .or(at_boot);
        Now {
            kind: "disk",
            detail: problem
                .as_ref()
                .map_or(shown, |problem| problem.detail.clone()),
            problem,
            room,
        }
    }
}

/// Finishes what the boot began, while the box works.
pub async fn finish_growing(data: &Data, console: &Console) {
    let (Some(growth), Some(device)) = (&data.growth, &data.device) else {
        return;
    };
    if let Err(why) = growth.to_the_end(|line| console.say(6, line)).await {
        let problem = not_grown(device, &why);
        console.say(4, &format!("data: {}", problem.detail));
        *lock(&data.problem) = Some(problem);
    }
}

/// Mounts `/data` from the disk that is named, or from memory, and says on the console what it is.
///
/// # Errors
/// When not even memory can be mounted.
pub fn mount_data(disks: &mut Disks, seed: &[u8], console: &Console) -> Result<Data> {
    let reset_target = Target::of(disks);
    let (device, problem, growth) = match mount_disk(disks, seed, console) {
        Ok(mounted) => (Some(mounted.device), mounted.problem, mounted.growth),
        Err(problem) => {
            mount_memory().context("cannot mount memory as /data")?;
            if problem.code == DataProblem::ReadOnly
                && let Err(error) = show_models(disks)
            {
                console.say(4, &format!("the models of the read-only disk: {error:#}"));
            }
            (None, Some(problem), None)
        }
    };
    let data = Data {
        device,
        problem: Mutex::new(problem),
        growth,
        reset_target,
    };
    announce(&data.now(), console);
    Ok(data)
}

/// The one line about `/data`, and what to do about it.
fn announce(now: &Now, console: &Console) {
    let free = format!("{} of {} free", size(now.room.free), size(now.room.bytes));
    match (&now.problem, now.kind) {
        (None, _) => console.say(6, &format!("data: {}, {free}", now.detail)),
        (Some(problem), kind) => {
            let place = if kind == "disk" {
                "on disk"
            } else {
                "in memory"
            };
            let code = problem.code;
            console.say(
                4,
                &format!("data: {place}, {free} ({code}): {}", problem.detail),
            );
            console.say(4, &format!("advice: {}", problem.advice()));
        }
    }
}

/// A disk at `/data`.
struct Mounted {
    device: PathBuf,
    problem: Option<Problem>,
    growth: Option<Growth>,
}

/// Where `/data` is to be.
struct Place {
    node: PathBuf,
    read_only: bool,
    /// The partition could not be made larger, and why.
    not_fitted: Option<String>,
}

fn mount_disk(disks: &mut Disks, seed: &[u8], console: &Console) -> Result<Mounted, Problem> {
    let place = match (&disks.data, &mut disks.boot) {
        (Some(data), _) => whole_disk(data.clone()?),
        (None, Err(problem)) => return Err(problem.clone()),
        (None, Ok(boot)) => partition(boot)?,
    };
    let shown = place.node.display().to_string();
    let corrupt = |detail: String| Problem::new(DataProblem::Corrupt, detail);
    if place.read_only {
        return Err(Problem::new(
            DataProblem::ReadOnly,
            format!("The disk of {shown} cannot be written to."),
        ));
    }
    let unreadable =
        |error: SysError| corrupt(format!("{shown} cannot be read: {}.", error.full()));
    let device = Device::open_to_read(&place.node).map_err(unreadable)?;
    if is_marked(&device).map_err(unreadable)? {
        make(&place.node, seed).map_err(|error| {
            corrupt(format!(
                "An empty file system was to be made on {shown}, and was not: {error:#}."
            ))
        })?;
        console.say(6, "data made");
    }
    let superblock = Superblock::read(&device).map_err(unreadable)?;
    if let Some(problem) = Problem::of_superblock(superblock.as_ref(), &shown, device.bytes()) {
        return Err(problem);
    }
    let quotas = superblock.is_some_and(|superblock| superblock.project_quotas);
    // A journal that was not closed is replayed by the mount itself. Errors that ext4 meets make
    // it read-only rather than worse. Limits hold only when they are asked for, and a file system
    // that counts nothing cannot be asked.
    let options = match quotas {
        true => "errors=remount-ro,prjquota",
        false => "errors=remount-ro",
    };
    mount(&shown, Path::new(DATA), "ext4", flags(), options).map_err(|error| {
        corrupt(format!(
            "The file system on {shown} cannot be mounted: {}.",
            error.full()
        ))
    })?;
    if !quotas {
        console.say(
            4,
            &format!(
                "the file system on {shown} was made without quotas: what services keep on it is \
                 not limited"
            ),
        );
    }
    let growth = match place.not_fitted {
        Some(why) => Err(why),
        None => grow(&place.node, console).map_err(|error| error.full()),
    };
    let mut mounted = Mounted {
        device: place.node,
        problem: None,
        growth: None,
    };
    match growth {
        Ok(growth) => mounted.growth = growth,
        Err(why) => mounted.problem = Some(not_grown(&mounted.device, &why)),
    }
    Ok(mounted)
}

/// Grows the file system; gives back what is left to do.
fn grow(device: &Path, console: &Console) -> Result<Option<Growth>, SysError> {
    let growth = Growth::new(device, Path::new(DATA))?;
    let more = growth.during_boot(|line| console.say(6, line))?;
    Ok(more.then_some(growth))
}

fn not_grown(device: &Path, why: &str) -> Problem {
    Problem::new(
        DataProblem::NotGrown,
        format!(
            "{} could not be grown to all of its disk: {why}.",
            device.display()
        ),
    )
}

fn whole_disk(disk: Disk) -> Place {
    Place {
        node: disk.node,
        read_only: disk.read_only,
        not_fitted: None,
    }
}

fn partition(boot: &mut BootDisk) -> Result<Place, Problem> {
    let mut table = boot.table.clone();
    let Some(number) = data_partition(&table).map(|partition| partition.number) else {
        return Err(Problem::new(
            DataProblem::Missing,
            format!("{} has no data partition.", boot.disk.node.display()),
        ));
    };
    let mut not_fitted = boot.damage.clone();
    if !boot.disk.read_only && not_fitted.is_none() {
        match fit(boot, &mut table) {
            Ok(_) => boot.table = table,
            Err(error) => not_fitted = Some(error.full()),
        }
    }
    let node = boot.node(&boot.table, number).map_err(|error| {
        let detail = format!(
            "The data partition of {} cannot be opened: {}.",
            boot.disk.node.display(),
            error.full()
        );
        Problem::new(DataProblem::Missing, detail)
    })?;
    Ok(Place {
        node,
        read_only: boot.disk.read_only,
        not_fitted,
    })
}

/// Makes a file system where one is asked for. Nobody has the device open for writing afterwards:
/// a kernel may refuse to mount what somebody else could change.
fn make(node: &Path, seed: &[u8]) -> Result<()> {
    // The image may lack a seed, or have a wrong one; that matters only here.
    let seed = (!seed.is_empty()).then(|| Seed::parse(seed)).transpose();
    let seed = seed.context("the image's seed is of no use")?;
    let fresh = Fresh {
        uuid: random_uuid()?,
        hash_seed: random()?,
    };
    let mut device = Device::open_to_write(node).map_err(told)?;
    make_if_asked(&mut device, seed.as_ref(), fresh).map_err(told)?;
    Ok(())
}

/// A random UUID (RFC 9562, version 4), in the order in which ext4 has it.
fn random_uuid() -> Result<[u8; 16]> {
    let mut uuid: [u8; 16] = random()?;
    uuid[6] = uuid[6] & 0x0f | 0x40;
    uuid[8] = uuid[8] & 0x3f | 0x80;
    Ok(uuid)
}

fn mount_memory() -> Result<()> {
    // Half of the memory, the kernel's own default, is too much beside a model.
    let options = "mode=0755,size=25%";
    told_ok(mount("tmpfs", Path::new(DATA), "tmpfs", flags(), options))
}

/// Shows the models of a disk that cannot be written, read-only, below a `/data` in memory.
fn show_models(disks: &mut Disks) -> Result<()> {
    let node = match (&disks.data, &mut disks.boot) {
        (Some(Ok(disk)), _) => disk.node.clone(),
        (None, Ok(boot)) => {
            let number = data_partition(&boot.table).map(|partition| partition.number);
            let number = number.context("the disk has no data partition")?;
            boot.node(&boot.table, number).map_err(told)?
        }
        _ => return Ok(()),
    };
    let hidden = Path::new(RUN).join("read-only-disk");
    fs::create_dir_all(&hidden).with_context(|| format!("cannot make {}", hidden.display()))?;
    let source = node.to_string_lossy();
    let flags = flags() | MountFlags::RDONLY;
    // A journal that was not closed cannot be replayed here; what it holds is passed over.
    mount(&source, &hidden, "ext4", flags, "")
        .or_else(|_| mount(&source, &hidden, "ext4", flags, "noload"))
        .map_err(told)?;
    let models = Path::new(DATA).join("models");
    fs::create_dir(&models).with_context(|| format!("cannot make {}", models.display()))?;
    told_ok(bind(&hidden.join("models"), &models, flags))
}

fn flags() -> MountFlags {
    MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC | MountFlags::NOATIME
}

fn told(error: SysError) -> anyhow::Error {
    anyhow!("{}", error.full())
}

fn told_ok<T>(result: Result<T, SysError>) -> Result<T> {
    result.map_err(told)
}
