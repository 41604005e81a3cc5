//! Tries to get out of its sandbox, one attempt a line: `attempt: denied (why)`, or `ALLOWED`.
//!
//! First it prints what the kernel says about its rights (`status: …`), last `attempts end`.
//! Every attempt is one that would succeed for root on a bare machine, or for any process
//! outside a sandbox.

use std::ffi::CString;
use std::fmt::Display;
use std::fs::{self, File, OpenOptions};
use std::io::Read;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use std::{io, thread};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::ptrace;
use nix::sys::reboot::set_cad_enabled;
use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};
use nix::sys::stat::{Mode, SFlag, mknod};
use nix::sys::time::TimeSpec;
use nix::time::{ClockId, clock_settime};
use nix::unistd::{self, Gid, Pid, Uid, pivot_root};

fn main() {
    rights();
    files();
    processes();
    namespaces();
    identity();
    machine();
    network();
    println!("attempts end");
    loop {
        thread::park();
    }
}

/// One attempt and what came of it.
fn attempt<T, E: Display>(name: &str, result: Result<T, E>) {
    match result {
        Ok(_) => println!("{name}: ALLOWED"),
        Err(error) => println!("{name}: denied ({error})"),
    }
}

/// Prints the lines of /proc/self/status that say what this process may do.
fn rights() {
    let wanted = [
        "Uid:",
        "Gid:",
        "Groups:",
        "CapInh:",
        "CapPrm:",
        "CapEff:",
        "CapBnd:",
        "CapAmb:",
        "NoNewPrivs:",
        "Seccomp:",
    ];
    match fs::read_to_string("/proc/self/status") {
        Ok(status) => {
            for line in status
                .lines()
                .filter(|line| wanted.iter().any(|key| line.starts_with(key)))
            {
                let words: Vec<&str> = line.split_whitespace().collect();
                println!("status: {}", words.join(" "));
            }
        }
        Err(error) => println!("status: unreadable ({error})"),
    }
    let root: Vec<String> = fs::read_dir("/")
        .map(|entries| {
            entries
                .flatten()
                .map(|entry| entry.file_name().to_string_lossy().into())
                .collect()
        })
        .unwrap_or_default();
    println!("root holds: {}", root.join(" "));
}

fn files() {
    for path in [
        "/data",
        "/data/api",
        "/data/models",
        "/run/kos",
        "/run/kos/infer",
        "/sys",
    ] {
        attempt(&format!("list {path}"), list(path));
    }
    for path in [
        "/init",
        "/bin/kos-launch",
        "/bin/kos-api",
        "/etc/kos/release.toml",
        "/dev/mem",
        "/dev/kmsg",
        "/dev/vda",
        "/dev/ttyS0",
        "/proc/kcore",
        "/proc/kmsg",
        "/proc/1/environ",
        "/proc/1/maps",
        concat!("/proc/1/root", "/init"),
    ] {
        attempt(&format!("read {path}"), read(path));
    }
    for path in [
        "/proc/sys/kernel/hostname",
        "/proc/sys/kernel/core_pattern",
        "/proc/sys/vm/drop_caches",
        "/proc/sysrq-trigger",
        "/bin/test-escape",
    ] {
        attempt(
            &format!("write {path}"),
            OpenOptions::new().write(true).open(path),
        );
    }
    for path in ["/new", "/bin/new", "/dev/new", "/run/new"] {
        attempt(&format!("create {path}"), File::create(path));
    }
    for path in ["/run/kos/init.sock", "/run/kos/infer/infer.sock"] {
        attempt(&format!("connect {path}"), UnixStream::connect(path));
    }
    attempt("run a program from /tmp", run_copy());
}

/// Lists a directory; one that can be listed but holds nothing tells nothing.
fn list(path: &str) -> io::Result<()> {
    let entries = fs::read_dir(path)?.count();
    if entries == 0 {
        Err(io::Error::other("nothing in it"))
    } else {
        Ok(())
    }
}

/// Reads a byte; a file that can be opened but is covered by an empty one tells nothing.
fn read(path: &str) -> io::Result<()> {
    let count = File::open(path)?.read(&mut [0])?;
    if count == 0 {
        Err(io::Error::other("nothing in it"))
    } else {
        Ok(())
    }
}

