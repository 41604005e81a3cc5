//! The end of the machine: flush, power off, restart. Only PID 1 calls this, as its very last act.

use rustix::system::RebootCommand;

use crate::error::{SysError, Told};

/// Writes every dirty page of every file system out and waits for it.
pub fn sync() {
    rustix::fs::sync();
}

/// Powers the machine off. Returns only on failure.
///
/// # Errors
/// No `CAP_SYS_BOOT`, or the firmware cannot (the kernel then halts instead).
pub fn power_off() -> Result<(), SysError> {
    rustix::system::reboot(RebootCommand::PowerOff).told("power off", "the machine")
}

/// Restarts the machine. Returns only on failure.
///
/// # Errors
/// No `CAP_SYS_BOOT`.
pub fn reboot() -> Result<(), SysError> {
    rustix::system::reboot(RebootCommand::Restart).told("restart", "the machine")
}

/// Makes Ctrl-Alt-Del send SIGINT to PID 1 instead of restarting at once.
///
/// # Errors
/// No `CAP_SYS_BOOT`.
pub fn disable_ctrl_alt_del() -> Result<(), SysError> {
    rustix::system::reboot(RebootCommand::CadOff).told("take over", "Ctrl-Alt-Del")
}
