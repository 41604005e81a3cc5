//! What a task does about what its service says, needs, and meets.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use kos_manifest::control::State;
use kos_manifest::service::PressureResponse;
use kos_sys::sockets::{Received, receive};
use tokio::time::Instant;

use super::ServiceTask;
use crate::lifecycle::Event;
use crate::notify::{self, Budget, Said};

/// Most notification datagrams taken in one turn of the loop.
const MAX_NOTIFICATIONS_PER_TURN: usize = 32;

impl ServiceTask {
    /// Hears what is in the service's socket now. Only its own processes can reach it.
    pub(super) fn listen(&mut self) {
        let mut all = Vec::new();
        receive_all(self.notify.get_ref(), &mut self.budget, &mut all);
        for said in all {
            self.heed(said);
        }
    }

    pub(super) fn heed(&mut self, said: Said) {
        // A process that is gone has nothing more to say about the next one.
        if self.process.is_none() {
            return;
        }
        // Its state may be worth a line of PID 1's log; that it says the same again is not.
        self.quiet = self.life.state() == State::Ready;
        if let Some(text) = said.status
            && text != self.status_text
        {
            self.status_text = text;
            self.publish();
        }
        if let Some(more) = said.extend {
            let milliseconds = u64::try_from(more.as_millis()).unwrap_or(u64::MAX);
            self.take(Event::Extend(milliseconds));
        }
        if said.reloading {
            self.take(Event::Reloading);
        }
        if said.ready {
            self.take(Event::Notified);
        }
        self.quiet = false;
        if let (Some(wanted), Some(most)) = (said.watchdog, self.service.watchdog) {
            // The manifest's is the longest silence; a program may promise to speak more often.
            self.watchdog.period = Some(wanted.clamp(Duration::from_millis(1), most));
            self.watchdog.due = None;
        }
        if said.alive {
            self.watchdog.due = None;
        }
        self.guard();
        if said.hangs {
            let reason = "says that it hangs (WATCHDOG=trigger)".to_owned();
            self.take(Event::WatchdogMissed(reason));
        }
        if said.stopping {
            self.take(Event::Leaving);
        }
    }

    /// Arms the watchdog while the service is watched, and only then.
    pub(super) fn guard(&mut self) {
        if !self.life.is_watched() {
            self.watchdog.due = None;
            return;
        }
        if let (Some(period), None) = (self.watchdog.period, self.watchdog.due) {
            self.watchdog.due = Instant::now().checked_add(period);
        }
    }

    pub(super) fn watchdog_missed(&mut self) {
        // What it said in time may still be in its socket.
        self.listen();
        if self.watchdog.due.is_none_or(|due| due > Instant::now()) {
            return;
        }
        let seconds = self.watchdog.period.unwrap_or_default().as_secs_f32();
        let reason = format!("missed its watchdog: silent for longer than {seconds} s");
        self.take(Event::WatchdogMissed(reason));
    }

    /// Looks what of the cgroup's counters moved.
    pub(super) fn look_at_group(&mut self) {
        let Some(group) = &self.group else { return };
        if self.life.is_freezing() && group.cgroup().frozen().unwrap_or_default() {
            self.take(Event::Froze);
        }
        let met = self
            .process
            .as_ref()
            .and_then(|process| process.limit_met(&self.service.limits));
        if let Some(remark) = met {
            self.remark(remark);
        }
        self.tidy();
    }

    /// Does what a rule says about waiting too long.
    pub(super) fn relieve(&mut self, response: PressureResponse, why: String) {
        if !self.life.is_watched() {
            return;
        }
        match response {
            PressureResponse::Tell => self.remark(why),
            PressureResponse::Signal(signal) => {
                let sent = match &self.process {
                    Some(process) => process.signal_program(signal),
                    None => Ok(()),
                };
                match sent {
                    Ok(()) => self.remark(format!(
                        "{why}; sent {}",
                        kos_manifest::signal::name(signal)
                    )),
                    Err(error) => self.remark(format!("{why}; {error:#}")),
                }
            }
            PressureResponse::Freeze(time) => self.take(Event::Freeze {
                reason: format!("{why}; frozen for {} s", time.as_secs_f32()),
                for_ms: Some(u64::try_from(time.as_millis()).unwrap_or(u64::MAX)),
            }),
            PressureResponse::Restart => self.take(Event::Unfit(why)),
        }
    }

    fn remark(&mut self, remark: String) {
        if self.life.state() == State::Ready && self.life.reason() != remark {
            self.life.remark(remark);
            self.publish();
        }
    }
}

/// Takes the datagrams that are there, within bounds; says whether that was all.
pub(super) fn receive_all(socket: &OwnedFd, budget: &mut Budget, all: &mut Vec<Said>) -> bool {
    for _ in 0..MAX_NOTIFICATIONS_PER_TURN {
        if !budget.take(Instant::now()) {
            return false;
        }
        match receive(socket.as_fd()) {
            Ok(Received::Packet(packet)) => all.push(notify::parse(&packet.bytes)),
            Ok(Received::Nothing | Received::Closed) | Err(_) => return true,
        }
    }
    false
}
