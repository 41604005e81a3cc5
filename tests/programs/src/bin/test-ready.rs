//! A well-behaved service: becomes ready after the milliseconds in its argument, or `never`.

use std::os::unix::net::UnixDatagram;
use std::time::Duration;
use std::{env, io, thread};

fn main() -> io::Result<()> {
    println!("started");
    let delay = env::args().nth(1).unwrap_or_default();
    if delay != "never" {
        thread::sleep(Duration::from_millis(delay.parse().unwrap_or(0)));
        let socket = env::var_os("NOTIFY_SOCKET")
            .ok_or_else(|| io::Error::other("$NOTIFY_SOCKET is not set"))?;
        UnixDatagram::unbound()?.send_to(b"READY=1\nSTATUS=serving the test", socket)?;
        println!("ready");
    }
    loop {
        thread::park();
    }
}
