//! The ways by which the world outside asks the box to go down: signals and the power button.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::console::Console;
use crate::descriptor;
use crate::record::Reason;
use crate::shutdown::End;
use crate::supervisor::Shared;

/// The signals that PID 1 takes, with handlers installed before the first child exists.
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    /// Installs the handlers.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn install() -> Result<Self> {
        let handler = |kind| signal(kind).context("cannot install a signal handler");
        Ok(Signals {
            terminate: handler(SignalKind::terminate())?,
            interrupt: handler(SignalKind::interrupt())?,
            hangup: handler(SignalKind::hangup())?,
        })
    }

    /// Turns signals into requests, for ever: SIGTERM turns off, SIGINT (the kernel's answer to
    /// Ctrl-Alt-Del) restarts, SIGHUP means nothing.
    pub async fn run(mut self, shared: Arc<Shared>) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => {
                    let reason = Reason::operator("signal", "SIGTERM was sent to PID 1");
                    shared.shutdown.request(End::PowerOff, reason);
                }
                _ = self.interrupt.recv() => {
                    let reason = Reason::operator("Ctrl-Alt-Del", "was pressed, or SIGINT was sent to PID 1");
                    shared.shutdown.request(End::Reboot, reason);
                }
                _ = self.hangup.recv() => {}
            }
        }
    }
}

/// Watches the power buttons that the machine has.
pub fn watch_buttons(shared: &Arc<Shared>) {
    match kos_sys::input::power_buttons(Path::new("/sys"), Path::new("/dev")) {
        Ok(buttons) => {
            for (_, button) in buttons {
                tokio::spawn(watch_button(button, shared.clone()));
            }
        }
        Err(error) => shared
            .console
            .say(4, &format!("no power button: {}", error.full())),
    }
}

async fn watch_button(button: OwnedFd, shared: Arc<Shared>) {
    let complain = |console: &Console, error: &dyn std::fmt::Display| {
        console.say(4, &format!("a power button is gone: {error}"));
    };
    let button = match descriptor::register(button) {
        Ok(button) => button,
        Err(error) => return complain(&shared.console, &error),
    };
    loop {
        let mut guard = match button.readable().await {
            Ok(guard) => guard,
            Err(error) => return complain(&shared.console, &error),
        };
        match kos_sys::input::read_power_key(button.get_ref().as_fd()) {
            Ok(true) => {
                let reason = Reason::operator("power button", "was pressed");
                shared.shutdown.request(End::PowerOff, reason);
            }
            Ok(false) => {}
            Err(error) => return complain(&shared.console, &error.full()),
        }
        guard.clear_ready();
    }
}
