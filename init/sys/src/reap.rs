//! Collecting dead children. Exactly one owner per process calls this: two would race.

use rustix::process::{WaitOptions, wait};

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// It exited with this code.
    Code(i32),
    /// This signal killed it.
    Signal(i32),
}

/// Collects one dead child, without waiting: `None` when there is none (any more).
///
/// SIGCHLD coalesces, so the caller repeats this until it returns `None`.
pub fn next() -> Option<(i32, Exit)> {
    loop {
        match wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) => {
                let exit = match (status.exit_status(), status.terminating_signal()) {
                    (Some(code), _) => Exit::Code(code),
                    (None, Some(signal)) => Exit::Signal(signal),
                    // Stopped or continued: not asked for, and not an end.
                    (None, None) => continue,
                };
                return Some((pid.as_raw_pid(), exit));
            }
            Ok(None) => return None,
            Err(rustix::io::Errno::INTR) => {}
            // ECHILD: no children at all.
            Err(_) => return None,
        }
    }
}
