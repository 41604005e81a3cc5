//! The program that the launcher's tests run inside a sandbox: it does what its arguments say and
//! tells on stdout what came of it. The sandbox is what is tested, so nothing here is clever.

#![allow(clippy::unwrap_used)] // A test's helper, which the lint does not see as a test.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Command, exit};

use kos_sys::attempts;
use nix::mount::{MsFlags, mount, umount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::ptrace;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, Uid, chroot, getppid, setuid};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["exit", code] => exit(code.parse().unwrap()),
        ["abort"] => std::process::abort(),
        ["status"] => print!("{}", std::fs::read_to_string("/proc/self/status").unwrap()),
        ["environment"] => {
            for (name, value) in std::env::vars() {
                println!("{name}={value}");
            }
        }
        ["descriptors"] => list("/proc/self/fd"),
        ["list", path] => list(path),
        ["try"] => attempts(),
        ["again"] => {
            // Not by the one execve that the launcher was allowed.
            let error = Command::new("/proc/self/exe").arg("exit").arg("0").exec();
            println!("{}", error.raw_os_error().unwrap_or(0));
        }
        ["orphans"] => orphans(),
        ["orphan-child"] => orphan_child(),
        ["orphan-grandchild"] => orphan_grandchild(),
        ["wait"] => {
            println!("ready");
            std::io::stdout().flush().unwrap();
            loop {
                std::thread::park();
            }
        }
        ["usable"] => usable(),
        ["user-namespace"] => user_namespace(),
        ["passed"] => passed(),
        ["talk"] => talk(),
        ["limits"] => {
            let limits = std::fs::read_to_string("/proc/self/limits").unwrap();
            for line in limits.lines() {
                println!("{}", one_blank(line));
            }
        }
        ["code"] => {
            let errno = |result: std::io::Result<()>| {
                result.map_or_else(|error| error.raw_os_error().unwrap_or(-1), |()| 0)
            };
            println!("at once {}", errno(attempts::make_code(true)));
            println!("later {}", errno(attempts::make_code(false)));
        }
        other => panic!("the probe does not know {other:?}"),
    }
}

fn list(path: &str) {
    let mut names: Vec<String> = std::fs::read_dir(path)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    println!("{}", names.join(" "));
}

/// One line for each attempt: its name and the error number, 0 when it was allowed.
fn attempts() {
    let errno = |result: std::io::Result<()>| match result {
        Ok(()) => 0,
        Err(error) => error.raw_os_error().unwrap_or(-1),
    };
    let read = |path: &str| errno(File::open(path).map(|_| ()));
    let write = |path: &str| errno(std::fs::write(path, "x"));
    println!("read-passwd {}", read("/etc/passwd"));
    println!(
        "read-shadow-through-proc {}",
        read(concat!("/proc/1/root", "/etc/passwd"))
    );
    println!("write-root {}", write("/file"));
    println!(
        "write-program {}",
        errno(
            File::options()
                .write(true)
                .open("/proc/self/exe")
                .map(|_| ())
        )
    );
    println!("write-read-view {}", write("/view/read/file"));
    println!("write-write-view {}", write("/view/write/file"));
    println!("write-tmp {}", write("/tmp/file"));
    println!("write-comm {}", write("/proc/self/comm"));
    println!("write-sysctl {}", write("/proc/sys/kernel/hostname"));
    println!("sysrq {}", write("/proc/sysrq-trigger"));
    println!("memory-of-init {}", read("/proc/1/mem"));
    println!(
        "exec-from-view {}",
        errno(Command::new("/view/write/copy").status().map(|_| ()))
    );
    println!(
        "tcp-bind {}",
        errno(std::net::TcpListener::bind("127.0.0.1:0").map(|_| ()))
    );
    println!(
        "udp {}",
        errno(std::net::UdpSocket::bind("127.0.0.1:0").map(drop))
    );
    println!("become-code {}", errno(attempts::make_code(false)));
    println!(
        "memory-file-executable {}",
        errno(attempts::executable_memory_file())
    );
    let mut chance = [0u8; 8];
    println!(
        "urandom {}",
        errno(File::open("/dev/urandom").and_then(|mut f| f.read_exact(&mut chance)))
    );
    println!("thread {}", std::thread::spawn(|| 0).join().unwrap());
    let call = |result: nix::Result<()>| result.map_or_else(|error| error as i32, |()| 0);
    let none: Option<&str> = None;
    println!(
        "mount {}",
        call(mount(none, "/tmp", Some("tmpfs"), MsFlags::empty(), none))
    );
    println!("unmount {}", call(umount("/proc/sys")));
    println!("unshare-user {}", call(unshare(CloneFlags::CLONE_NEWUSER)));
    println!("chroot {}", call(chroot("/tmp")));
    println!("ptrace {}", call(ptrace::traceme()));
    println!(
        "signal-init {}",
        call(kill(Pid::from_raw(1), Signal::SIGKILL))
    );
    println!("become-root {}", call(setuid(Uid::from_raw(0))));
}

