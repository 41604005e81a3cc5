//! The life of one service as a pure state machine: events in, actions out, no clock of its own.
//!
//! ```text
//!                    start                 executing / READY=1
//!   stopped ───────────────▶ starting ───────────────────────▶ ready
//!      ▲                        │ ▲                              │
//!      │      ended by itself   │ │ delay over                   │ ended by itself
//!      │      ┌─────────────────┴─┼──────────────────────────────┤
//!      │      ▼                   │                              │
//!      │   backoff ───────────────┘       stop / restart         ▼
//!      │      │ start limit           starting, ready ───▶  stopping
//!      │      ▼                                                  │
//!      │   failed ◀───────── not ready in time, code 125 ────────┤
//!      └─────────────────────────────────────────────────────────┘
//! ```
//!
//! Every change carries its reason. What must never happen: two processes of one service at once,
//! a restart without a delay, a state that nothing leads out of.

use std::collections::VecDeque;

use kos_manifest::control::State;
use kos_manifest::service::{Readiness, ReadinessKind, Restart, RestartPolicy, Stop};

/// Exit code by which a program says that starting it again is of no use.
const DO_NOT_RESTART: i32 = 125;

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Somebody wants it to run.
    Start,
    /// Somebody wants it to end, and why.
    Stop(String),
    /// Somebody wants it to end and to start again.
    Restart,
    /// All that it waits for is there.
    DependenciesReady,
    /// Something that it cannot do without will not come.
    DependencyFailed(String),
    /// The process could not be made at all.
    SpawnFailed(String),
    /// The program is being executed.
    Executing,
    /// `READY=1`.
    Notified,
    /// The process is gone.
    Ended(Ending),
    /// The timer that was armed last went off.
    Timer,
}

/// How a process ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ending {
    /// As a sentence.
    pub reason: String,
    /// The exit code, when it exited by itself.
    pub code: Option<i32>,
}

/// What PID 1 has to do about it, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Make the process.
    Spawn,
    /// Send the stop signal.
    Signal(i32),
    /// Kill the whole cgroup.
    Kill,
    /// Go off after so many milliseconds, instead of at any time set before.
    ArmTimer(u64),
    /// Do not go off.
    DisarmTimer,
    /// It failed for good and the box cannot do without it.
    GiveUp,
}

/// What follows when the process that is being stopped is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum AfterStop {
    Rest,
    StartAgain,
    /// It is being stopped because it did not become ready.
    CountAsFailure,
}

/// Where exactly it is; [`State`] is what others see of it.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Phase {
    Stopped,
    Waiting,
    Launching,
    Ready,
    Stopping(AfterStop),
    Backoff,
    Failed,
}

/// The machine.
#[derive(Debug, Clone)]
pub struct Lifecycle {
    restart: Restart,
    readiness: Readiness,
    stop: Stop,
    essential: bool,
    phase: Phase,
    reason: String,
    last_failure: String,
    restarts: u32,
    delay_ms: u64,
    starts: VecDeque<u64>,
}

impl Lifecycle {
    /// A service that is stopped.
    pub fn new(restart: Restart, readiness: Readiness, stop: Stop, essential: bool) -> Self {
        Lifecycle {
            delay_ms: millis(restart.delay),
            restart,
            readiness,
            stop,
            essential,
            phase: Phase::Stopped,
            reason: "not started".to_owned(),
            last_failure: String::new(),
            restarts: 0,
            starts: VecDeque::new(),
        }
    }

    /// The state that others see.
    pub fn state(&self) -> State {
        match self.phase {
            Phase::Stopped => State::Stopped,
            Phase::Waiting | Phase::Launching => State::Starting,
            Phase::Ready => State::Ready,
            Phase::Stopping(_) => State::Stopping,
            Phase::Backoff => State::Backoff,
            Phase::Failed => State::Failed,
        }
    }

    /// Why it is in that state.
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// Why it ended by itself the last time; empty when it never did.
    pub fn last_failure(&self) -> &str {
        &self.last_failure
    }

    /// How often it was started again by itself.
    pub fn restarts(&self) -> u32 {
        self.restarts
    }

    /// Whether it waits for the services that it comes after.
    pub fn is_waiting(&self) -> bool {
        self.phase == Phase::Waiting
    }

    /// Replaces the reason of a running service: a limit that it has met.
    pub fn remark(&mut self, remark: String) {
        self.reason = remark;
    }

