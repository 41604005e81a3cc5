//! The boot, up to the first service: named phases, in the order in which each needs those before.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use kos_manifest::board_info::{BOARD_INFO, BoardInfo};
use kos_manifest::box_settings::values::HostName;
use kos_manifest::control::PhaseRecord;
use kos_manifest::disk::DATA_SEED;
use kos_manifest::seccomp::SyscallSets;
use kos_manifest::service::ServiceSet;
use kos_sys::cgroup::{Cgroup, CgroupRoot};
use kos_sys::error::SysError;
use kos_sys::mount::{MountFlags, bind, make_private, mount, move_root};
use kos_sys::sysctl;

use crate::boot_partition::{self, BootPartition};
use crate::cmdline::Arguments;
use crate::console::Console;
use crate::credentials::Credentials;
use crate::data::{Data, mount_data};
use crate::directories;
use crate::disk::{self, Disks, Roots};
use crate::manifests::{Manifests, toml_files};
use crate::pairing;
use crate::phases::Phases;
use crate::place::Place;
use crate::record::{LastWords, Records};
use crate::reset;
use crate::spec::{DATA, RUN};
use crate::status_led::StatusLed;
use crate::watchdog::Keeper;

const IMAGE_MANIFESTS: &str = "/etc/kos/services";
const OWNER_MANIFESTS: &str = "/data/services";
const SYSCALL_SETS: &str = "/etc/kos/seccomp";
const RELEASE: &str = "/etc/kos/release.toml";
/// The tree of control groups.
pub const CGROUPS: &str = "/sys/fs/cgroup";
const EFIVARS: &str = "/sys/firmware/efi/efivars";
const PSTORE: &str = "/sys/fs/pstore";
const MARKS: &str = "/dev/pmsg0";
const LEDS: &str = "/sys/class/leds";

/// Largest seed: what is not zero in an empty file system is a hundredth of that.
const MAX_SEED_BYTES: u64 = 16 << 20;

/// Largest file of configuration that PID 1 reads whole.
const MAX_FILE_BYTES: u64 = 64 * 1024;

/// Kernel settings that hold for the whole box, each with its reason.
const SYSCTLS: [(&str, &str); 12] = [
    // The API listens on port 80, DHCP renews from port 68, and neither needs a capability for it.
    // TCP ports are guarded by Landlock, name by name.
    ("net.ipv4.ip_unprivileged_port_start", "68"),
    // Addresses from router advertisements, wherever a link comes up.
    ("net.ipv6.conf.default.accept_ra", "1"),
    ("net.ipv6.conf.all.accept_ra", "1"),
    // A connection that opens with its first data would go past Landlock's ports.
    ("net.ipv4.tcp_fastopen", "0"),
    // Open files are memory of the service that has them, and limited as such. A common limit would
    // be one that a single service can use up.
    ("fs.file-max", "9223372036854775807"),
    // Nobody looks at another's memory, nor at the kernel's addresses and messages.
    ("kernel.yama.ptrace_scope", "2"),
    ("kernel.kptr_restrict", "2"),
    ("kernel.dmesg_restrict", "1"),
    ("kernel.perf_event_paranoid", "3"),
    // PID 1 watches three files of each service's cgroup; services watch, too.
    ("fs.inotify.max_user_watches", "65536"),
    // A machine with no memory left kills what used it up, and does not stop.
    ("vm.panic_on_oom", "0"),
    // A box that hangs in the kernel restarts.
    ("kernel.panic", "10"),
];

/// What the boot has made.
pub struct Booted {
    /// The cgroup tree with its controllers enabled.
    pub cgroups: CgroupRoot,
    /// PID 1's own group.
    pub own_group: Cgroup,
    /// Whether services are heard on the machine's console.
    pub echo_services: bool,
    /// When PID 1 is to hang, to try out the watchdog.
    pub hang_init: Option<Duration>,
    /// The board, when the image says which.
    pub board: Option<BoardInfo>,
    /// The board's LED.
    pub led: StatusLed,
    /// The disk that the box booted from, as people know it; empty when it is not known.
    pub boot_disk: String,
    /// What is wrong with the settings on the boot partition; empty when nothing is.
    pub setup_problem: String,
    /// What `/data` is.
    pub data: Data,
    /// The services to run; empty when the manifests are wrong.
    pub services: ServiceSet,
    /// Where their manifests are kept.
    pub manifests: Manifests,
    /// The secrets that they name.
    pub credentials: Credentials,
    /// What their conditions, timers and limits ask about the box.
    pub place: Place,
    /// Version of the image.
    pub version: String,
    /// The host name.
    pub hostname: String,
    /// Whether the owner chose it.
    pub named_by_owner: bool,
    /// Each phase with its time.
    pub phases: Vec<PhaseRecord>,
}

