//! What the launcher tells PID 1, and the error that knows in which step it happened.

use std::os::fd::{AsFd, OwnedFd};

use anyhow::Context;
use kos_manifest::launch::{LaunchReport, MAX_REPORT_BYTES, REPORT_FD, Step};
use kos_sys::sockets;

/// A step that failed, and why.
#[derive(Debug)]
pub struct Failure {
    step: Step,
    error: anyhow::Error,
}

/// Gives an error its step.
pub trait At<T> {
    /// Turns the error into a [`Failure`].
    fn at(self, step: Step) -> Result<T, Failure>;
}

impl<T, E: Into<anyhow::Error>> At<T> for Result<T, E> {
    fn at(self, step: Step) -> Result<T, Failure> {
        self.map_err(|error| Failure {
            step,
            error: error.into(),
        })
    }
}

/// The socket to PID 1.
#[derive(Debug)]
pub struct Reports {
    socket: OwnedFd,
}

impl Reports {
    /// Takes the socket from where PID 1 put it. The program will not have it.
    pub fn take() -> anyhow::Result<Self> {
        let socket = sockets::take_inherited(REPORT_FD).context("there is no report socket")?;
        Ok(Reports { socket })
    }

    /// Sends a report. That PID 1 is gone is not the launcher's trouble: the machine is going down.
    pub fn send(&self, report: &LaunchReport) {
        if let Ok(text) = serde_json::to_vec(report) {
            let _ = sockets::send(self.socket.as_fd(), &text);
        }
    }

    /// Says which step failed, and why, within the length of a packet.
    pub fn failed(&self, failure: &Failure) {
        let mut error = format!("{:#}", failure.error);
        // A character takes at most six bytes as JSON.
        let longest = MAX_REPORT_BYTES / 6 - 64;
        if let Some((end, _)) = error.char_indices().nth(longest) {
            error.truncate(end);
        }
        self.send(&LaunchReport::Failed {
            step: failure.step,
            error,
        });
    }
}
