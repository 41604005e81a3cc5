//! Stopping: PID 1's SIGTERM, or Ctrl-C when the service was started by hand.

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Hears requests to stop from the moment it is made. Make it before the service says that it is
/// ready: a SIGTERM that nobody handles kills.
#[derive(Debug)]
pub struct Stop {
    terminate: Signal,
    interrupt: Signal,
}

impl Stop {
    /// Installs the handlers.
    ///
    /// # Errors
    /// When the kernel refuses them.
    pub fn listen() -> std::io::Result<Self> {
        Ok(Stop {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Waits for a request to stop, and tells PID 1 that it was heard. May be dropped and called
    /// again without losing one.
    pub async fn requested(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
        crate::notify::stopping();
    }
}
