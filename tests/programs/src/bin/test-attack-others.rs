//! Tries to reach the service `victim`: its files, environment, memory, processes and sockets, and
//! what belongs to nobody: cgroups, the kernel's files, devices.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::{SocketAddr, UnixStream};
use std::path::Path;
use std::process::Command;

use kos_sys::attempts;
use kos_test_programs::{attempt, attempt_at_kernel, end, list, read};
use nix::sys::signal::kill;
use nix::unistd::Pid;

/// More process numbers than the guest gives out before the attack.
const NUMBERS: std::ops::Range<i32> = 2..4096;

fn main() {
    files();
    processes();
    machine();
    identity();
    end()
}

fn files() {
    for path in [
        "/data/victim",
        "/data/cache/victim",
        "/run/kos/victim",
        "/run/kos/credentials",
    ] {
        attempt(&format!("list {path}"), list(path));
    }
    for path in ["/data/victim/secret", "/run/kos/victim/secret"] {
        attempt(&format!("read {path}"), read(path));
    }
    let state = std::env::var("STATE_DIRECTORY").unwrap_or_default();
    let link = Path::new(&state).join("link");
    let _ = fs::remove_file(&link);
    let through =
        symlink("/data/victim/secret", &link).and_then(|()| read(&link.to_string_lossy()));
    attempt("read the secret through a link", through);
    let climbed = format!("{state}/../victim/secret");
    attempt("read the secret by climbing", read(&climbed));
    let hard = fs::hard_link("/data/victim/secret", Path::new(&state).join("hard"));
    attempt("link to the secret", hard);
    attempt(
        "connect to the victim's socket",
        UnixStream::connect("/run/kos/victim/socket"),
    );
    let hidden = SocketAddr::from_abstract_name("kos-victim")
        .and_then(|address| UnixStream::connect_addr(&address));
    attempt("connect to the victim's abstract socket", hidden);
    for path in [
        "/", "/bin", "/data", "/dev", "/etc", "/proc", "/run", "/run/kos",
    ] {
        let file = format!("{path}/new-{}", std::process::id());
        attempt(&format!("write in {path}"), fs::write(file, "x"));
    }
}

fn processes() {
    let own = [1, std::process::id() as i32];
    let others = || NUMBERS.filter(|pid| !own.contains(pid));
    let seen = others().find(|pid| Path::new(&format!("/proc/{pid}")).exists());
    attempt("see another process", seen.ok_or("none is there"));
    let environment = others().find(|pid| read(&format!("/proc/{pid}/environ")).is_ok());
    attempt(
        "read another environment",
        environment.ok_or("none is there"),
    );
    let memory = others().find(|pid| attempts::read_memory_of(*pid).is_ok());
    attempt("read another memory", memory.ok_or("none can be read"));
    let signalled = others().find(|pid| kill(Pid::from_raw(*pid), None).is_ok());
    attempt("signal another process", signalled.ok_or("none is there"));
    attempt("look into the launcher", read("/proc/1/environ"));
    attempt_at_kernel(
        "signal the launcher",
        kill(Pid::from_raw(1), nix::sys::signal::Signal::SIGKILL).map_err(io::Error::from),
    );
    attempt(
        "write to its own memory file",
        fs::write("/proc/self/mem", "x"),
    );
}

fn machine() {
    for path in [
        "/sys",
        "/sys/fs/cgroup",
        "/sys/kernel",
        "/proc/sys",
        "/proc/bus",
        "/proc/irq",
        "/proc/pressure",
        "/dev/block",
        "/dev/pts",
        "/dev/shm",
    ] {
        attempt(&format!("list {path}"), list(path));
    }
    for path in [
        "/proc/cmdline",
        "/proc/config.gz",
        "/proc/kallsyms",
        "/proc/kcore",
        "/proc/keys",
        "/proc/kmsg",
        "/proc/kpagecount",
        "/proc/meminfo",
        "/proc/modules",
        "/proc/sched_debug",
        "/proc/version",
        "/dev/kmsg",
        "/dev/mem",
        "/dev/port",
        "/dev/vda",
        "/dev/watchdog",
        "/dev/pmsg0",
        "/dev/ttyS0",
        "/dev/tty",
        "/dev/console",
        "/dev/fuse",
        "/dev/loop-control",
    ] {
        attempt(&format!("read {path}"), read(path));
    }
    for path in [
        "/sys/fs/cgroup/cgroup.procs",
        "/sys/fs/cgroup/services/cgroup.procs",
    ] {
        let moved = OpenOptions::new().write(true).open(path);
        attempt(&format!("move to another cgroup by {path}"), moved);
    }
    for path in [
        "/proc/sysrq-trigger",
        "/proc/self/oom_score_adj",
        "/proc/self/uid_map",
    ] {
        let opened = OpenOptions::new().write(true).open(path);
        attempt(&format!("write {path}"), opened);
    }
}

/// A file of its own that would make it root, or give it a capability, when it is executed.
fn identity() {
    let state = std::env::var("STATE_DIRECTORY").unwrap_or_default();
    let copy = Path::new(&state).join("root");
    let made = fs::copy("/proc/self/exe", &copy)
        .and_then(|_| fs::set_permissions(&copy, fs::Permissions::from_mode(0o6755)));
    if let Err(error) = made {
        println!("make a setuid file: BROKEN ({error})");
    }
    let owned = std::os::unix::fs::chown(&copy, Some(0), Some(0));
    attempt("give a setuid file to root", owned);
    attempt("execute a setuid file", Command::new(&copy).spawn());
    let all_rights = [
        1, 0, 0, 2, 255, 255, 255, 255, 0, 0, 0, 0, 255, 255, 255, 255, 0, 0, 0, 0,
    ];
    let right = kos_sys::attempts::set_file_capability(&copy, &all_rights);
    attempt("give a file capabilities", right);
}
