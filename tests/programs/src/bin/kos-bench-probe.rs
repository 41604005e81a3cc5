//! The program that `cargo xtask bench supervise` has every supervisor run: it says when it began
//! and when it was ready, and then only waits.
//!
//! `kos-bench-probe SOCKET NUMBER [newline]`. Its first act is to read the clock; the C
//! library's start lies before it, alike under every supervisor. Readiness goes to
//! `$NOTIFY_SOCKET` (kOS, systemd), or as a line on standard output (s6, whose run file puts its pipe there). One datagram
//! `NUMBER FIRST READY`, both times in nanoseconds of `CLOCK_MONOTONIC`, then goes to SOCKET,
//! whose owner takes the process id from the kernel.

use std::io::{Error, Result, Write};
use std::os::unix::net::UnixDatagram;

use nix::time::{ClockId, clock_gettime};

fn main() -> Result<()> {
    let first = now()?;
    let mut arguments = std::env::args().skip(1);
    let (Some(socket), Some(number)) = (arguments.next(), arguments.next()) else {
        return Err(Error::other(
            "usage: kos-bench-probe SOCKET NUMBER [newline]",
        ));
    };
    let channel = UnixDatagram::unbound()?;
    if let Some(notify) = std::env::var_os("NOTIFY_SOCKET") {
        channel.send_to(b"READY=1", notify)?;
    }
    if arguments.next().as_deref() == Some("newline") {
        std::io::stdout().write_all(b"\n")?;
    }
    let ready = now()?;
    channel.send_to(format!("{number} {first} {ready}").as_bytes(), socket)?;
    loop {
        std::thread::park();
    }
}

fn now() -> Result<u64> {
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC)?;
    Ok(time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64)
}
