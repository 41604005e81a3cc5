//! A service that bears what chaos does to it: SIGUSR1 makes it take memory without end, SIGUSR2
//! flood its output. It leaves a grandchild behind that nobody asks to stop.
//!
//! With the argument `stubborn` it does not end by SIGTERM.

use std::io::{self, Write};
use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::thread;

use nix::sys::signal::{SigSet, Signal};

const PROGRAM: &str = "/bin/test-chaos";
/// More than a log's ring holds.
const FLOOD_LINES: usize = 3000;
const PAGE: usize = 4096;

fn main() -> io::Result<()> {
    match std::env::args().nth(1).as_deref() {
        Some("child") => child(),
        Some("grandchild") => park(),
        Some("stubborn") => serve(true),
        _ => serve(false),
    }
}

fn serve(stubborn: bool) -> io::Result<()> {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGUSR1);
    signals.add(Signal::SIGUSR2);
    if stubborn {
        signals.add(Signal::SIGTERM);
    }
    signals.thread_block()?;
    let child = Command::new(PROGRAM).arg("child").status()?;
    let socket = std::env::var_os("NOTIFY_SOCKET")
        .ok_or_else(|| io::Error::other("$NOTIFY_SOCKET is not set"))?;
    let ready = format!("READY=1\nSTATUS=its child ended with {child}");
    UnixDatagram::unbound()?.send_to(ready.as_bytes(), socket)?;
    loop {
        match signals.wait()? {
            Signal::SIGUSR1 => take_memory(),
            Signal::SIGUSR2 => flood()?,
            _ => println!("not yet"),
        }
    }
}

/// Ends before its own child does, which is nobody's then.
fn child() -> io::Result<()> {
    Command::new(PROGRAM).arg("grandchild").spawn()?;
    Ok(())
}

fn park() -> ! {
    loop {
        thread::park();
    }
}

/// Until the kernel ends it.
fn take_memory() -> ! {
    let mut taken = Vec::new();
    loop {
        let mut piece = vec![0u8; 1 << 20];
        piece.iter_mut().step_by(PAGE).for_each(|byte| *byte = 1);
        taken.push(piece);
    }
}

fn flood() -> io::Result<()> {
    let mut output = io::stdout().lock();
    let line = [b"chaos ".repeat(20), vec![b'\n']].concat();
    for _ in 0..FLOOD_LINES {
        output.write_all(&line)?;
    }
    output.flush()
}
