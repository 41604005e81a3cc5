//! Clocks that do not jump.

use rustix::time::{ClockId, clock_gettime};

/// Milliseconds since the machine started, sleep included (`CLOCK_BOOTTIME`).
pub fn boottime_milliseconds() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    // Both parts are non-negative: the clock starts at zero.
    now.tv_sec.unsigned_abs() * 1000 + now.tv_nsec.unsigned_abs() / 1_000_000
}