    /// Takes an event at a time (milliseconds of any steady clock).
    pub fn step(&mut self, event: Event, now_ms: u64) -> Vec<Action> {
        match (event, &self.phase) {
            (Event::Start, Phase::Stopped | Phase::Failed | Phase::Backoff) => {
                // An operator's start forgets the past: the next failures count anew.
                self.starts.clear();
                self.restarts = 0;
                self.delay_ms = millis(self.restart.delay);
                self.wait("started")
            }
            (Event::Start, Phase::Stopping(_)) => {
                self.phase = Phase::Stopping(AfterStop::StartAgain);
                Vec::new()
            }
            (Event::Restart, Phase::Launching | Phase::Ready) => {
                // Asked for, so it counts against no limit.
                self.starts.clear();
                self.begin_stop("restart requested".to_owned(), AfterStop::StartAgain)
            }
            (Event::Restart, Phase::Stopping(_)) => {
                self.phase = Phase::Stopping(AfterStop::StartAgain);
                Vec::new()
            }
            (Event::Restart, Phase::Stopped | Phase::Failed | Phase::Backoff) => {
                self.step(Event::Start, now_ms)
            }
            (Event::Stop(reason), Phase::Launching | Phase::Ready) => {
                self.begin_stop(reason, AfterStop::Rest)
            }
            (Event::Stop(reason), Phase::Stopping(_)) => {
                self.reason = reason;
                self.phase = Phase::Stopping(AfterStop::Rest);
                Vec::new()
            }
            (Event::Stop(reason), Phase::Waiting | Phase::Backoff | Phase::Failed) => {
                self.enter(Phase::Stopped, reason);
                vec![Action::DisarmTimer]
            }
            (Event::DependenciesReady, Phase::Waiting) => self.launch(now_ms),
            (Event::DependencyFailed(reason), Phase::Waiting) => self.fail(reason),
            (Event::SpawnFailed(reason), Phase::Launching) => {
                self.ended(Ending { reason, code: None })
            }
            (Event::Executing, Phase::Launching) if self.readiness.kind == ReadinessKind::None => {
                self.become_ready("running")
            }
            (Event::Notified, Phase::Launching) => self.become_ready("said that it is ready"),
            (Event::Ended(ending), Phase::Launching | Phase::Ready) => self.ended(ending),
            (Event::Ended(ending), Phase::Stopping(after)) => match after {
                AfterStop::Rest => {
                    let reason = format!("{}; {}", self.reason, ending.reason);
                    self.enter(Phase::Stopped, reason);
                    vec![Action::DisarmTimer]
                }
                AfterStop::StartAgain => self.wait("restarted"),
                AfterStop::CountAsFailure => {
                    let reason = format!("{}; {}", self.reason, ending.reason);
                    self.ended(Ending { reason, code: None })
                }
            },
            (Event::Timer, Phase::Launching) => {
                let reason = format!(
                    "not ready within {} s",
                    self.readiness.timeout.as_secs_f32()
                );
                self.begin_stop(reason, AfterStop::CountAsFailure)
            }
            (Event::Timer, Phase::Stopping(_)) => {
                let seconds = self.stop.timeout.as_secs_f32();
                self.reason = format!("{}; not gone within {seconds} s", self.reason);
                vec![Action::Kill]
            }
            (Event::Timer, Phase::Backoff) => {
                self.restarts = self.restarts.saturating_add(1);
                let reason = format!("restarted after: {}", self.last_failure);
                self.wait(&reason)
            }
            // Everything else has been overtaken by events: a start of what runs already, a
            // readiness of what is being stopped, a timer that was disarmed too late.
            _ => Vec::new(),
        }
    }

    fn enter(&mut self, phase: Phase, reason: String) {
        self.phase = phase;
        self.reason = reason;
    }

    fn wait(&mut self, reason: &str) -> Vec<Action> {
        self.enter(Phase::Waiting, reason.to_owned());
        vec![Action::DisarmTimer]
    }

    fn launch(&mut self, now_ms: u64) -> Vec<Action> {
        let window_ms = millis(self.restart.start_window);
        while self
            .starts
            .front()
            .is_some_and(|start| now_ms.saturating_sub(*start) > window_ms)
        {
            self.starts.pop_front();
        }
        if self.starts.len() >= self.restart.start_limit as usize {
            let reason = format!(
                "start limit reached: {} starts in {} s; last: {}",
                self.starts.len(),
                self.restart.start_window.as_secs_f32(),
                self.last_failure
            );
            return self.fail(reason);
        }
        self.starts.push_back(now_ms);
        let reason = std::mem::take(&mut self.reason);
        self.enter(Phase::Launching, reason);
        vec![
            Action::Spawn,
            Action::ArmTimer(millis(self.readiness.timeout)),
        ]
    }

    fn become_ready(&mut self, reason: &str) -> Vec<Action> {
        self.enter(Phase::Ready, reason.to_owned());
        vec![Action::DisarmTimer]
    }

    fn begin_stop(&mut self, reason: String, after: AfterStop) -> Vec<Action> {
        self.enter(Phase::Stopping(after), reason);
        vec![
            Action::Signal(self.stop.signal),
            Action::ArmTimer(millis(self.stop.timeout)),
        ]
    }

    fn ended(&mut self, ending: Ending) -> Vec<Action> {
        let went_well = ending.code == Some(0);
        if !went_well {
            self.last_failure.clone_from(&ending.reason);
        }
        if ending.code == Some(DO_NOT_RESTART) {
            return self.fail(format!("{}: it asked not to be restarted", ending.reason));
        }
        match (self.restart.policy, went_well) {
            (RestartPolicy::Never | RestartPolicy::OnFailure, true) => {
                self.enter(Phase::Stopped, ending.reason);
                vec![Action::DisarmTimer]
            }
            (RestartPolicy::Never, false) => self.fail(ending.reason),
            (RestartPolicy::OnFailure, false) | (RestartPolicy::Always, _) => {
                self.last_failure.clone_from(&ending.reason);
                self.back_off(ending.reason)
            }
        }
    }

    fn back_off(&mut self, reason: String) -> Vec<Action> {
        // A service that has outlived the window of its starts begins at the first step again.
        if self.starts.len() <= 1 {
            self.delay_ms = millis(self.restart.delay);
        }
        let delay = self.delay_ms;
        self.delay_ms = delay.saturating_mul(2).min(millis(self.restart.max_delay));
        self.enter(Phase::Backoff, reason);
        vec![Action::ArmTimer(delay)]
    }

    fn fail(&mut self, reason: String) -> Vec<Action> {
        self.enter(Phase::Failed, reason);
        let mut actions = vec![Action::DisarmTimer];
        if self.essential {
            actions.push(Action::GiveUp);
        }
        actions
    }
}

fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
