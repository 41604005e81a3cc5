//! The floor that `cargo xtask bench` measures kOS against: an init that mounts what kos-api
//! needs, gives the network card an address and becomes kos-api. It supervises nothing, isolates
//! nothing and reaps nothing.
//!
//! Kernel arguments: `floor.infer` mounts the data disk and starts kos-infer beside it,
//! `floor.memory` prints the memory in use a while after the start.

use std::io::{Error, Result};
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

use nix::mount::{MsFlags, mount};
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, socket,
};

/// What bench logs in with; a code is eight letters of Crockford's base 32.
const PAIRING_CODE: &str = "0000-0000";
/// The address that QEMU's user network gives its first guest.
const ADDRESS: [u8; 4] = [10, 0, 2, 15];
/// When the start has settled: as long as bench lets kOS settle after its API is ready.
const SETTLED: Duration = Duration::from_secs(10);

fn main() -> Result<()> {
    if std::env::args().nth(1).as_deref() == Some("memory") {
        return print_memory();
    }
    println!("floor: init");
    mount_all(&[
        ("proc", "/proc"),
        ("devtmpfs", "/dev"),
        ("tmpfs", "/run"),
        ("tmpfs", "/tmp"),
        ("tmpfs", "/data"),
    ])?;
    let arguments = std::fs::read_to_string("/proc/cmdline")?;
    let asked = |word: &str| {
        arguments
            .split_whitespace()
            .any(|argument| argument == word)
    };
    for directory in ["/run/credentials", "/run/kos/infer"] {
        std::fs::create_dir_all(directory)?;
    }
    std::fs::write("/run/credentials/pairing-code", PAIRING_CODE)?;
    bring_up("eth0")?;
    if asked("floor.infer") {
        let none: Option<&str> = None;
        mount(
            Some("/dev/vda"),
            "/data",
            Some("ext4"),
            MsFlags::empty(),
            none,
        )?;
        Command::new("/bin/kos-infer").spawn()?;
    }
    if asked("floor.memory") {
        Command::new("/proc/self/exe").arg("memory").spawn()?;
    }
    std::fs::create_dir_all("/data/api")?;
    Err(Command::new("/bin/kos-api")
        .env("CREDENTIALS_DIRECTORY", "/run/credentials")
        .env("STATE_DIRECTORY", "/data/api")
        .exec())
}

fn mount_all(mounts: &[(&str, &str)]) -> Result<()> {
    let none: Option<&str> = None;
    for (kind, target) in mounts {
        mount(Some(*kind), *target, Some(*kind), MsFlags::empty(), none)?;
    }
    Ok(())
}

fn print_memory() -> Result<()> {
    std::thread::sleep(SETTLED);
    let text = std::fs::read_to_string("/proc/meminfo")?;
    let kibibytes = |name: &str| -> u64 {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        let word = line.and_then(|rest| rest.split_whitespace().next());
        word.and_then(|word| word.parse().ok()).unwrap_or(0)
    };
    let used = kibibytes("MemTotal:") - kibibytes("MemAvailable:");
    println!("floor: memory {}", used * 1024);
    Ok(())
}

/// Turns a network card on and gives it [`ADDRESS`], by rtnetlink(7).
fn bring_up(name: &str) -> Result<()> {
    /// Message types and flags of netlink(7) and rtnetlink(7).
    const NEW_LINK: u16 = 16;
    const NEW_ADDRESS: u16 = 20;
    const CREATE: u16 = 0x600;
    let index = nix::net::if_::if_nametoindex(name)?;
    // struct ifinfomsg: any family, index, IFF_UP as value and as mask.
    let mut link = vec![0; 4];
    for word in [index, 1, 1] {
        link.extend_from_slice(&word.to_ne_bytes());
    }
    // struct ifaddrmsg: AF_INET, a /24, then IFA_LOCAL and IFA_ADDRESS of four bytes each.
    let mut address = vec![2, 24, 0, 0];
    address.extend_from_slice(&index.to_ne_bytes());
    for kind in [2u16, 1] {
        address.extend_from_slice(&8u16.to_ne_bytes());
        address.extend_from_slice(&kind.to_ne_bytes());
        address.extend_from_slice(&ADDRESS);
    }
    ask(NEW_ADDRESS, CREATE, &address)?;
    ask(NEW_LINK, 0, &link)
}

fn ask(kind: u16, flags: u16, body: &[u8]) -> Result<()> {
    /// NLM_F_REQUEST and NLM_F_ACK.
    const REQUEST: u16 = 5;
    let length = (16 + body.len()) as u32;
    let mut message = length.to_ne_bytes().to_vec();
    message.extend_from_slice(&kind.to_ne_bytes());
    message.extend_from_slice(&(REQUEST | flags).to_ne_bytes());
    message.extend_from_slice(&[0; 8]);
    message.extend_from_slice(body);
    let socket = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkRoute,
    )?;
    let kernel = NetlinkAddr::new(0, 0);
    sendto(socket.as_raw_fd(), &message, &kernel, MsgFlags::empty())?;
    let mut answer = [0; 512];
    let count = recv(socket.as_raw_fd(), &mut answer, MsgFlags::empty())?;
    // An acknowledgement is an error message (after its 16-byte header) whose number is 0.
    match answer.get(16..20).filter(|_| count >= 20) {
        Some([0, 0, 0, 0]) => Ok(()),
        Some(&[a, b, c, d]) => Err(Error::from_raw_os_error(-i32::from_ne_bytes([a, b, c, d]))),
        _ => Err(Error::other("rtnetlink did not answer")),
    }
}
