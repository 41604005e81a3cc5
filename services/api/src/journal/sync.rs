//! When what was written is made to outlive a cut of power.
//!
//! A card wears with every write of a block: five seconds of lines are synced together. What is
//! severe is likely to be the last that a box says, so it is synced sooner, but a flood of errors
//! is no reason to write a block for each.

use std::time::{Duration, Instant};

/// Longest that a line waits to be synced: what a cut of power may take.
pub const EVERY: Duration = Duration::from_secs(5);

/// The same for errors, and the least time between two syncs for them.
pub const EVERY_ERROR: Duration = Duration::from_secs(1);

/// Level from which on a line is an error.
const ERROR: u8 = 3;

/// What has not been synced.
#[derive(Debug, Default)]
pub struct Syncs {
    due: Option<Instant>,
    last: Option<Instant>,
}

impl Syncs {
    /// A line of that level has been written.
    pub fn written(&mut self, level: u8, now: Instant) {
        let due = if level <= ERROR {
            let earliest = self.last.map_or(now, |last| last + EVERY_ERROR);
            earliest.max(now)
        } else {
            now + EVERY
        };
        self.due = Some(self.due.map_or(due, |earlier| earlier.min(due)));
    }

    /// When to sync; never as long as nothing was written.
    pub fn due(&self) -> Option<Instant> {
        self.due
    }

    /// All has been synced.
    pub fn synced(&mut self, now: Instant) {
        self.due = None;
        self.last = Some(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_synced_together_and_errors_soon() {
        let start = Instant::now();
        let mut syncs = Syncs::default();
        assert_eq!(syncs.due(), None);
        syncs.written(6, start);
        syncs.written(6, start + Duration::from_secs(3));
        assert_eq!(syncs.due(), Some(start + EVERY));
        // The first error at once, the next a second later.
        syncs.written(3, start + Duration::from_secs(3));
        assert_eq!(syncs.due(), Some(start + Duration::from_secs(3)));
        syncs.synced(start + Duration::from_secs(3));
        assert_eq!(syncs.due(), None);
        syncs.written(2, start + Duration::from_millis(3100));
        assert_eq!(syncs.due(), Some(start + Duration::from_secs(4)));
    }
}
