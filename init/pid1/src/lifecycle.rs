//! The life of one service as a pure state machine: events in, actions out, no clock of its own.
//!
//! The diagram is in ARCHITECTURE.md; `lifecycle/transitions.rs` is the same as a table, which the
//! tests walk. Every change carries its reason. What must never happen: two processes of one
//! service at once, a restart without a delay, a state that nothing leads out of.

mod moves;
mod policy;
#[cfg(test)]
pub(crate) mod transitions;
mod vocabulary;
mod wishes;

use std::collections::VecDeque;

use kos_manifest::control::State;
use kos_manifest::service::ReadinessKind;

pub use policy::Policy;
use policy::{millis, name_of, step_ms};
pub use vocabulary::{Action, Ending, Event};
use vocabulary::{AfterStop, Outcome, Phase};

/// How long the kernel may take to freeze a cgroup. It waits for threads that are inside it, for a
/// disk for instance; what takes longer is let go on rather than left half frozen.
const FREEZE_MS: u64 = 5_000;

/// The machine.
#[derive(Debug, Clone)]
pub struct Lifecycle {
    policy: Policy,
    phase: Phase,
    reason: String,
    last_failure: String,
    restarts: u32,
    delay_ms: u64,
    starts: VecDeque<u64>,
    /// When the timer goes off that the program may put off, and the last time it can put it off to.
    deadline: Option<(u64, u64)>,
}

impl Lifecycle {
    /// A service that is stopped.
    pub fn new(policy: Policy) -> Self {
        Lifecycle {
            delay_ms: millis(policy.restart.delay),
            policy,
            phase: Phase::Stopped,
            reason: "not started".to_owned(),
            last_failure: String::new(),
            restarts: 0,
            starts: VecDeque::new(),
            deadline: None,
        }
    }