/// Boots.
///
/// # Errors
/// What the box cannot do without: the kernel's own file systems and the cgroup tree. Everything
/// else fails into its phase's record.
pub fn boot(console: &Console, records: &Records, watchdog: &Keeper) -> Result<Booted> {
    let begun = Instant::now();
    let mut phases = Phases::new(console).watched(watchdog);
    console.say(6, "init");
    // The very first: without /proc, /sys and /dev nothing below means anything.
    phases
        .run("mounts", kernel_mounts)
        .context("cannot mount the kernel's file systems")?;
    console.open();
    phases
        .run("root", own_root)
        .context("cannot leave the kernel's rootfs")?;
    let board = phases.run("board", || board(console)).flatten();
    let arguments = phases
        .run("arguments", || {
            Ok(Arguments::parse(&read_bounded(Path::new("/proc/cmdline"))?))
        })
        .unwrap_or_default();
    for complaint in &arguments.complaints {
        console.say(4, complaint);
    }
    phases.run("watchdog", || {
        if arguments.no_watchdog {
            watchdog.leave_off("The kernel's argument kos.watchdog=off says so.");
            return Ok(());
        }
        let identity = board.as_ref().and_then(|board| board.watchdog.as_deref());
        records.watchdog_fired(watchdog.start(identity));
        Ok(())
    });
    phases.run("last words", || last_words(records));
    let led = board.as_ref().and_then(|board| board.status_led.clone());
    let led = StatusLed::new(led, LEDS.into(), console);
    led.booting();
    phases.run("settings", || settings(console));
    let (cgroups, own_group) = phases
        .run("cgroups", || cgroup_tree(console))
        .context("cannot make the cgroup tree")?;
    let mut disks = Disks::unknown("The disks could not be looked at.");
    phases.run("disk", || {
        disks = find_disks(&arguments, board.as_ref(), begun)?;
        match disks.problem() {
            Some(problem) => Err(anyhow!("{}", problem.detail)),
            None => Ok(()),
        }
    });
    let mut partition = BootPartition::default();
    phases.run("boot partition", || {
        read_boot_partition(&disks, &mut partition)
    });
    phases.run("reset", || {
        reset_if_asked(&arguments, &mut disks, &mut partition, console)
    });
    let data = phases.run("data", || {
        let seed = read_bytes(Path::new(DATA_SEED), MAX_SEED_BYTES)?;
        mount_data(&mut disks, &seed.unwrap_or_default(), console)
    });
    let data = data.unwrap_or_else(|| Data::lost("Not even memory could be mounted as /data."));
    records.keep_below(Path::new(DATA));
    let mut manifest_problem = String::new();
    let (services, manifests) = phases
        .run("manifests", || read_manifests(&mut manifest_problem))
        .unwrap_or_default();
    phases.run("directories", || {
        directories::make(&services.iter().collect::<Vec<_>>())
    });
    let version = phases
        .run("release", release)
        .unwrap_or_else(|| "unknown".to_owned());
    let settings = &partition.settings;
    let hostname = phases.run("hostname", || set_hostname(settings.hostname.as_ref()));
    let mut credentials = Credentials::default();
    phases.run("credentials", || {
        let code = pairing::make_code()?;
        console.say_only_aloud(&format!("pairing code {code}"));
        credentials = Credentials::new(code, settings);
        Ok(())
    });
    let profiles = Path::new(RUN).join("profile");
    let name = board.as_ref().map_or("", |board| board.name.as_str());
    let place = Place::find(&profiles, name, Path::new(DATA));
    let setup_problem = [partition.problem, manifest_problem];
    let phases = phases.finish();
    Ok(Booted {
        cgroups,
        own_group,
        echo_services: arguments.echo_services,
        hang_init: arguments.hang_init,
        board,
        led,
        boot_disk: disks
            .boot
            .map_or_else(|_| String::new(), |boot| boot.disk.description()),
        setup_problem: setup_problem.join(" ").trim().to_owned(),
        data,
        services,
        manifests,
        credentials,
        place,
        version,
        hostname: hostname.unwrap_or_default(),
        named_by_owner: partition.settings.hostname.is_some(),
        phases,
    })
}

