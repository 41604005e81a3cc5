//! What is measured in one boot, in which order.

use std::collections::BTreeMap;
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rustix::process::{PidfdFlags, pidfd_open};
use serde::Serialize;
use tokio::io::unix::AsyncFd;

use crate::memory::Memory;
use crate::now;
use crate::peer::{Kind, Peer, Request};
use crate::reports::{Listening, Report, Reports};

/// The first service's number, which is its uid as well.
const FIRST_NUMBER: u32 = 2001;

/// s6 and runit start a service that lived shorter than a second only after a second; so each
/// lives a little longer before it is stopped or killed, under every supervisor.
pub const LEAST_LIFE: Duration = Duration::from_millis(1100);

/// Against a hang, and for what a busy host makes endless: the others have to come to an end, too.
const LIMIT: Duration = Duration::from_secs(300);

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plan {
    /// Ten services, started at boot; then one at a time, stopped, started and killed.
    Few,
    /// A hundred, started at boot; then stopped and started together.
    Many,
    /// A thousand, of which the boot starts one, and then all.
    Most,
}

impl FromStr for Plan {
    type Err = anyhow::Error;

    fn from_str(name: &str) -> Result<Self> {
        Ok(match name {
            "few" => Plan::Few,
            "many" => Plan::Many,
            "most" => Plan::Most,
            _ => bail!("found {name}, allowed: few, many, most"),
        })
    }
}

impl Plan {
    fn services(self) -> u32 {
        match self {
            Plan::Few => 10,
            Plan::Many => 100,
            Plan::Most => 1000,
        }
    }
}

/// What was found: every quantity with each of its values, in milliseconds.
#[derive(Debug, Default, Serialize)]
pub struct Figures {
    times: BTreeMap<&'static str, Vec<f64>>,
    memory: Memory,
}

impl Figures {
    fn add(&mut self, name: &'static str, nanoseconds: u64) {
        let milliseconds = nanoseconds as f64 / 1e6;
        self.times.entry(name).or_default().push(milliseconds);
    }
}

/// Runs a plan. `handed_over` is when the supervisor was executed.
pub async fn run(kind: Kind, plan: Plan, reports: Reports, handed_over: u64) -> Result<Figures> {
    let mut run = Run {
        figures: Figures::default(),
        reports: reports.listen()?,
        alive: BTreeMap::new(),
        stage: "booting",
    };
    let all: Vec<u32> = (FIRST_NUMBER..).take(plan.services() as usize).collect();
    let work = async {
        match plan {
            Plan::Few => run.few(kind, &all, handed_over).await,
            Plan::Many => run.many(kind, &all, handed_over).await,
            Plan::Most => run.most(kind, &all).await,
        }
    };
    let done = tokio::time::timeout(LIMIT, work).await;
    done.with_context(|| {
        let (limit, stage, alive) = (LIMIT.as_secs(), run.stage, run.alive.len());
        format!("not done within {limit} s: {stage}, {alive} running")
    })??;
    Ok(run.figures)
}

struct Run {
    figures: Figures,
    reports: Listening,
    /// Each running probe's last report.
    alive: BTreeMap<u32, Report>,
    /// What is being waited for, for whoever reads that it did not come.
    stage: &'static str,
}

impl Run {
    async fn few(&mut self, kind: Kind, all: &[u32], handed_over: u64) -> Result<()> {
        let last = self.hear(all.len()).await?;
        self.figures.add("boot to 10 ready", last - handed_over);
        let peer = kind.connect().await?;
        peer.settled().await?;
        self.figures.memory = Memory::read(Path::new("/proc"))?;
        for _ in 0..2 {
            self.live().await?;
            for &number in all {
                self.start_one(&peer, number).await?;
            }
            self.live().await?;
            for &number in all {
                self.crash_one(number).await?;
            }
        }
        Ok(())
    }

