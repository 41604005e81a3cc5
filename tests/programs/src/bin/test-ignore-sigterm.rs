//! A service that will not stop when asked: SIGTERM stays blocked for ever.

use std::thread;

use nix::sys::signal::{SigSet, Signal};

fn main() -> nix::Result<()> {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGTERM);
    signals.thread_block()?;
    println!("ignoring SIGTERM");
    loop {
        thread::park();
    }
}