fn one_blank(line: &str) -> String {
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The namespace's users, this process's rights in it, and two ways to more of either.
fn user_namespace() {
    let read = |path: &str| std::fs::read_to_string(path).unwrap();
    println!("{}", one_blank(&read("/proc/self/uid_map")));
    print!("{}", read("/proc/self/status"));
    let own = std::fs::read_link("/proc/self/ns/user").unwrap();
    // The number of the machine's first user namespace, in every kernel.
    let first = own.as_os_str() == "user:[4026531837]";
    println!("namespace {}", if first { "first" } else { "own" });
    let call = |result: nix::Result<()>| result.map_or_else(|error| error as i32, |()| 0);
    println!("unshare {}", call(unshare(CloneFlags::CLONE_NEWUSER)));
    let root = Uid::from_raw(0);
    println!(
        "become-root {}",
        call(nix::unistd::setresuid(root, root, root))
    );
}

/// Uses what PID 1 passed on.
fn passed() {
    for (name, value) in std::env::vars() {
        let own = name == "LISTEN_PID" && value == std::process::id().to_string();
        println!("{name} {}", if own { "own" } else { &value });
    }
    for number in [3, 4] {
        let kind = std::fs::read_link(format!("/proc/self/fd/{number}")).unwrap();
        let kind = kind.to_string_lossy().into_owned();
        println!("socket-{number} {}", kind.split(':').next().unwrap());
    }
    let name = format!("{}/code", std::env::var("CREDENTIALS_DIRECTORY").unwrap());
    println!("by-name {}", std::fs::read_to_string(&name).unwrap());
    println!(
        "by-descriptor {}",
        std::fs::read_to_string("/proc/self/fd/5").unwrap()
    );
    let written = File::options().write(true).open(&name).unwrap().write(b"x");
    println!("write {}", written.unwrap_err().raw_os_error().unwrap());
    print!("descriptors ");
    list("/proc/self/fd");
}

/// Sends itself something over its own network.
fn talk() {
    let errno = |result: std::io::Result<()>| match result {
        Ok(()) => 0,
        Err(error) => error.raw_os_error().unwrap_or(-1),
    };
    let tcp = || {
        let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
        std::net::TcpStream::connect(listener.local_addr()?).map(drop)
    };
    let udp = || {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0")?;
        socket.send_to(b"x", socket.local_addr()?).map(drop)
    };
    println!("tcp {}\nudp {}", errno(tcp()), errno(udp()));
}

/// Everything that a service's runtime does at its start must work.
fn usable() {
    assert!(std::thread::available_parallelism().unwrap().get() >= 1);
    // For whom something of `/proc` is shown, the sizes are there.
    if let Ok(memory) = std::fs::read_to_string("/proc/meminfo") {
        assert!(memory.contains("MemTotal"), "{memory}");
        assert!(std::fs::read_to_string("/proc/cpuinfo").unwrap().len() > 10);
    }
    assert!(std::env::current_exe().unwrap().ends_with("probe"));
    let path = "/tmp/socket";
    let listener = std::os::unix::net::UnixListener::bind(path).unwrap();
    let client = std::thread::spawn(move || {
        std::os::unix::net::UnixStream::connect(path)
            .unwrap()
            .write_all(b"hello")
            .unwrap();
    });
    let mut text = String::new();
    listener
        .accept()
        .unwrap()
        .0
        .read_to_string(&mut text)
        .unwrap();
    client.join().unwrap();
    assert_eq!(text, "hello");
    std::fs::rename(path, "/tmp/other").unwrap();
    println!("usable");
}

/// Makes grandchildren whose parents end first, and waits until none of them is left, dead or alive.
fn orphans() {
    for _ in 0..20 {
        let mut child = Command::new("/proc/self/exe")
            .arg("orphan-child")
            .spawn()
            .unwrap();
        assert!(child.wait().unwrap().success());
    }
    let own = std::process::id().to_string();
    let is_other = |name: &str| name.bytes().all(|byte| byte.is_ascii_digit()) && name != own;
    loop {
        let others = std::fs::read_dir("/proc")
            .unwrap()
            .filter(|entry| is_other(&entry.as_ref().unwrap().file_name().to_string_lossy()))
            .count();
        // The sandbox's init is not seen.
        if others == 0 {
            println!("all collected");
            return;
        }
        std::thread::yield_now();
    }
}

/// Starts a grandchild and leaves it.
fn orphan_child() {
    drop(
        Command::new("/proc/self/exe")
            .arg("orphan-grandchild")
            .spawn()
            .unwrap(),
    );
}

/// Ends once it belongs to the sandbox's init.
fn orphan_grandchild() {
    while getppid() != Pid::from_raw(1) {
        std::thread::yield_now();
    }
}
