//! What passes between a service's task and the rest of PID 1: requests to it, its view to them.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use kos_manifest::control::State;
use kos_manifest::service::Service;
use kos_sys::clock::boottime_milliseconds;
use tokio::sync::{oneshot, watch};

/// What others may ask of a service; the answer comes once the task has taken it.
#[derive(Debug)]
pub struct Command {
    /// The request.
    pub request: Request,
    /// Told when the request has been taken.
    pub taken: oneshot::Sender<Result<(), String>>,
}

/// See [`Command`].
#[derive(Debug)]
pub enum Request {
    /// Say that the task lives.
    Beat,
    /// Run.
    Start,
    /// Run, because the timer says so.
    Scheduled,
    /// End, and why.
    Stop(String),
    /// End and run again.
    Restart,
    /// Send the program a signal.
    Kill(i32),
    /// Stand still.
    Freeze,
    /// Go on.
    Thaw,
    /// End, be started by nobody, and why.
    Quarantine(String),
    /// Be allowed to start again.
    Release,
    /// Be what another manifest says.
    Update(Box<Update>),
    /// End for ever: there is no such service any more.
    Remove,
}

/// See [`Request::Update`].
#[derive(Debug)]
pub struct Update {
    /// The new manifest.
    pub service: Arc<Service>,
    /// What it comes after now.
    pub dependencies: Vec<Dependency>,
    /// Whether a running process has to give way to one of the new manifest.
    pub restart: bool,
}

/// What others see of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceView {
    /// Its state.
    pub state: State,
    /// Why.
    pub reason: String,
    /// Whether it rests because the box is not such that it may run.
    pub unmet: bool,
    /// What it says of itself.
    pub status_text: String,
    /// Since when (boot clock, milliseconds).
    pub since_ms: u64,
    /// When its process was started; 0 without one.
    pub started_ms: u64,
    /// Its program's process; 0 without one.
    pub pid: u32,
    /// Restarts by itself.
    pub restarts: u32,
    /// Why it ended by itself the last time.
    pub last_failure: String,
}

impl ServiceView {
    /// Before the task has run for the first time.
    pub fn initial(enabled: bool) -> Self {
        ServiceView {
            state: if enabled {
                State::Starting
            } else {
                State::Stopped
            },
            reason: if enabled {
                "waiting to be started"
            } else {
                "not started"
            }
            .to_owned(),
            unmet: false,
            status_text: String::new(),
            since_ms: boottime_milliseconds(),
            started_ms: 0,
            pid: 0,
            restarts: 0,
            last_failure: String::new(),
        }
    }

    /// Whether it has a process, or is about to have one after another.
    pub fn is_busy(&self) -> bool {
        self.started_ms != 0
    }
}

/// A service that this one comes after.
#[derive(Debug, Clone)]
pub struct Dependency {
    /// Its name.
    pub name: String,
    /// Whether this one cannot do without it.
    pub required: bool,
    /// Its state.
    pub view: watch::Receiver<ServiceView>,
}

impl Dependency {
    /// Why this one cannot be without it now, as a sentence; `None` when it is there, or need not
    /// be.
    pub fn failure(&self) -> Option<String> {
        let view = self.view.borrow();
        let lost = matches!(
            view.state,
            State::Failed | State::Stopped | State::Quarantined
        );
        (self.required && lost && !view.unmet).then(|| self.sentence(&view))
    }

    /// Why this one has to rest as long as that one does.
    pub fn unmet(&self) -> Option<String> {
        let view = self.view.borrow();
        (self.required && view.unmet).then(|| self.sentence(&view))
    }

    /// Whether this one fails although it runs: a failure for good. What somebody stops by hand is
    /// somebody's business.
    pub fn failed_for_good(&self) -> Option<String> {
        let view = self.view.borrow();
        (self.required && view.state == State::Failed).then(|| self.sentence(&view))
    }

    /// Whether there is nothing more to wait for.
    pub fn is_settled(&self) -> bool {
        let state = self.view.borrow().state;
        match state {
            State::Ready => true,
            State::Failed | State::Stopped | State::Quarantined | State::Frozen => !self.required,
            // Still on its way, or about to be tried again.
            State::Starting | State::Stopping | State::Backoff => false,
        }
    }

    fn sentence(&self, view: &ServiceView) -> String {
        format!(
            "requires {}, which is {}: {}",
            self.name, view.state, view.reason
        )
    }
}

/// Waits until one of them has changed since it was looked at last. One whose service is gone
/// changes no more.
pub async fn any_changed(dependencies: &mut [Dependency]) {
    let mut waits: Vec<_> = dependencies
        .iter_mut()
        .map(|dependency| {
            Some(Box::pin(async {
                if dependency.view.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            }))
        })
        .collect();
    let mut all = pin!(poll_fn(|context| {
        for wait in waits.iter_mut().flatten() {
            if Future::poll(wait.as_mut(), context).is_ready() {
                return Poll::Ready(());
            }
        }
        Poll::Pending
    }));
    all.as_mut().await;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dependency(state: State, required: bool) -> (watch::Sender<ServiceView>, Dependency) {
        let mut view = ServiceView::initial(false);
        view.state = state;
        let (sender, view) = watch::channel(view);
        let name = "base".to_owned();
        (
            sender,
            Dependency {
                name,
                required,
                view,
            },
        )
    }

    #[test]
    fn what_is_required_must_be_there_and_what_is_not_need_only_be_settled() {
        for (state, settled, failure) in [
            (State::Ready, true, false),
            (State::Starting, false, false),
            (State::Backoff, false, false),
            (State::Frozen, false, false),
            (State::Stopped, false, true),
            (State::Failed, false, true),
            (State::Quarantined, false, true),
        ] {
            let (_sender, required) = dependency(state, true);
            assert_eq!(required.is_settled(), settled, "{state}");
            assert_eq!(required.failure().is_some(), failure, "{state}");
            let good = required.failed_for_good();
            assert_eq!(good.is_some(), state == State::Failed, "{state}");
            let (_sender, wanted) = dependency(state, false);
            let waits = matches!(state, State::Starting | State::Backoff);
            assert_eq!(wanted.is_settled(), !waits, "{state}");
            assert_eq!(wanted.failure(), None);
        }
        let (sender, required) = dependency(State::Stopped, true);
        sender.send_modify(|view| view.unmet = true);
        assert_eq!(required.failure(), None);
        assert_eq!(
            required.unmet().unwrap(),
            "requires base, which is stopped: not started"
        );
    }

    #[tokio::test]
    async fn a_change_of_any_wakes_and_the_end_of_one_does_not() {
        let (first_sender, first) = dependency(State::Ready, true);
        let (second_sender, second) = dependency(State::Starting, true);
        let mut both = [first, second];
        drop(first_sender);
        let mut waiting = Box::pin(any_changed(&mut both));
        let soon = std::time::Duration::from_millis(20);
        assert!(tokio::time::timeout(soon, &mut waiting).await.is_err());
        second_sender.send_modify(|view| view.state = State::Ready);
        waiting.await;
    }
}
