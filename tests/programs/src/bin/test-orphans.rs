//! Makes 200 orphans: processes whose parents end before they do. Then it watches, as a process
//! of the same pid namespace, whether somebody reaps them, and says so in its log.
//!
//! This program runs in three roles: itself; `parent`, which starts one orphan and ends; and
//! `orphan`, which ends once its parent has.

use std::io::Read;
use std::process::{Command, ExitStatus, Stdio, id};
use std::time::{Duration, Instant};
use std::{fs, io, thread};

const ORPHANS: usize = 200;
/// TCG takes tens of milliseconds per process; nobody to reap them takes for ever.
const LIMIT: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(50);

fn main() -> io::Result<()> {
    match std::env::args().nth(1).as_deref() {
        Some("parent") => copy_of_self("orphan")
            .stdin(Stdio::piped())
            .spawn()
            .map(drop),
        Some("orphan") => outlive_parent(),
        _ => run(),
    }
}

fn run() -> io::Result<()> {
    for number in 0..ORPHANS {
        let status = copy_of_self("parent").stdin(Stdio::null()).status()?;
        if !status.success() {
            println!("parent {number} failed: {}", describe(status));
        }
    }
    println!("made {ORPHANS} orphans");
    let deadline = Instant::now() + LIMIT;
    loop {
        let (running, zombies) = others()?;
        if running == 0 && zombies == 0 {
            println!("orphans all reaped");
            break;
        }
        if Instant::now() > deadline {
            println!("orphans left: {running} running, {zombies} zombies");
            break;
        }
        thread::sleep(PAUSE);
    }
    // A service does not end by itself; SIGTERM's default action ends it.
    loop {
        thread::park();
    }
}

/// Ends when the parent's end of the pipe on stdin closes, which its exit does.
fn outlive_parent() -> io::Result<()> {
    let mut nothing = Vec::new();
    io::stdin().read_to_end(&mut nothing)?;
    // Long enough that most of the 200 exist at the same time.
    thread::sleep(Duration::from_secs(1));
    Ok(())
}

fn copy_of_self(role: &str) -> Command {
    let mut command = Command::new("/proc/self/exe");
    command
        .arg(role)
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
}

fn describe(status: ExitStatus) -> String {
    status.to_string()
}

/// Running and zombie processes in this pid namespace, but for this one and the namespace's init.
fn others() -> io::Result<(usize, usize)> {
    let (mut running, mut zombies) = (0, 0);
    for entry in fs::read_dir("/proc")? {
        let Ok(pid) = entry?.file_name().to_string_lossy().parse::<u32>() else {
            continue;
        };
        if pid == 1 || pid == id() {
            continue;
        }
        // It may end between the listing and the reading.
        let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else {
            continue;
        };
        // "pid (name) state …", and the name may hold spaces and parentheses.
        match stat
            .rsplit(") ")
            .next()
            .and_then(|rest| rest.chars().next())
        {
            Some('Z') => zombies += 1,
            Some(_) => running += 1,
            None => {}
        }
    }
    Ok((running, zombies))
}