fn board(console: &Console) -> Result<Option<BoardInfo>> {
    let Some(bytes) = read_bytes(Path::new(BOARD_INFO), MAX_FILE_BYTES)? else {
        console.say(
            4,
            &format!("the board is not known: there is no {BOARD_INFO}"),
        );
        return Ok(None);
    };
    let text = String::from_utf8(bytes).with_context(|| format!("cannot read {BOARD_INFO}"))?;
    let board = BoardInfo::parse(BOARD_INFO, &text)?;
    console.say(6, &format!("board {}: {}", board.name, board.description));
    Ok(Some(board))
}

/// Reads what the last boot left in memory or in the firmware's variables, and opens where this one
/// leaves its marks. Not every kernel and not every machine has either.
fn last_words(records: &Records) -> Result<()> {
    let strict = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    let store = Path::new(PSTORE);
    let words = if store.exists() {
        told(mount("pstore", store, "pstore", strict, "")).and_then(|()| LastWords::read(store))
    } else {
        Ok(LastWords::default())
    };
    let marks = fs::File::options().write(true).open(MARKS).ok();
    let (words, result) = match words {
        Ok(words) => (words, Ok(())),
        Err(error) => (LastWords::default(), Err(error)),
    };
    records.begin(words, marks);
    result
}

fn find_disks(arguments: &Arguments, board: Option<&BoardInfo>, begun: Instant) -> Result<Disks> {
    let efivars = Path::new(EFIVARS);
    disk::mount_efivars(efivars)?;
    let identity = disk::identity(arguments, board, efivars);
    Disks::find(&Roots::default(), arguments, identity, begun)
}

/// Without a boot disk there is nothing to read, and that is no further problem.
fn read_boot_partition(disks: &Disks, partition: &mut BootPartition) -> Result<()> {
    let Ok(boot) = &disks.boot else { return Ok(()) };
    match BootPartition::read(boot, &Path::new(RUN).join("profile")) {
        Ok(read) => *partition = read,
        Err(error) => {
            partition.problem = format!("The boot partition cannot be read: {error:#}.");
        }
    }
    if partition.problem.is_empty() {
        return Ok(());
    }
    Err(anyhow!("{}", partition.problem))
}

fn reset_if_asked(
    arguments: &Arguments,
    disks: &mut Disks,
    partition: &mut BootPartition,
    console: &Console,
) -> Result<()> {
    let by = match (partition.asks_for_reset, arguments.reset) {
        (true, _) => "the file kos-reset on the boot partition",
        (_, true) => "the kernel argument kos.reset",
        _ => return Ok(()),
    };
    console.say(6, &format!("factory reset: asked for by {by}"));
    match reset::ask_at_boot(disks) {
        Ok(done) => console.say(6, &format!("factory reset: {done}")),
        Err(error) => {
            console.say(3, &format!("factory reset: not done: {error:#}"));
            return Err(error);
        }
    }
    if let (true, Ok(boot)) = (partition.asks_for_reset, &disks.boot)
        && let Err(error) = boot_partition::forget_reset(boot)
    {
        // Each boot would make the data partition empty again, and the owner must know why.
        let problem = format!(
            "The file kos-reset could not be taken off the boot partition, so that the next boot \
             resets the box again: {error:#}."
        );
        partition.problem = [std::mem::take(&mut partition.problem), problem.clone()]
            .join(" ")
            .trim()
            .to_owned();
        bail!("{problem}");
    }
    Ok(())
}

