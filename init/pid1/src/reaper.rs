//! The one owner of `waitpid`: every child of PID 1 is reaped here, ours and the orphans.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use kos_sys::reap::Exit;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Notify, oneshot, watch};

use crate::console::lock;

/// Who waits for which process. Cloning gives another handle to the same table.
#[derive(Clone, Default)]
pub struct Reaper {
    expected: Arc<Mutex<HashMap<i32, oneshot::Sender<Exit>>>>,
    orphans: Arc<AtomicU64>,
    asked: Arc<Notify>,
    turns: watch::Sender<u64>,
}

impl Reaper {
    /// Says who wants to know how a process ends. To be called without an `await` between the
    /// process's start and this: the reaper runs on the same thread, so it cannot come between.
    pub fn expect(&self, pid: i32) -> oneshot::Receiver<Exit> {
        let (sender, receiver) = oneshot::channel();
        lock(&self.expected).insert(pid, sender);
        receiver
    }

    /// How many children were reaped that nobody waited for.
    pub fn orphans(&self) -> u64 {
        self.orphans.load(Ordering::Relaxed)
    }

    /// Reaps whatever has ended by now. SIGCHLD coalesces, so one signal may mean many children.
    pub fn reap(&self) {
        while let Some((pid, exit)) = kos_sys::reap::next() {
            match lock(&self.expected).remove(&pid) {
                // A service task that is gone no longer wants to know.
                Some(waiting) => drop(waiting.send(exit)),
                None => {
                    self.orphans.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    }

    /// Reaps for ever. `signals` was made before the first child.
    pub async fn run(self, mut signals: Signal) {
        loop {
            self.reap();
            self.turns.send_modify(|turns| *turns += 1);
            tokio::select! {
                signal = signals.recv() => if signal.is_none() {
                    return;
                },
                () = self.asked.notified() => {}
            }
        }
    }

    /// Waits until the reaper has come round once more, signal or not.
    pub async fn round_trip(&self) {
        let mut turns = self.turns.subscribe();
        let before = *turns.borrow_and_update();
        self.asked.notify_one();
        // The table holds the sender, so the channel does not close.
        let _ = turns.wait_for(|now| *now != before).await;
    }

    /// The signal that [`Reaper::run`] waits for.
    ///
    /// # Errors
    /// When the handler cannot be installed.
    pub fn signal() -> std::io::Result<Signal> {
        signal(SignalKind::child())
    }
}