fn run_copy() -> io::Result<()> {
    let copy = Path::new("/tmp/copy");
    fs::copy("/proc/self/exe", copy)?;
    Command::new(copy).arg("copy").spawn().map(drop)
}

fn processes() {
    let seen = fs::read_dir("/proc")
        .map(|entries| {
            entries
                .flatten()
                .filter_map(|entry| entry.file_name().to_string_lossy().parse::<u32>().ok())
                .filter(|pid| *pid != 1 && *pid != std::process::id())
                .count()
        })
        .unwrap_or_default();
    let hidden = if seen == 0 {
        Err("none but its own")
    } else {
        Ok(())
    };
    attempt("see other processes", hidden);
    attempt("trace pid 1", ptrace::attach(Pid::from_raw(1)));
}

fn namespaces() {
    let nothing: Option<&str> = None;
    attempt(
        "mount a tmpfs",
        mount(nothing, "/tmp", Some("tmpfs"), MsFlags::empty(), nothing),
    );
    attempt(
        "remount / writable",
        mount(
            nothing,
            "/",
            nothing,
            MsFlags::MS_REMOUNT | MsFlags::MS_BIND,
            nothing,
        ),
    );
    attempt("unmount /proc", umount2("/proc", MntFlags::MNT_DETACH));
    attempt("pivot_root", pivot_root("/tmp", "/tmp"));
    attempt("chroot", unistd::chroot("/tmp"));
    for (name, flag) in [
        ("user", CloneFlags::CLONE_NEWUSER),
        ("mount", CloneFlags::CLONE_NEWNS),
        ("net", CloneFlags::CLONE_NEWNET),
        ("pid", CloneFlags::CLONE_NEWPID),
    ] {
        attempt(&format!("new {name} namespace"), unshare(flag));
    }
    let joined = File::open("/proc/1/ns/mnt")
        .map_err(|error| error.to_string())
        .and_then(|file| setns(file, CloneFlags::CLONE_NEWNS).map_err(|error| error.to_string()));
    attempt("join the mount namespace of pid 1", joined);
}

fn identity() {
    attempt("become uid 0", unistd::setuid(Uid::from_raw(0)));
    attempt("become gid 0", unistd::setgid(Gid::from_raw(0)));
    attempt("join group 0", unistd::setgroups(&[Gid::from_raw(0)]));
    let device = nix::sys::stat::makedev(1, 1);
    attempt(
        "make a memory device",
        mknod("/tmp/mem", SFlag::S_IFCHR, Mode::S_IRUSR, device),
    );
    let name = CString::new("/tmp/set-uid").unwrap_or_default();
    let own = File::create("/tmp/set-uid")
        .map_err(|error| error.to_string())
        .and_then(|_| {
            unistd::chown(name.as_c_str(), Some(Uid::from_raw(0)), None)
                .map_err(|error| error.to_string())
        });
    attempt("give a file to root", own);
}

fn machine() {
    // Not a reboot itself: this call needs the same right and leaves the machine running.
    attempt("take over ctrl-alt-del", set_cad_enabled(false));
    attempt("set the host name", unistd::sethostname("taken"));
    let noon = TimeSpec::new(43_200, 0);
    attempt(
        "set the clock",
        clock_settime(ClockId::CLOCK_REALTIME, noon),
    );
}

fn network() {
    attempt(
        "raw socket",
        socket(
            AddressFamily::Inet,
            SockType::Raw,
            SockFlag::empty(),
            SockProtocol::Tcp,
        ),
    );
    attempt(
        "packet socket",
        socket(
            AddressFamily::Packet,
            SockType::Raw,
            SockFlag::empty(),
            SockProtocol::EthAll,
        ),
    );
    attempt("listen on TCP 8080", TcpListener::bind("127.0.0.1:8080"));
    let limit = Duration::from_secs(5);
    for (name, address) in [
        (
            "the API on loopback",
            SocketAddr::from(([127, 0, 0, 1], 80)),
        ),
        ("the host", SocketAddr::from(([10, 0, 2, 2], 22))),
    ] {
        attempt(
            &format!("connect to {name}"),
            TcpStream::connect_timeout(&address, limit),
        );
    }
}
