//! A service in as many moods as supervision has to deal with; its first argument says which.

use std::fs::{self, File};
use std::hint::black_box;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixDatagram;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use kos_sys::sockets::take_inherited;

/// The first descriptor that PID 1 passes on.
const FIRST: i32 = 3;
/// Between two signs of life and between two numbers.
const BEAT: Duration = Duration::from_millis(100);
/// How long a door is announced before it opens, so that the line is read before the door is tried.
const ANNOUNCED: Duration = Duration::from_millis(500);
const MIB: usize = 1024 * 1024;

fn main() -> Result<ExitCode> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["say", text, code] => {
            println!("{text}");
            return Ok(ExitCode::from(number::<u8>(code)?));
        }
        ["stay"] => stay(),
        ["beat", beats] => beat(number(beats)?)?,
        ["count", name] => count(name),
        ["serve"] => serve()?,
        ["door", port] => door(number(port)?)?,
        ["http", port, refusals] => http(number(port)?, number(refusals)?)?,
        ["secret", name] => secret(name)?,
        ["thrash"] => thrash(),
        ["fill", part] => fill(number(part)?)?,
        _ => bail!("no such mood: {words:?}"),
    }
    Ok(ExitCode::SUCCESS)
}

fn stay() -> ! {
    println!("stays");
    loop {
        thread::park();
    }
}

/// Ready, alive for so many beats, then silent.
fn beat(beats: u32) -> Result<()> {
    let path = std::env::var_os("NOTIFY_SOCKET").context("no $NOTIFY_SOCKET")?;
    let socket = UnixDatagram::unbound()?;
    socket.send_to(b"READY=1", &path)?;
    for _ in 0..beats {
        thread::sleep(BEAT);
        socket.send_to(b"WATCHDOG=1", &path)?;
    }
    println!("silent after {beats} beats");
    stay()
}

fn count(name: &str) {
    for number in 1_u64.. {
        println!("{name} {number}");
        thread::sleep(BEAT);
    }
}

/// Answers each line with a number that no other process has; `crash` is its last.
fn serve() -> Result<()> {
    let listener = TcpListener::from(take_inherited(FIRST)?);
    let mine = SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos();
    for variable in ["LISTEN_FDS", "LISTEN_FDNAMES"] {
        println!("{variable}={}", std::env::var(variable).unwrap_or_default());
    }
    for client in listener.incoming() {
        let mut client = client?;
        let mut line = String::new();
        BufReader::new(client.try_clone()?).read_line(&mut line)?;
        if line == "crash\n" {
            bail!("told to crash");
        }
        write!(client, "{mine} heard {line}")?;
    }
    Ok(())
}

/// Listens a while after it has said so.
fn door(port: u16) -> Result<()> {
    println!("the door will open");
    thread::sleep(ANNOUNCED);
    let listener = TcpListener::bind(("127.0.0.1", port))?;
    for client in listener.incoming() {
        drop(client?);
    }
    Ok(())
}

/// Answers so many questions with 503, and the others with 200.
fn http(port: u16, refusals: u32) -> Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", port))?;
    for (index, client) in listener.incoming().enumerate() {
        let status = if index < refusals as usize { 503 } else { 200 };
        match answer(client?, status) {
            Ok(line) => println!("{line}: {status}"),
            Err(error) => println!("a client went: {error}"),
        }
    }
    Ok(())
}

/// The first line of what was asked.
fn answer(mut client: TcpStream, status: u16) -> Result<String> {
    let mut lines = BufReader::new(client.try_clone()?).lines();
    let first = lines.next().transpose()?.unwrap_or_default();
    while lines
        .next()
        .transpose()?
        .is_some_and(|line| !line.is_empty())
    {}
    write!(
        client,
        "HTTP/1.1 {status} Told\r\nContent-Length: 0\r\n\r\n"
    )?;
    Ok(first)
}

/// Tells a secret by both of its names, and whether it can be changed.
fn secret(name: &str) -> Result<()> {
    let mut descriptor = File::from(take_inherited(FIRST)?);
    let mut text = String::new();
    descriptor.read_to_string(&mut text)?;
    println!("by descriptor: {text}");
    match descriptor.write_all(b"forged") {
        Ok(()) => println!("forging: ALLOWED"),
        Err(error) => println!("forging: denied ({error})"),
    }
    let told = std::env::var("CREDENTIALS_FDS").unwrap_or_default();
    println!("told: {told}");
    let directory = std::env::var("CREDENTIALS_DIRECTORY")?;
    // Its target is the descriptor that is taken above, and so gone.
    let target = fs::read_link(format!("{directory}/{name}"))?;
    println!("by name: {}", target.display());
    stay()
}

/// Wants, all the time, a little more memory than it may have without waiting.
fn thrash() {
    println!("thrashes");
    loop {
        let pieces: Vec<Vec<u8>> = (0..24).map(|_| black_box(vec![0xa5; MIB])).collect();
        drop(black_box(pieces));
    }
}

/// Takes memory until only one part of so many of the machine's is available, and holds it.
fn fill(part: u64) -> Result<()> {
    let mut taken = Vec::new();
    let mut told = false;
    loop {
        let facts = fs::read_to_string("/proc/meminfo").context("read /proc/meminfo")?;
        let field = |name: &str| {
            let rest = facts.lines().find_map(|line| line.strip_prefix(name));
            let number = rest.and_then(|rest| rest.split_whitespace().next());
            number.and_then(|number| number.parse::<u64>().ok())
        };
        let total = field("MemTotal:").context("no MemTotal")?;
        if field("MemAvailable:").context("no MemAvailable")? > total / part {
            // Not zeroes: those could stay one shared page.
            taken.push(black_box(vec![0xa5_u8; MIB]));
            continue;
        }
        if !std::mem::replace(&mut told, true) {
            println!("took {} MiB", taken.len());
        }
        thread::sleep(BEAT);
    }
}

fn number<T: std::str::FromStr>(word: &str) -> Result<T>
where
    T::Err: std::error::Error + Send + Sync + 'static,
{
    word.parse()
        .with_context(|| format!("'{word}' is no number"))
}