    async fn many(&mut self, kind: Kind, all: &[u32], handed_over: u64) -> Result<()> {
        let last = self.hear(all.len()).await?;
        self.figures.add("boot to 100 ready", last - handed_over);
        self.stage = "settling after the boot";
        let peer = kind.connect().await?;
        peer.settled().await?;
        self.figures.memory = Memory::read(Path::new("/proc"))?;
        for _ in 0..2 {
            self.live().await?;
            let mut gone = Vec::new();
            for report in self.alive.values() {
                gone.push(watch(report)?);
            }
            self.stage = "asking for the stop of all";
            let asked = now()?;
            peer.ask_all(Request::Stop, all).await?;
            self.stage = "waiting for the end of all";
            for process in gone {
                drop(process.readable().await?);
            }
            self.figures.add("stop of 100", now()? - asked);
            self.alive.clear();
            self.stage = "settling after the stop";
            peer.settled().await?;
            self.stage = "asking for the start of all";
            let asked = now()?;
            peer.ask_all(Request::Start, all).await?;
            self.stage = "waiting for the start of all";
            let last = self.hear(all.len()).await?;
            self.figures.add("100 started together", last - asked);
        }
        Ok(())
    }

    async fn most(&mut self, kind: Kind, all: &[u32]) -> Result<()> {
        self.hear(1).await?;
        let peer = kind.connect().await?;
        peer.settled().await?;
        let asked = now()?;
        let rest = all.get(1..).unwrap_or_default();
        // In parts: nobody's socket takes a thousand requests at once.
        for part in rest.chunks(50) {
            peer.ask_all(Request::Start, part).await?;
            self.hear(part.len()).await?;
        }
        self.figures.add("999 started", now()? - asked);
        peer.settled().await?;
        self.figures.memory = Memory::read(Path::new("/proc"))?;
        Ok(())
    }

    /// Stops one, and measures its start once it is gone.
    async fn start_one(&mut self, peer: &Peer, number: u32) -> Result<()> {
        let report = self.alive.remove(&number).context("it is not running")?;
        let process = watch(&report)?;
        peer.ask_and_hear(Request::Stop, number).await?;
        drop(process.readable().await?);
        let asked = now()?;
        let heard = self.reports.next();
        let (known, report) = tokio::try_join!(peer.ask_and_hear(Request::Start, number), heard)?;
        self.figures
            .add("start to first instruction", report.first - asked);
        self.figures.add("start to ready", report.ready - asked);
        if known != 0 {
            self.figures
                .add("start to ready, as the supervisor knows", known - asked);
        }
        self.alive.insert(report.number, report);
        Ok(())
    }

    async fn crash_one(&mut self, number: u32) -> Result<()> {
        let report = self.alive.remove(&number).context("it is not running")?;
        let killed = now()?;
        kill(Pid::from_raw(report.pid), Signal::SIGKILL)?;
        let last = self.hear(1).await?;
        self.figures.add("crash to ready", last - killed);
        Ok(())
    }

    /// Waits for so many reports; when the last of them was ready.
    async fn hear(&mut self, count: usize) -> Result<u64> {
        let mut last = 0;
        for _ in 0..count {
            let report = self.reports.next().await?;
            last = last.max(report.ready);
            self.alive.insert(report.number, report);
        }
        Ok(last)
    }

    /// Waits until each running probe has lived its least time.
    async fn live(&self) -> Result<()> {
        let youngest = self.alive.values().map(|report| report.first).max();
        let lived = Duration::from_nanos(now()?.saturating_sub(youngest.unwrap_or(0)));
        tokio::time::sleep(LEAST_LIFE.saturating_sub(lived)).await;
        Ok(())
    }
}

/// Something that becomes readable when the process ends.
fn watch(report: &Report) -> Result<AsyncFd<std::os::fd::OwnedFd>> {
    let pid = rustix::process::Pid::from_raw(report.pid).context("no process id")?;
    let process = pidfd_open(pid, PidfdFlags::NONBLOCK)?;
    // An owned descriptor does not lie about its number, which is all that its unsafe successor is
    // about.
    #[allow(deprecated)]
    let watched = AsyncFd::with_interest(process, tokio::io::Interest::READABLE);
    Ok(watched?)
}