fn kernel_mounts() -> Result<()> {
    let strict = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    let quiet = MountFlags::NOSUID | MountFlags::NOEXEC;
    told(mount("proc", Path::new("/proc"), "proc", strict, ""))?;
    told(mount("sysfs", Path::new("/sys"), "sysfs", strict, ""))?;
    told(mount(
        "devtmpfs",
        Path::new("/dev"),
        "devtmpfs",
        quiet,
        "mode=0755",
    ))?;
    told(mount(
        "tmpfs",
        Path::new("/run"),
        "tmpfs",
        strict,
        "mode=0755,size=16m",
    ))?;
    told(mount(
        "tmpfs",
        Path::new("/tmp"),
        "tmpfs",
        strict,
        "mode=1777,size=16m",
    ))?;
    told(mount("cgroup2", Path::new(CGROUPS), "cgroup2", strict, ""))
}

fn own_root() -> Result<()> {
    told(make_private(Path::new("/")))?;
    told(move_root(Path::new("/sandbox")))?;
    // What was unpacked from the image is never written again.
    told(kos_sys::mount::remount(
        Path::new("/"),
        MountFlags::BIND | MountFlags::RDONLY,
        "",
    ))?;
    // Each sandbox mounts its own root here, in a mount namespace of its own.
    told(bind(
        Path::new("/run"),
        Path::new("/run"),
        MountFlags::empty(),
    ))
}

fn settings(console: &Console) -> Result<()> {
    for (name, value) in SYSCTLS {
        if let Err(error) = sysctl::write(name, value) {
            // There is nothing to be careful with where the kernel has no performance events.
            if name == "kernel.perf_event_paranoid" && error.source.kind() == ErrorKind::NotFound {
                continue;
            }
            // A kernel of another board may lack one; the box runs, and says what it lacks.
            console.say(4, &format!("setting {name} not made: {}", error.full()));
        }
    }
    told(kos_sys::power::disable_ctrl_alt_del())
}

fn cgroup_tree(console: &Console) -> Result<(CgroupRoot, Cgroup)> {
    let mut root = CgroupRoot::new(CGROUPS);
    let missing = told(root.enable_controllers(&["cpu", "memory", "pids", "io", "cpuset"]))?;
    for controller in missing {
        console.say(
            4,
            &format!("this kernel has no cgroup controller {controller}"),
        );
    }
    let own = told(root.create("init"))?;
    told(own.add(1))?;
    told(root.create("services/.keep"))?;
    Ok((root, own))
}

/// The services of both layers. When the owner's is wrong it is left out whole: the image's
/// services run, and with them the way to mend it.
fn read_manifests(problem: &mut String) -> Result<(ServiceSet, Manifests)> {
    let sets = SyscallSets::parse(toml_files(Path::new(SYSCALL_SETS))?)?;
    let manifests = Manifests::new(
        Path::new(IMAGE_MANIFESTS),
        Path::new(OWNER_MANIFESTS),
        Arc::new(sets),
    );
    match manifests.read() {
        Ok(services) => Ok((services, manifests)),
        Err(error) => {
            *problem = format!("The services that the owner added are left out: {error}.");
            let services = manifests.read_image()?;
            Ok((services, manifests))
        }
    }
}

fn release() -> Result<String> {
    #[derive(serde::Deserialize)]
    struct Release {
        version: String,
    }
    let release: Release = toml::from_str(&read_bounded(Path::new(RELEASE))?)?;
    Ok(release.version)
}

fn set_hostname(chosen: Option<&HostName>) -> Result<String> {
    let name = chosen.map_or("kos", HostName::as_str);
    told(kos_sys::hostname::set(name))?;
    Ok(name.to_owned())
}

fn read_bounded(path: &Path) -> Result<String> {
    let about = || format!("cannot read {}", path.display());
    let bytes = read_bytes(path, MAX_FILE_BYTES)?
        .with_context(|| format!("{}: there is no such file", about()))?;
    String::from_utf8(bytes).with_context(about)
}

/// A file's bytes; `None` when there is no such file.
fn read_bytes(path: &Path, most: u64) -> Result<Option<Vec<u8>>> {
    use std::io::Read;
    let about = || format!("cannot read {}", path.display());
    let file = match fs::File::open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        other => other.with_context(about)?,
    };
    let mut bytes = Vec::new();
    file.take(most + 1)
        .read_to_end(&mut bytes)
        .with_context(about)?;
    if bytes.len() as u64 > most {
        bail!("{} has more than {most} bytes", path.display());
    }
    Ok(Some(bytes))
}

fn told<T>(result: Result<T, SysError>) -> Result<T> {
    result.map_err(|error| anyhow!("{}", error.full()))
}
