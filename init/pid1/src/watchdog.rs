//! The hardware watchdog is fed by a PID 1 that does its work, and by nothing else.
//!
//! A beat goes through everything that supervising needs: the event loop and its timers, the
//! reaper, and the task of a service, another one each time. Only what comes back from all of
//! them feeds the watchdog. There is no thread for it: a thread would feed on while the loop
//! hangs.
//!
//! From its start to the last act the watchdog is never turned off. Boot and shutdown are lists of
//! phases, and each phase has its own time.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kos_sys::watchdog::{Found, Watchdog};
use tokio::time::{Instant, sleep};

use crate::console::{Console, lock};
use crate::record::Records;
use crate::supervisor::Supervisor;

/// How long the loop may be away. Its longest turn takes milliseconds; a machine that swaps, or an
/// emulator on a busy host, was seen to stand still for several seconds. Longer than the ten
/// seconds for which the kernel shows a panic before it restarts by itself.
const LOOP_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a phase of boot or shutdown may take. The longest that is right is the services' way
/// down (45 s and 10 s more); the journal of a large disk can take a minute.
const PHASE_TIMEOUT: Duration = Duration::from_secs(180);

/// Between two beats: six must be missed before the box is reset.
const BEAT: Duration = Duration::from_secs(5);

/// Between two marks that the box runs: what a mark costs is nothing, but sixty-four KiB of them
/// should reach hours back.
const MARK_EVERY: Duration = Duration::from_secs(60);

/// The box's watchdog, if it has one. Cloning gives another handle to the same one.
#[derive(Clone)]
pub struct Keeper {
    state: Arc<Mutex<State>>,
    console: Console,
}

struct State {
    watchdog: Option<Watchdog>,
    problem: String,
}

/// What others see of the watchdog.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatchdogView {
    /// Its identity; empty when none runs.
    pub identity: String,
    /// How long it waits.
    pub timeout: Duration,
    /// Why none runs; empty when one does.
    pub problem: String,
}

impl Keeper {
    /// Nothing runs yet.
    pub fn new(console: &Console) -> Self {
        let state = State {
            watchdog: None,
            problem: "It was not looked for yet.".to_owned(),
        };
        Keeper {
            state: Arc::new(Mutex::new(state)),
            console: console.clone(),
        }
    }

    /// Starts the watchdog that the board names, or the first that is there, with the time of a
    /// phase. Says whether it was what reset the machine.
    pub fn start(&self, identity: Option<&str>) -> bool {
        let (mut fired, mut state) = (false, lock(&self.state));
        let found = Found::find(Path::new("/sys"), Path::new("/dev"), identity);
        let armed = found.and_then(|found| {
            fired = found.as_ref().is_some_and(|found| found.fired);
            found.map(|found| found.arm(PHASE_TIMEOUT)).transpose()
        });
        match armed {
            Ok(Some(watchdog)) => {
                let (name, seconds) = (watchdog.identity(), watchdog.timeout().as_secs());
                self.console
                    .say(6, &format!("watchdog {name} runs, {seconds} s"));
                state.problem.clear();
                state.watchdog = Some(watchdog);
            }
            Ok(None) => "This machine has no watchdog.".clone_into(&mut state.problem),
            Err(error) => {
                state.problem = format!("The watchdog does not work: {}.", error.full());
                self.console.say(4, &state.problem);
            }
        }
        fired
    }

    /// None is started, and this is why.
    pub fn leave_off(&self, reason: &str) {
        reason.clone_into(&mut lock(&self.state).problem);
        self.console.say(4, &format!("no watchdog runs: {reason}"));
    }

    /// A phase begins: it has the watchdog's whole time.
    pub fn phase(&self) {
        self.set(PHASE_TIMEOUT);
    }

    /// A beat has come back.
    fn beat(&self) {
        self.set(LOOP_TIMEOUT);
    }

    fn set(&self, timeout: Duration) {
        let mut state = lock(&self.state);
        let Some(watchdog) = &mut state.watchdog else {
            return;
        };
        // A new time is food as well. Hardware that cannot wait so long keeps the time that it has,
        // and is fed all the same.
        let result = if watchdog.timeout() == timeout {
            watchdog.feed()
        } else {
            watchdog.set_timeout(timeout).or_else(|_| watchdog.feed())
        };
        if let Err(error) = result {
            state.problem = format!("The watchdog is not fed: {}.", error.full());
        }
    }

    /// How it is.
    pub fn view(&self) -> WatchdogView {
        let state = lock(&self.state);
        let watchdog = state.watchdog.as_ref();
        WatchdogView {
            identity: watchdog.map_or_else(String::new, |dog| dog.identity().to_owned()),
            timeout: watchdog.map_or(Duration::ZERO, Watchdog::timeout),
            problem: state.problem.clone(),
        }
    }
}

/// Beats until the box goes down.
pub async fn heartbeat(keeper: Keeper, records: Records, supervisor: Arc<Supervisor>) {
    let mut marked = Instant::now();
    // The first at once: from then on it is the loop's own, shorter time that counts.
    for turn in 0.. {
        let shared = supervisor.shared();
        shared.reaper.round_trip().await;
        let lives = supervisor.round_trip(turn).await;
        if shared.shutdown.is_requested() {
            return;
        }
        match lives {
            Ok(()) => keeper.beat(),
            // A task that is gone leaves its service to nobody: such a PID 1 is not alive.
            Err(error) => shared.console.say(2, &format!("no heartbeat: {error}")),
        }
        if marked.elapsed() >= MARK_EVERY {
            marked = Instant::now();
            records.alive();
        }
        tokio::select! {
            () = sleep(BEAT) => {}
            // From now on the phases of the way down feed it.
            _ = shared.shutdown.requested() => return,
        }
    }
}

/// `kos.break=hang-init:SECONDS`: what the watchdog is for, on purpose.
pub async fn hang_after(console: Console, delay: Duration) {
    sleep(delay).await;
    console.say(2, "PID 1 hangs now, as the kernel's arguments say");
    loop {
        // Not a task that waits: the loop itself stands still.
        std::thread::sleep(Duration::from_secs(3600));
    }
}