    /// The state that others see.
    pub fn state(&self) -> State {
        match self.phase {
            Phase::Stopped | Phase::Unmet => State::Stopped,
            Phase::Waiting | Phase::Preparing(_) | Phase::Launching => State::Starting,
            Phase::Ready | Phase::Freezing(_) => State::Ready,
            Phase::Frozen(_) => State::Frozen,
            Phase::Stopping(_) | Phase::Cleaning(..) => State::Stopping,
            Phase::Backoff => State::Backoff,
            Phase::Failed => State::Failed,
            Phase::Quarantined => State::Quarantined,
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

    /// Whether it would run, were the box such that it may.
    pub fn is_unmet(&self) -> bool {
        self.phase == Phase::Unmet
    }

    /// Whether its own program is being started, and has not shown yet that it does its work.
    pub fn is_launching(&self) -> bool {
        self.phase == Phase::Launching
    }

    /// Whether its silence counts: only while it is ready, and neither freezes nor is frozen.
    pub fn is_watched(&self) -> bool {
        self.phase == Phase::Ready
    }

    /// Whether the kernel is about to freeze it.
    pub fn is_freezing(&self) -> bool {
        matches!(self.phase, Phase::Freezing(_))
    }

    /// Whether a failure of what it requires is its own.
    pub fn depends(&self) -> bool {
        matches!(
            self.phase,
            Phase::Preparing(_)
                | Phase::Launching
                | Phase::Ready
                | Phase::Freezing(_)
                | Phase::Frozen(_)
        )
    }

    /// Whether nobody may start it.
    pub fn is_quarantined(&self) -> bool {
        matches!(
            self.phase,
            Phase::Quarantined
                | Phase::Stopping(AfterStop::Quarantine)
                | Phase::Cleaning(_, Outcome::Quarantine(_))
        )
    }

    /// Replaces the reason of a running service: a limit that it has met.
    pub fn remark(&mut self, remark: String) {
        self.reason = remark;
    }

    /// Lives by other rules from now on. What was armed by the old ones goes off by those.
    pub fn adopt(&mut self, policy: Policy) {
        self.delay_ms = self.delay_ms.min(millis(policy.restart.max_delay));
        self.policy = policy;
    }

    /// Takes an event at a time (milliseconds of any steady clock).
    pub fn step(&mut self, event: Event, now_ms: u64) -> Vec<Action> {
        match event {
            Event::Start
            | Event::Scheduled
            | Event::Stop(_)
            | Event::Restart
            | Event::Freeze { .. }
            | Event::Thaw
            | Event::Quarantine(_)
            | Event::Release => self.wish(event, now_ms),
            Event::Ended(ending) => self.process_ended(ending, now_ms),
            Event::SpawnFailed(reason) => self.process_ended(Ending { reason, code: None }, now_ms),
            Event::Timer => self.timer(now_ms),
            other => self.happening(other, now_ms),
        }
    }

    /// What the box, the kernel or the program itself says.
    fn happening(&mut self, event: Event, now_ms: u64) -> Vec<Action> {
        let kind = self.policy.readiness.kind;
        match (event, &self.phase) {
            (Event::ConditionUnmet(reason), Phase::Waiting | Phase::Unmet) => {
                self.enter(Phase::Unmet, reason);
                vec![Action::DisarmTimer]
            }
            (Event::ConditionsMet, Phase::Unmet) => self.wait("its conditions are met now"),
            (Event::DependenciesReady, Phase::Waiting) => self.begin(now_ms),
            (Event::DependencyFailed(reason), Phase::Waiting) => self.fail(reason),
            (Event::DependencyFailed(reason), _) if self.depends() => {
                self.begin_stop(reason, AfterStop::Fail, now_ms)
            }
            (Event::Executing, Phase::Launching) if kind == ReadinessKind::None => {
                self.become_ready("running")
            }
            (Event::Notified, Phase::Launching) if kind == ReadinessKind::Notify => {
                self.become_ready("said that it is ready")
            }
            (Event::Answered, Phase::Launching)
                if matches!(kind, ReadinessKind::Socket | ReadinessKind::Http) =>
            {
                self.become_ready("answers at its address")
            }
            (Event::Reloading, Phase::Ready) => {
                "says that it reloads".clone_into(&mut self.reason);
                Vec::new()
            }
            (Event::Notified, Phase::Ready) => {
                "said that it is ready".clone_into(&mut self.reason);
                Vec::new()
            }
            (Event::Leaving, Phase::Launching | Phase::Ready) => {
                self.enter(
                    Phase::Stopping(AfterStop::OwnWill),
                    "said that it stops".to_owned(),
                );
                vec![self.arm(millis(self.policy.stop.timeout), now_ms)]
            }
            (Event::Extend(milliseconds), Phase::Launching | Phase::Stopping(_)) => {
                self.extend(milliseconds, now_ms)
            }
            (Event::WatchdogMissed(reason), Phase::Ready) => {
                // It does not answer, so it is not asked.
                self.enter(Phase::Stopping(AfterStop::CountAsFailure), reason);
                vec![
                    Action::Kill,
                    self.arm(millis(self.policy.stop.timeout), now_ms),
                ]
            }
            (Event::Unfit(reason), Phase::Ready) => {
                self.begin_stop(reason, AfterStop::CountAsFailure, now_ms)
            }
            (Event::Froze, Phase::Freezing(for_ms)) => {
                let for_ms = *for_ms;
                self.phase = Phase::Frozen(for_ms);
                vec![for_ms.map_or(Action::DisarmTimer, Action::ArmTimer)]
            }
            // Everything else has been overtaken by events: a readiness of what is being stopped,
            // a condition of what runs.
            _ => Vec::new(),
        }
    }

    fn timer(&mut self, now_ms: u64) -> Vec<Action> {
        self.deadline = None;
        match &self.phase {
            Phase::Preparing(index) => {
                let name = name_of("pre-start", &self.policy.pre_start, *index);
                let seconds = step_ms(&self.policy.pre_start, *index) as f64 / 1000.0;
                let reason = format!("{name} not done within {seconds} s");
                self.enter(Phase::Stopping(AfterStop::CountAsFailure), reason);
                vec![
                    Action::Kill,
                    self.arm(millis(self.policy.stop.timeout), now_ms),
                ]
            }
            Phase::Launching => {
                let reason = format!(
                    "not ready within {} s",
                    self.policy.readiness.timeout.as_secs_f32()
                );
                self.begin_stop(reason, AfterStop::CountAsFailure, now_ms)
            }
            Phase::Freezing(_) => {
                let seconds = FREEZE_MS as f64 / 1000.0;
                self.thaw(&format!("could not be frozen within {seconds} s"))
            }
            Phase::Frozen(_) => self.thaw("thawed: the time of its freeze is over"),
            Phase::Stopping(_) => {
                let seconds = self.policy.stop.timeout.as_secs_f32();
                self.reason = format!("{}; not gone within {seconds} s", self.reason);
                vec![Action::Kill]
            }
            Phase::Cleaning(..) => vec![Action::Kill],
            Phase::Backoff => {
                self.restarts = self.restarts.saturating_add(1);
                let reason = format!("restarted after: {}", self.last_failure);
                self.wait(&reason)
            }
            // A timer that was disarmed too late.
            _ => Vec::new(),
        }
    }

    fn process_ended(&mut self, ending: Ending, now_ms: u64) -> Vec<Action> {
        let reason = std::mem::take(&mut self.reason);
        let outcome = match &self.phase {
            Phase::Preparing(index) if ending.code == Some(0) => {
                self.reason = reason;
                return self.prepare(index + 1, now_ms);
            }
            Phase::Preparing(index) => {
                let name = name_of("pre-start", &self.policy.pre_start, *index);
                let reason = format!("{name}: {}", ending.reason);
                Outcome::Judge(Ending { reason, ..ending })
            }
            Phase::Launching | Phase::Ready => Outcome::Judge(ending),
            Phase::Freezing(_) | Phase::Frozen(_) => {
                // The next process must not be born frozen.
                self.reason = reason;
                let mut actions = vec![Action::Thaw];
                actions.extend(self.clean_up(0, Outcome::Judge(ending)));
                return actions;
            }
            Phase::Stopping(after) => {
                let both = || format!("{reason}; {}", ending.reason);
                match after {
                    AfterStop::Rest => Outcome::Rest(both()),
                    AfterStop::StartAgain => Outcome::StartAgain,
                    AfterStop::CountAsFailure => Outcome::Judge(Ending {
                        reason: both(),
                        code: None,
                    }),
                    AfterStop::OwnWill => Outcome::Judge(ending),
                    AfterStop::Fail => Outcome::Fail(reason.clone()),
                    AfterStop::Quarantine => Outcome::Quarantine(reason.clone()),
                }
            }
            Phase::Cleaning(index, outcome) => {
                let (index, outcome) = (*index, outcome.clone());
                self.reason = reason;
                let mut actions = Vec::new();
                if ending.code != Some(0) {
                    let name = name_of("post-stop", &self.policy.post_stop, index);
                    actions.push(Action::Tell(format!("{name}: {}", ending.reason)));
                }
                actions.extend(self.clean_up(index + 1, outcome));
                return actions;
            }
            // No process was there to end.
            _ => {
                self.reason = reason;
                return Vec::new();
            }
        };
        self.reason = reason;
        self.clean_up(0, outcome)
    }
}

#[cfg(test)]
mod tests;
