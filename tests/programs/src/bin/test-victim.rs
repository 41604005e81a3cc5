//! The service that others attack: it has secrets, an abstract socket and work to do in time. On
//! SIGUSR1 it writes to its disk; all the time it measures how late its work is done.

use std::fs;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

/// One piece of work every so often.
const PERIOD: Duration = Duration::from_millis(10);
/// Pieces of work in one line of output: about two seconds.
const PIECES: usize = 200;

fn main() -> io::Result<()> {
    for variable in ["STATE_DIRECTORY", "CACHE_DIRECTORY", "RUNTIME_DIRECTORY"] {
        let directory = std::env::var(variable).map_err(io::Error::other)?;
        fs::write(Path::new(&directory).join("secret"), "the victim's secret")?;
    }
    let runtime = std::env::var("RUNTIME_DIRECTORY").map_err(io::Error::other)?;
    let state = std::env::var("STATE_DIRECTORY").map_err(io::Error::other)?;
    let socket = Path::new(&runtime).join("socket");
    let _ = fs::remove_file(&socket);
    let _listeners = (
        UnixListener::bind(socket)?,
        UnixListener::bind_addr(&SocketAddr::from_abstract_name("kos-victim")?)?,
    );
    println!("victim works");
    for round in 0.. {
        let mut late: Vec<Duration> = (0..PIECES).map(|_| piece()).collect();
        late.sort();
        let percent = |part: usize| late[PIECES * part / 100 - 1].as_micros();
        let disk = write_to_disk(Path::new(&state), round);
        println!(
            "round {round}: p50 {} us, p99 {} us, disk {disk}",
            percent(50),
            percent(99)
        );
    }
    Ok(())
}

/// Sleeps, then works a little; how much longer that took than the sleep.
fn piece() -> Duration {
    let begun = Instant::now();
    thread::sleep(PERIOD);
    let mut sum = 0u64;
    for number in 0..20_000u64 {
        sum = std::hint::black_box(sum.wrapping_mul(31).wrapping_add(number));
    }
    begun.elapsed().saturating_sub(PERIOD)
}

fn write_to_disk(state: &Path, round: usize) -> String {
    let file = state.join(format!("round-{}", round % 8));
    match fs::write(file, vec![1u8; 64 * 1024]) {
        Ok(()) => "works".to_owned(),
        Err(error) => format!("BROKEN ({error})"),
    }
}
