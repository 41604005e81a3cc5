//! The moves from one phase to the next, each with what has to be done for it.

use kos_manifest::service::RestartPolicy;

use super::Lifecycle;
use super::policy::{millis, step_ms};
use super::vocabulary::{Action, AfterStop, Ending, Outcome, Phase};

/// Exit code by which a program says that starting it again is of no use.
const DO_NOT_RESTART: i32 = 125;

/// What is in the manifest as a timeout may be extended by the program (`EXTEND_TIMEOUT_USEC=`) to
/// so many times of itself, so that a program alone cannot put off an end for ever.
const MOST_EXTENDED: u64 = 4;

impl Lifecycle {
    pub(super) fn enter(&mut self, phase: Phase, reason: String) {
        self.phase = phase;
        self.reason = reason;
    }

    /// Arms the timer that the program may put off.
    pub(super) fn arm(&mut self, milliseconds: u64, now_ms: u64) -> Action {
        let latest = milliseconds.saturating_mul(MOST_EXTENDED);
        self.deadline = Some((
            now_ms.saturating_add(milliseconds),
            now_ms.saturating_add(latest),
        ));
        Action::ArmTimer(milliseconds)
    }

    pub(super) fn extend(&mut self, milliseconds: u64, now_ms: u64) -> Vec<Action> {
        let Some((due, latest)) = self.deadline else {
            return Vec::new();
        };
        let wanted = now_ms.saturating_add(milliseconds).min(latest);
        if wanted <= due {
            return Vec::new();
        }
        self.deadline = Some((wanted, latest));
        vec![Action::ArmTimer(wanted.saturating_sub(now_ms))]
    }

    /// An operator's start forgets the past: the next failures count anew.
    pub(super) fn start_anew(&mut self, reason: &str) -> Vec<Action> {
        self.starts.clear();
        self.restarts = 0;
        self.delay_ms = millis(self.policy.restart.delay);
        self.wait(reason)
    }

    pub(super) fn wait(&mut self, reason: &str) -> Vec<Action> {
        self.enter(Phase::Waiting, reason.to_owned());
        vec![Action::DisarmTimer]
    }

    /// Begins a start, unless there were too many of them.
    pub(super) fn begin(&mut self, now_ms: u64) -> Vec<Action> {
        let window_ms = millis(self.policy.restart.start_window);
        while self
            .starts
            .front()
            .is_some_and(|start| now_ms.saturating_sub(*start) > window_ms)
        {
            self.starts.pop_front();
        }
        if self.starts.len() >= self.policy.restart.start_limit as usize {
            let reason = format!(
                "start limit reached: {} starts in {} s; last: {}",
                self.starts.len(),
                self.policy.restart.start_window.as_secs_f32(),
                self.last_failure
            );
            return self.fail(reason);
        }
        self.starts.push_back(now_ms);
        self.prepare(0, now_ms)
    }

    /// Runs the step before the start with this number, or the program when there is none left.
    pub(super) fn prepare(&mut self, index: usize, now_ms: u64) -> Vec<Action> {
        if index < self.policy.pre_start.len() {
            self.phase = Phase::Preparing(index);
            self.deadline = None;
            let milliseconds = step_ms(&self.policy.pre_start, index);
            return vec![Action::RunPreStart(index), Action::ArmTimer(milliseconds)];
        }
        self.phase = Phase::Launching;
        let milliseconds = millis(self.policy.readiness.timeout);
        vec![Action::Spawn, self.arm(milliseconds, now_ms)]
    }

    pub(super) fn become_ready(&mut self, reason: &str) -> Vec<Action> {
        self.enter(Phase::Ready, reason.to_owned());
        vec![Action::DisarmTimer]
    }

    pub(super) fn thaw(&mut self, reason: &str) -> Vec<Action> {
        self.enter(Phase::Ready, reason.to_owned());
        vec![Action::Thaw, Action::DisarmTimer]
    }

    pub(super) fn begin_stop(
        &mut self,
        reason: String,
        after: AfterStop,
        now_ms: u64,
    ) -> Vec<Action> {
        let frozen = matches!(self.phase, Phase::Freezing(_) | Phase::Frozen(_));
        self.enter(Phase::Stopping(after), reason);
        // What stands still hears no signal.
        let mut actions = if frozen {
            vec![Action::Thaw]
        } else {
            Vec::new()
        };
        actions.push(Action::Signal(self.policy.stop.signal));
        actions.push(self.arm(millis(self.policy.stop.timeout), now_ms));
        actions
    }

    /// Runs the step after the end with this number, or concludes when there is none left.
    pub(super) fn clean_up(&mut self, index: usize, outcome: Outcome) -> Vec<Action> {
        if index < self.policy.post_stop.len() {
            if let Outcome::Judge(Ending { reason, .. }) | Outcome::Rest(reason) = &outcome {
                self.reason.clone_from(reason);
            }
            self.phase = Phase::Cleaning(index, outcome);
            self.deadline = None;
            let milliseconds = step_ms(&self.policy.post_stop, index);
            return vec![Action::RunPostStop(index), Action::ArmTimer(milliseconds)];
        }
        match outcome {
            Outcome::Rest(reason) => self.rest(reason),
            Outcome::StartAgain => self.wait("restarted"),
            Outcome::Judge(ending) => self.judge(ending),
            Outcome::Fail(reason) => self.fail(reason),
            Outcome::Quarantine(reason) => {
                self.enter(Phase::Quarantined, reason);
                vec![Action::DisarmTimer]
            }
        }
    }

    pub(super) fn judge(&mut self, ending: Ending) -> Vec<Action> {
        let went_well = ending.code == Some(0);
        if !went_well {
            self.last_failure.clone_from(&ending.reason);
        }
        if ending.code == Some(DO_NOT_RESTART) {
            return self.fail(format!("{}: it asked not to be restarted", ending.reason));
        }
        match (self.policy.restart.policy, went_well) {
            (RestartPolicy::Never | RestartPolicy::OnFailure, true) => self.rest(ending.reason),
            (RestartPolicy::Never, false) => self.fail(ending.reason),
            (RestartPolicy::OnFailure, false) | (RestartPolicy::Always, _) => {
                self.last_failure.clone_from(&ending.reason);
                self.back_off(ending.reason)
            }
        }
    }

    pub(super) fn back_off(&mut self, reason: String) -> Vec<Action> {
        // A service that has outlived the window of its starts begins at the first step again.
        if self.starts.len() <= 1 {
            self.delay_ms = millis(self.policy.restart.delay);
        }
        let delay = self.delay_ms;
        self.delay_ms = delay
            .saturating_mul(2)
            .min(millis(self.policy.restart.max_delay));
        self.enter(Phase::Backoff, reason);
        vec![Action::ArmTimer(delay)]
    }

    pub(super) fn rest(&mut self, reason: String) -> Vec<Action> {
        self.enter(Phase::Stopped, reason);
        vec![Action::DisarmTimer]
    }

    pub(super) fn fail(&mut self, reason: String) -> Vec<Action> {
        self.enter(Phase::Failed, reason);
        let mut actions = vec![Action::DisarmTimer];
        if self.policy.essential {
            actions.push(Action::GiveUp);
        }
        actions
    }
}
