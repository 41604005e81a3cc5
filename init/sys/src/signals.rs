//! Signals of a single-threaded process: back to the defaults, or waited for instead of handled.

use std::io;
use std::mem::MaybeUninit;

pub use rustix::process::Signal;

use crate::error::{SysError, Told};

/// The signal of this number, if it has a name.
pub fn from_number(number: i32) -> Option<Signal> {
    Signal::from_named_raw(number)
}

/// The kernel knows signals 1 to 64.
const LAST_SIGNAL: libc::c_int = 64;

/// Gives every signal its default disposition and blocks none: what a fresh program expects.
///
/// A parent's mask would survive `exec`, and so would its ignored signals. Async-signal-safe: system
/// calls only, so it may run between fork and exec.
pub fn reset() {
    give_defaults();
    set_mask(&empty());
}

/// Gives every signal its default disposition, and leaves those blocked that are. A parent's ignored
/// signals would survive `exec` (the Rust runtime ignores SIGPIPE). Async-signal-safe.
pub(crate) fn give_defaults() {
    // All zero: SIG_DFL, no flags, no restorer, empty mask; the kernel's structure is at most
    // this long on the architectures of kOS (32 bytes on x86-64, 24 on aarch64).
    let default = [0u64; 4];
    for signal in 1..=LAST_SIGNAL {
        // The raw call, because glibc's sigaction refuses the two real-time signals it uses itself.
        // SAFETY: `default` is readable for the whole structure, the old action is not asked for,
        // and 8 is the size of the kernel's signal set. SIGKILL and SIGSTOP fail, harmlessly.
        unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                default.as_ptr(),
                std::ptr::null_mut::<u8>(),
                8usize,
            )
        };
    }
}

/// A set of signals that are blocked and are collected with [`Waited::wait`].
#[derive(Debug)]
pub struct Waited {
    set: libc::sigset_t,
}

impl Waited {
    /// Blocks `signals` in this thread; from now on none of them is lost, handled or ignored.
    pub fn block(signals: &[i32]) -> Self {
        let mut set = empty();
        for signal in signals {
            // SAFETY: `set` is an initialised signal set; a bad number only makes the call fail.
            unsafe { libc::sigaddset(&mut set, *signal) };
        }
        // SAFETY: `set` is an initialised signal set and the old mask is not asked for.
        unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &set, std::ptr::null_mut()) };
        Waited { set }
    }

    /// Waits for one of the signals and returns its number.
    ///
    /// # Errors
    /// The kernel refuses; it has no reason to.
    pub fn wait(&self) -> Result<i32, SysError> {
        loop {
            // SAFETY: `set` is an initialised signal set and the details are not asked for.
            let signal = unsafe { libc::sigwaitinfo(&self.set, std::ptr::null_mut()) };
            if signal > 0 {
                return Ok(signal);
            }
            let error = io::Error::last_os_error();
            if error.kind() != io::ErrorKind::Interrupted {
                return Err(error).told("wait for", "a signal");
            }
        }
    }
}

/// All signals blocked for as long as this lives, then the former mask again.
pub(crate) struct AllBlocked {
    former: libc::sigset_t,
}

impl AllBlocked {
    /// Blocks every signal in this thread.
    pub(crate) fn new() -> Self {
        let mut all = empty();
        let mut former = empty();
        // SAFETY: both sets are initialised and live on this stack.
        unsafe {
            libc::sigfillset(&mut all);
            libc::pthread_sigmask(libc::SIG_SETMASK, &all, &mut former);
        }
        AllBlocked { former }
    }
}

impl Drop for AllBlocked {
    fn drop(&mut self) {
        set_mask(&self.former);
    }
}

fn set_mask(mask: &libc::sigset_t) {
    // SAFETY: `mask` is an initialised signal set and the old one is not asked for. The call is
    // async-signal-safe.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, mask, std::ptr::null_mut()) };
}

fn empty() -> libc::sigset_t {
    let mut set = MaybeUninit::uninit();
    // SAFETY: sigemptyset initialises the whole set and cannot fail on a valid pointer.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        set.assume_init()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_numbers_of_signals_are_signals() {
        assert_eq!(from_number(libc::SIGKILL), Some(Signal::KILL));
        assert_eq!((from_number(0), from_number(-1)), (None, None));
    }
}
