//! Clocks: those that do not jump, the one that does, and how to hear that it has.

use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::io::Errno;
use rustix::time::{
    ClockId, Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, clock_gettime,
    timerfd_create, timerfd_settime,
};

use crate::error::{SysError, Told};

/// A time that does not come while the machine runs: the year 2200.
const NEVER_SECONDS: i64 = 7_258_118_400;

/// Milliseconds since the machine started, sleep included (`CLOCK_BOOTTIME`).
pub fn boottime_milliseconds() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    // Both parts are non-negative: the clock starts at zero.
    now.tv_sec.unsigned_abs() * 1000 + now.tv_nsec.unsigned_abs() / 1_000_000
}

/// Time since 1970 in UTC, as the machine has it; zero when its clock is before.
pub fn unix_time() -> Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
}

/// A descriptor that is readable when somebody has set the clock.
#[derive(Debug)]
pub struct ClockSet {
    timer: OwnedFd,
}

impl ClockSet {
    /// Listens from now on.
    ///
    /// # Errors
    /// No descriptors.
    pub fn new() -> Result<Self, SysError> {
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        let timer =
            timerfd_create(TimerfdClockId::Realtime, flags).told("make", "a timer of the clock")?;
        let watch = ClockSet { timer };
        watch.arm()?;
        Ok(watch)
    }

    /// Whether the clock has been set since the last time that this was asked.
    ///
    /// # Errors
    /// The descriptor is broken.
    pub fn was_set(&self) -> Result<bool, SysError> {
        let mut expirations = [0u8; 8];
        match rustix::io::read(&self.timer, &mut expirations) {
            // ECANCELED is the jump; an expiration would be the year 2200.
            Err(Errno::CANCELED) | Ok(_) => {
                self.arm()?;
                Ok(true)
            }
            Err(Errno::AGAIN | Errno::INTR) => Ok(false),
            Err(error) => Err(error).told("read", "a timer of the clock"),
        }
    }

    fn arm(&self) -> Result<(), SysError> {
        let never = Itimerspec {
            it_interval: Timespec {
                tv_sec: 0,
                tv_nsec: 0,
            },
            it_value: Timespec {
                tv_sec: NEVER_SECONDS,
                tv_nsec: 0,
            },
        };
        let flags = TimerfdTimerFlags::ABSTIME | TimerfdTimerFlags::CANCEL_ON_SET;
        timerfd_settime(&self.timer, flags, &never)
            .map(|_| ())
            .told("arm", "a timer of the clock")
    }
}

impl AsRawFd for ClockSet {
    fn as_raw_fd(&self) -> RawFd {
        self.timer.as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_nobody_sets_is_quiet() {
        assert!(!ClockSet::new().unwrap().was_set().unwrap());
        assert!(unix_time().as_secs() > 1_700_000_000);
    }
}
