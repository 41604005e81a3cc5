//! The part of `cargo xtask bench supervise` that runs in the guest, alike under every supervisor.
//!
//! The kernel starts it as the first process. It leaves a child of itself behind, outside of
//! whatever the supervisor will make, and becomes the supervisor. The child owns the socket at
//! which probes report, asks the supervisor for starts and stops over the supervisor's own socket
//! or pipe (so that no client program's start is measured along), and prints one line of JSON.
//! Nothing here waits by the clock but where a supervisor punishes short lives: see
//! [`plan::LEAST_LIFE`].
//!
//! The kernel's command line says what is measured, as the environment of the first process:
//! `BENCH_PEER` and `BENCH_PLAN`, by the names in `peer.rs` and `plan.rs`.

mod memory;
mod peer;
mod plan;
mod reports;
mod systemd;

use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use nix::mount::{MsFlags, mount};
use nix::time::{ClockId, clock_gettime};

use crate::peer::Kind;
use crate::plan::Plan;

const SELF: &str = "/bench/kos-bench-driver";

fn main() -> Result<()> {
    let kind: Kind = variable("BENCH_PEER")?.parse()?;
    let plan: Plan = variable("BENCH_PLAN")?.parse()?;
    if std::process::id() == 1 {
        return become_supervisor(kind);
    }
    let socket = reports::Reports::bind()?;
    println!("listening");
    let mut handed_over = [0; 8];
    std::io::stdin().read_exact(&mut handed_over)?;
    let said = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(plan::run(
            kind,
            plan,
            socket,
            u64::from_le_bytes(handed_over),
        ));
    let line = match said {
        Ok(figures) => format!("bench: {}", serde_json::to_string(&figures)?),
        Err(error) => format!("bench: error {error:#}"),
    };
    say(&line)
}

fn variable(name: &str) -> Result<String> {
    std::env::var(name).with_context(|| format!("{name} is not on the kernel's command line"))
}

/// Prints on the machine's console; in a line of its own, whatever others left there.
fn say(line: &str) -> Result<()> {
    let mut console = ["/dev/ttyS0", "/dev/console"]
        .iter()
        .find_map(|path| std::fs::File::options().write(true).open(path).ok())
        .context("no console")?;
    Ok(console.write_all(format!("\n{line}\n").as_bytes())?)
}

/// Leaves the child behind and hands over. Never returns where all goes well.
fn become_supervisor(kind: Kind) -> Result<()> {
    if !kind.mounts_by_itself() {
        mount_all()?;
    }
    let mut child = Command::new(SELF)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("start the driver")?;
    let mut word = [0; 10];
    child
        .stdout
        .take()
        .context("no pipe")?
        .read_exact(&mut word)
        .context("the driver does not listen")?;
    let mut commands = child.stdin.take().context("no pipe")?;
    let [program, arguments @ ..] = kind.init() else {
        bail!("no program");
    };
    commands.write_all(&now()?.to_le_bytes())?;
    Err(Command::new(program)
        .args(arguments)
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .exec())
    .with_context(|| format!("become {program}"))
}

fn mount_all() -> Result<()> {
    let none: Option<&str> = None;
    for (kind, target) in [
        ("proc", "/proc"),
        ("sysfs", "/sys"),
        ("devtmpfs", "/dev"),
        ("tmpfs", "/run"),
        ("tmpfs", "/tmp"),
        ("cgroup2", "/sys/fs/cgroup"),
    ] {
        mount(Some(kind), target, Some(kind), MsFlags::empty(), none)
            .with_context(|| format!("mount {target}"))?;
    }
    Ok(())
}

/// Nanoseconds of `CLOCK_MONOTONIC`, which starts with the kernel.
pub fn now() -> Result<u64> {
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC)?;
    Ok(time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64)
}
