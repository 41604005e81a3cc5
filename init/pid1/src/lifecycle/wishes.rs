//! What somebody wants of a service, and what becomes of it in each phase.

use super::vocabulary::{Action, AfterStop, Event, Outcome, Phase};
use super::{FREEZE_MS, Lifecycle};

impl Lifecycle {
    /// What somebody wants of it.
    pub(super) fn wish(&mut self, event: Event, now_ms: u64) -> Vec<Action> {
        let phase = self.phase.clone();
        match (event, phase) {
            (
                Event::Start | Event::Restart,
                Phase::Stopped | Phase::Unmet | Phase::Failed | Phase::Backoff,
            ) => self.start_anew("started"),
            (Event::Scheduled, Phase::Stopped | Phase::Unmet | Phase::Failed) => {
                self.start_anew("started by its timer")
            }
            // Who is in quarantine stays there, whatever is asked for meanwhile.
            (
                Event::Start | Event::Restart | Event::Stop(_),
                Phase::Stopping(AfterStop::Quarantine) | Phase::Cleaning(_, Outcome::Quarantine(_)),
            ) => Vec::new(),
            (Event::Start | Event::Restart, Phase::Stopping(_)) => {
                self.phase = Phase::Stopping(AfterStop::StartAgain);
                Vec::new()
            }
            (Event::Start | Event::Restart, Phase::Cleaning(step, _)) => {
                self.phase = Phase::Cleaning(step, Outcome::StartAgain);
                Vec::new()
            }
            (
                Event::Restart,
                Phase::Preparing(_)
                | Phase::Launching
                | Phase::Ready
                | Phase::Freezing(_)
                | Phase::Frozen(_),
            ) => {
                // Asked for, so it counts against no limit.
                self.starts.clear();
                let reason = "restart requested".to_owned();
                self.begin_stop(reason, AfterStop::StartAgain, now_ms)
            }
            (
                Event::Stop(reason),
                Phase::Preparing(_)
                | Phase::Launching
                | Phase::Ready
                | Phase::Freezing(_)
                | Phase::Frozen(_),
            ) => self.begin_stop(reason, AfterStop::Rest, now_ms),
            (Event::Stop(reason), Phase::Stopping(_)) => {
                self.enter(Phase::Stopping(AfterStop::Rest), reason);
                Vec::new()
            }
            (Event::Stop(reason), Phase::Cleaning(step, _)) => {
                self.enter(Phase::Cleaning(step, Outcome::Rest(reason.clone())), reason);
                Vec::new()
            }
            (
                Event::Stop(reason),
                Phase::Unmet | Phase::Waiting | Phase::Backoff | Phase::Failed,
            ) => self.rest(reason),
            (Event::Freeze { reason, for_ms }, Phase::Ready) => {
                self.enter(Phase::Freezing(for_ms), reason);
                self.deadline = None;
                vec![Action::Freeze, Action::ArmTimer(FREEZE_MS)]
            }
            // An operator's freeze outlasts a rule's; a rule's changes nothing of an operator's.
            (
                Event::Freeze {
                    reason,
                    for_ms: None,
                },
                Phase::Freezing(_),
            ) => {
                self.enter(Phase::Freezing(None), reason);
                Vec::new()
            }
            (
                Event::Freeze {
                    reason,
                    for_ms: None,
                },
                Phase::Frozen(_),
            ) => {
                self.enter(Phase::Frozen(None), reason);
                vec![Action::DisarmTimer]
            }
            (Event::Thaw, Phase::Freezing(_) | Phase::Frozen(_)) => self.thaw("thawed"),
            (Event::Quarantine(reason), phase) => self.quarantine(reason, phase, now_ms),
            (Event::Release, Phase::Quarantined) => self.rest("released".to_owned()),
            (Event::Release, Phase::Stopping(AfterStop::Quarantine)) => {
                self.phase = Phase::Stopping(AfterStop::Rest);
                Vec::new()
            }
            (Event::Release, Phase::Cleaning(step, Outcome::Quarantine(_))) => {
                self.phase = Phase::Cleaning(step, Outcome::Rest("released".to_owned()));
                Vec::new()
            }
            // A start of what runs already, a thaw of what is not frozen.
            _ => Vec::new(),
        }
    }

    fn quarantine(&mut self, reason: String, phase: Phase, now_ms: u64) -> Vec<Action> {
        match phase {
            Phase::Stopped
            | Phase::Unmet
            | Phase::Waiting
            | Phase::Backoff
            | Phase::Failed
            | Phase::Quarantined => {
                self.enter(Phase::Quarantined, reason);
                vec![Action::DisarmTimer]
            }
            Phase::Stopping(_) => {
                self.enter(Phase::Stopping(AfterStop::Quarantine), reason);
                Vec::new()
            }
            Phase::Cleaning(step, _) => {
                let outcome = Outcome::Quarantine(reason.clone());
                self.enter(Phase::Cleaning(step, outcome), reason);
                Vec::new()
            }
            Phase::Preparing(_)
            | Phase::Launching
            | Phase::Ready
            | Phase::Freezing(_)
            | Phase::Frozen(_) => self.begin_stop(reason, AfterStop::Quarantine, now_ms),
        }
    }
}
