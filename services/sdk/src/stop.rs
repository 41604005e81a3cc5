//! Stopping: waits for PID 1's SIGTERM, or for Ctrl-C when started by hand.

use tokio::signal::unix::{SignalKind, signal};

/// Resolves when the service has been asked to stop, and tells PID 1 that it heard.
///
/// # Errors
/// When the signal handlers cannot be installed.
pub async fn requested() -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    crate::notify::stopping();
    Ok(())
}
