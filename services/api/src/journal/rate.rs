//! How much one service may write to the disk.
//!
//! A service that says a megabyte in a second, which PID 1 allows, would push every other line out
//! of the kept log within a minute and wear a card out within a year. It may say a burst at once,
//! and a calm stream for ever; what is beyond is counted and the count is kept.

use std::time::Instant;

/// Bytes that may be written at once: a long stack trace, a start with all its details.
pub const BURST: usize = 1024 * 1024;

/// Bytes per second in the long run: 40 lines, or 350 MB in a day of a service that never rests.
const PER_SECOND: usize = 4 * 1024;

/// One service's allowance.
#[derive(Debug)]
pub struct Rate {
    left: usize,
    filled: Instant,
    held: bool,
}

impl Rate {
    /// A full one.
    pub fn new(now: Instant) -> Self {
        Rate {
            left: BURST,
            filled: now,
            held: false,
        }
    }

    /// Whether so many bytes may be written now; they are then taken from the allowance. Once it
    /// is used up it must fill by an eighth first, so that gaps are few and long rather than many.
    pub fn take(&mut self, bytes: usize, now: Instant) -> bool {
        let elapsed = now.duration_since(self.filled).as_millis();
        let gained = usize::try_from(elapsed)
            .unwrap_or(usize::MAX)
            .saturating_mul(PER_SECOND)
            / 1000;
        if gained > 0 {
            self.left = self.left.saturating_add(gained).min(BURST);
            self.filled = now;
        }
        let needed = if self.held { BURST / 8 } else { bytes };
        self.held = self.left < needed;
        if self.held {
            return false;
        }
        self.left = self.left.saturating_sub(bytes);
        true
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_burst_passes_a_flood_does_not_and_calm_goes_on_for_ever() {
        let start = Instant::now();
        let mut rate = Rate::new(start);
        assert!((0..1024).all(|_| rate.take(1024, start)));
        assert!(!rate.take(1024, start));
        assert!(!rate.take(1, start + Duration::from_secs(1)));
        let later = start + Duration::from_secs(33);
        let passed = (0..1000).filter(|_| rate.take(1024, later)).count();
        assert_eq!(passed, 132);
        // A service that stays below is never held.
        let mut rate = Rate::new(start);
        assert!((0..100_000_u64).all(|n| rate.take(400, start + Duration::from_millis(100 * n))));
    }
}
