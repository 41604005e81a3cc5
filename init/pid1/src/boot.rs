//! The boot, up to the first service: named phases, in the order in which each needs those before.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};
use kos_manifest::control::PhaseRecord;
use kos_manifest::seccomp::SyscallSets;
use kos_manifest::service::ServiceSet;
use kos_sys::cgroup::{Cgroup, CgroupRoot};
use kos_sys::error::SysError;
use kos_sys::mount::{MountFlags, bind, make_private, mount, move_root};
use kos_sys::sysctl;

use crate::cmdline::Arguments;
use crate::console::Console;
use crate::data::{Data, mount_data};
use crate::pairing;
use crate::phases::Phases;
use crate::spec::{DATA, RUN, runtime_directory, state_directory};

const MANIFESTS: &str = "/etc/kos/services";
const SYSCALL_SETS: &str = "/etc/kos/seccomp";
const RELEASE: &str = "/etc/kos/release.toml";
const CGROUPS: &str = "/sys/fs/cgroup";

/// Largest file of configuration that PID 1 reads whole.
const MAX_FILE_BYTES: u64 = 64 * 1024;
/// More files than this in one directory of configuration are not read.
const MAX_FILES: usize = 1024;

/// Kernel settings that hold for the whole box, each with its reason.
const SYSCTLS: [(&str, &str); 10] = [
    // The API listens on port 80, DHCP renews from port 68, and neither needs a capability for it.
    // TCP ports are guarded by Landlock, name by name.
    ("net.ipv4.ip_unprivileged_port_start", "68"),
    // Addresses from router advertisements, wherever a link comes up.
    ("net.ipv6.conf.default.accept_ra", "1"),
    ("net.ipv6.conf.all.accept_ra", "1"),
    // Nobody looks at another's memory, nor at the kernel's addresses and messages.
    ("kernel.yama.ptrace_scope", "2"),
    ("kernel.kptr_restrict", "2"),
    ("kernel.dmesg_restrict", "1"),
    ("kernel.perf_event_paranoid", "3"),
    // PID 1 watches the limits of each service with an inotify instance.
    ("fs.inotify.max_user_instances", "2048"),
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
    /// What `/data` is.
    pub data: Data,
    /// The services to run; empty when the manifests are wrong.
    pub services: ServiceSet,
    /// The sets of system calls that they name.
    pub syscall_sets: SyscallSets,
    /// Version of the image.
    pub version: String,
    /// The host name.
    pub hostname: String,
    /// Each phase with its time.
    pub phases: Vec<PhaseRecord>,
}

/// Boots.
///
/// # Errors
/// What the box cannot do without: the kernel's own file systems and the cgroup tree. Everything
/// else fails into its phase's record.
pub fn boot(console: &Console) -> Result<Booted> {
    let mut phases = Phases::new(console);
    console.say(6, "init");
    // The very first: without /proc, /sys and /dev nothing below means anything.
    phases
        .run("mounts", kernel_mounts)
        .context("cannot mount the kernel's file systems")?;
    console.open();
    phases
        .run("root", own_root)
        .context("cannot leave the kernel's rootfs")?;
    let arguments = phases
        .run("arguments", || {
            Ok(Arguments::parse(&read_bounded(Path::new("/proc/cmdline"))?))
        })
        .unwrap_or_default();
    for complaint in &arguments.complaints {
        console.say(4, complaint);
    }
    phases.run("settings", || settings(console));
    let (cgroups, own_group) = phases
        .run("cgroups", || cgroup_tree(console))
        .context("cannot make the cgroup tree")?;
    let data = phases.run("data", || mount_data(arguments.data_serial.as_deref()));
    let data = data.unwrap_or(Data::Memory {
        why: "not even a tmpfs could be mounted".to_owned(),
    });
    if let Data::Memory { why } = &data {
        console.say(4, &format!("data is in memory only: {why}"));
    }
    let (services, syscall_sets) = phases.run("manifests", manifests).unwrap_or_default();
    phases.run("directories", || directories(&services));
    let version = phases
        .run("release", release)
        .unwrap_or_else(|| "unknown".to_owned());
    let hostname = phases.run("hostname", default_hostname).unwrap_or_default();
    phases.run("credentials", || {
        let code = pairing::make_code()?;
        pairing::hand_out(&services, &code)?;
        console.say_only_aloud(&format!("pairing code {code}"));
        Ok(())
    });
    let phases = phases.finish();
    Ok(Booted {
        cgroups,
        own_group,
        echo_services: arguments.echo_services,
        data,
        services,
        syscall_sets,
        version,
        hostname,
        phases,
    })
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

fn manifests() -> Result<(ServiceSet, SyscallSets)> {
    let sets = SyscallSets::parse(toml_files(Path::new(SYSCALL_SETS))?)?;
    let services = ServiceSet::parse(toml_files(Path::new(MANIFESTS))?, &sets)?;
    Ok((services, sets))
}

/// The TOML files of a directory as `(name, text)`, by name.
fn toml_files(directory: &Path) -> Result<Vec<(String, String)>> {
    let mut files = Vec::new();
    let listing =
        fs::read_dir(directory).with_context(|| format!("cannot list {}", directory.display()))?;
    for entry in listing {
        let path = entry?.path();
        if path.extension().is_none_or(|extension| extension != "toml") {
            continue;
        }
        if files.len() == MAX_FILES {
            bail!("{} has more than {MAX_FILES} files", directory.display());
        }
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        files.push((name, read_bounded(&path)?));
    }
    files.sort();
    Ok(files)
}

fn directories(services: &ServiceSet) -> Result<()> {
    let run = Path::new(RUN);
    for (name, mode) in [("", 0o755), ("notify", 0o700), ("credentials", 0o711)] {
        directory(&run.join(name), mode, 0)?;
    }
    directory(&Path::new(DATA).join("models"), 0o755, 0)?;
    for service in services.iter() {
        if service.sandbox.runtime {
            directory(&runtime_directory(&service.name), 0o755, service.uid)?;
        }
        if service.sandbox.state {
            directory(&state_directory(&service.name), 0o700, service.uid)?;
        }
    }
    Ok(())
}

fn directory(path: &Path, mode: u32, owner: u32) -> Result<()> {
    let about = || format!("cannot make {}", path.display());
    match fs::create_dir(path) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => {
            return Err(error).with_context(about);
        }
        _ => {}
    }
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).with_context(about)?;
    chown(path, Some(owner), Some(owner)).with_context(about)
}

fn release() -> Result<String> {
    #[derive(serde::Deserialize)]
    struct Release {
        version: String,
    }
    let release: Release = toml::from_str(&read_bounded(Path::new(RELEASE))?)?;
    Ok(release.version)
}

fn default_hostname() -> Result<String> {
    let name = "kos".to_owned();
    told(kos_sys::hostname::set(&name))?;
    Ok(name)
}

fn read_bounded(path: &Path) -> Result<String> {
    use std::io::Read;
    let about = || format!("cannot read {}", path.display());
    let file = fs::File::open(path).with_context(about)?;
    let mut text = String::new();
    file.take(MAX_FILE_BYTES + 1)
        .read_to_string(&mut text)
        .with_context(about)?;
    if text.len() as u64 > MAX_FILE_BYTES {
        bail!("{} has more than {MAX_FILE_BYTES} bytes", path.display());
    }
    Ok(text)
}

fn told<T>(result: Result<T, SysError>) -> Result<T> {
    result.map_err(|error| anyhow!("{}", error.full()))
}
