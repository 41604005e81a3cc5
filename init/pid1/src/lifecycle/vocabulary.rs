//! The words of the state machine: what can happen to a service, and what is done about it.

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Somebody wants it to run.
    Start,
    /// Its timer wants it to run.
    Scheduled,
    /// Somebody wants it to end, and why.
    Stop(String),
    /// Somebody wants it to end and to start again.
    Restart,
    /// Somebody, or a rule, wants it to stand still.
    Freeze {
        /// Why.
        reason: String,
        /// For how long (milliseconds); until somebody thaws it without a time.
        for_ms: Option<u64>,
    },
    /// The kernel says that all of its processes stand still.
    Froze,
    /// It may go on.
    Thaw,
    /// It is to end and not to be started by anybody, and why.
    Quarantine(String),
    /// It may be started again.
    Release,
    /// Something that must be true of the box is not, and what.
    ConditionUnmet(String),
    /// All that must be true of the box is true.
    ConditionsMet,
    /// All that it waits for is there.
    DependenciesReady,
    /// Something that it cannot do without will not come, or has failed for good.
    DependencyFailed(String),
    /// The process could not be made at all.
    SpawnFailed(String),
    /// The program is being executed.
    Executing,
    /// `READY=1`.
    Notified,
    /// Its address answers.
    Answered,
    /// `RELOADING=1`.
    Reloading,
    /// `STOPPING=1`.
    Leaving,
    /// `EXTEND_TIMEOUT_USEC=`, in milliseconds.
    Extend(u64),
    /// It has been silent for longer than it may, or says itself that it hangs, as a sentence.
    WatchdogMissed(String),
    /// A rule finds it unfit to go on, as a sentence.
    Unfit(String),
    /// The process is gone, a step's or its own.
    Ended(Ending),
    /// The timer that was armed last went off.
    Timer,
}

#[cfg(test)]
impl Event {
    /// The event's word in the table of transitions.
    pub fn word(&self) -> &'static str {
        match self {
            Event::Start => "start",
            Event::Scheduled => "scheduled",
            Event::Stop(_) => "stop",
            Event::Restart => "restart",
            Event::Freeze { .. } => "freeze",
            Event::Froze => "froze",
            Event::Thaw => "thaw",
            Event::Quarantine(_) => "quarantine",
            Event::Release => "release",
            Event::ConditionUnmet(_) => "condition-unmet",
            Event::ConditionsMet => "conditions-met",
            Event::DependenciesReady => "dependencies-ready",
            Event::DependencyFailed(_) => "dependency-failed",
            Event::SpawnFailed(_) => "spawn-failed",
            Event::Executing => "executing",
            Event::Notified => "notified",
            Event::Answered => "answered",
            Event::Reloading => "reloading",
            Event::Leaving => "leaving",
            Event::Extend(_) => "extend",
            Event::WatchdogMissed(_) => "watchdog-missed",
            Event::Unfit(_) => "unfit",
            Event::Ended(_) => "ended",
            Event::Timer => "timer",
        }
    }
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
    /// Make the service's own process.
    Spawn,
    /// Make the process of the step before the start with this number.
    RunPreStart(usize),
    /// Make the process of the step after the end with this number.
    RunPostStop(usize),
    /// Send the process a signal.
    Signal(i32),
    /// Kill the whole cgroup.
    Kill,
    /// Freeze the whole cgroup, and say when it stands.
    Freeze,
    /// Let the whole cgroup go on.
    Thaw,
    /// Go off after so many milliseconds, instead of at any time set before.
    ArmTimer(u64),
    /// Do not go off.
    DisarmTimer,
    /// Write down what changes nothing.
    Tell(String),
    /// It failed for good and the box cannot do without it.
    GiveUp,
}

/// What follows once the process is gone and the steps after it have run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Nothing; the sentence says why it rests.
    Rest(String),
    StartAgain,
    /// Its restart policy decides.
    Judge(Ending),
    /// It has failed for good.
    Fail(String),
    Quarantine(String),
}

/// What follows when the process that is being stopped is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AfterStop {
    Rest,
    StartAgain,
    /// It is being stopped because it does not do its work.
    CountAsFailure,
    /// It stops by itself.
    OwnWill,
    /// What it requires has failed for good.
    Fail,
    Quarantine,
}

/// Where exactly it is; [`kos_manifest::control::State`] is what others see of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Phase {
    Stopped,
    /// Wanted, but the box is not such that it may run.
    Unmet,
    Waiting,
    /// The step before the start with this number runs.
    Preparing(usize),
    Launching,
    Ready,
    /// The kernel has been asked to freeze it; for how long then.
    Freezing(Option<u64>),
    /// For how long.
    Frozen(Option<u64>),
    Stopping(AfterStop),
    /// The step after the end with this number runs.
    Cleaning(usize, Outcome),
    Backoff,
    Failed,
    Quarantined,
}
