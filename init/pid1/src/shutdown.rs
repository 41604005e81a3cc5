//! Going down: every way to it is a request here, and they all take the same list of phases.
//!
//! Services stop in the reverse of their order, each within its own deadline and all within one;
//! then what is left is killed through the cgroup, the disks are written and let go, and the
//! machine turns off or restarts. After a fatal error of PID 1 nobody is left to do the first in
//! order: everything is asked to end at once, and the rest is the same. Whatever fails on the way
//! is told and passed over: the end comes.

mod acts;

use std::sync::Mutex;

use anyhow::Result;
use kos_manifest::control::{KilledService, PhaseRecord};
use tokio::sync::watch;

pub use acts::{Machine, end, stop_services};

use crate::console::lock;
use crate::news::{News, Newsroom};
use crate::phases::Phases;
use crate::record::Reason;
use crate::reset::Target;

/// What comes at the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// The machine turns off.
    PowerOff,
    /// The machine restarts.
    Reboot,
    /// The data partition is asked for anew, and the machine restarts.
    FactoryReset(Target),
}

impl End {
    /// Its name in the control interface.
    pub fn as_str(&self) -> &'static str {
        match self {
            End::PowerOff => "power-off",
            End::Reboot => "reboot",
            End::FactoryReset(_) => "factory-reset",
        }
    }
}

/// Where requests to go down arrive; the first one counts.
pub struct Requests {
    request: watch::Sender<Option<(End, Reason)>>,
    news: Newsroom,
    killed: Mutex<Vec<KilledService>>,
}

impl Requests {
    /// None yet; the first will be told in `news`.
    pub fn new(news: Newsroom) -> Self {
        Requests {
            request: watch::Sender::new(None),
            news,
            killed: Mutex::default(),
        }
    }

    /// Asks for the end, and says why; tells whether it was the first to ask, and so is heard.
    pub fn request(&self, end: End, reason: Reason) -> bool {
        self.request.send_if_modified(|current| {
            let first = current.is_none();
            if first {
                self.news.tell(|| News::GoingDown {
                    end: end.as_str(),
                    reason: reason.to_string(),
                });
                *current = Some((end, reason));
            }
            first
        })
    }

    /// Waits for the first request.
    pub async fn requested(&self) -> (End, Reason) {
        let mut receiver = self.request.subscribe();
        loop {
            if let Some(request) = receiver.borrow_and_update().clone() {
                return request;
            }
            if receiver.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Where requests are told.
    pub fn news(&self) -> &Newsroom {
        &self.news
    }

    /// Whether anybody has asked.
    pub fn is_requested(&self) -> bool {
        self.request.borrow().is_some()
    }

    /// A service had to be killed. Before anybody asked to go down that is its own history.
    pub fn killed(&self, name: &str, reason: &str) {
        let mut killed = lock(&self.killed);
        if self.is_requested() && killed.iter().all(|service| service.name != name) {
            killed.push(KilledService {
                name: name.to_owned(),
                reason: reason.to_owned(),
            });
        }
    }

    /// What was killed on the way down.
    pub fn all_killed(&self) -> Vec<KilledService> {
        lock(&self.killed).clone()
    }
}

/// One phase of the way down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Services stop in order. The event loop does it.
    Services,
    /// Every process is asked to end, in no order.
    Terminate,
    /// What is left is killed.
    Kill,
    /// The disks are written.
    Sync,
    /// The boot's record is completed.
    Record,
    /// The data partition is let go.
    Data,
    /// The data partition is asked for anew.
    Reset,
    /// The last mark in memory.
    LastWord,
}

impl Phase {
    /// Its name in records and on the console.
    pub fn name(self) -> &'static str {
        match self {
            Phase::Services => "services",
            Phase::Terminate => "terminate",
            Phase::Kill => "kill",
            Phase::Sync => "sync",
            Phase::Record => "record",
            Phase::Data => "data",
            Phase::Reset => "reset",
            Phase::LastWord => "last word",
        }
    }
}

/// In which state PID 1 is when it goes down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Road {
    /// It was asked to, and its event loop runs.
    Orderly,
    /// It cannot go on.
    Fatal,
}

/// What is done, in order.
pub fn plan(end: &End, road: Road) -> Vec<Phase> {
    let first = match road {
        Road::Orderly => Phase::Services,
        Road::Fatal => Phase::Terminate,
    };
    let mut plan = vec![first, Phase::Kill, Phase::Sync, Phase::Record, Phase::Data];
    // Only when nothing can write to the old file system any more.
    if let End::FactoryReset(_) = end {
        plan.push(Phase::Reset);
    }
    plan.push(Phase::LastWord);
    plan
}

/// Does the phases one after the other; `act` is told what has been done so far.
pub fn walk(
    plan: &[Phase],
    phases: &mut Phases<'_>,
    mut act: impl FnMut(Phase, &[PhaseRecord]) -> Result<()>,
) {
    for phase in plan {
        let so_far = phases.records().to_vec();
        phases.run(phase.name(), || act(*phase, &so_far));
    }
}

#[cfg(test)]
mod tests;
