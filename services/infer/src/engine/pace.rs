//! How many tokens of a prompt a pass reads: as many as its time allows on this machine.

use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Prompt tokens read in one pass when nobody waits for a token: as many as are read in that time, within
/// that range. Larger passes are faster, but a client that leaves and a service that stops wait for the
/// end of the current one.
pub(super) const ALONE: (Duration, RangeInclusive<usize>) = (Duration::from_secs(1), 32..=256);

/// As many while others wait for their tokens.
pub(super) const BESIDE_OTHERS: (Duration, RangeInclusive<usize>) =
    (Duration::from_millis(250), 16..=64);

/// How fast a model reads prompts on this machine.
#[derive(Default)]
pub(super) struct Pace {
    /// Nanoseconds for a token; none before the first pass.
    nanoseconds: AtomicU64,
}

impl Pace {
    /// Prompt tokens of a pass.
    pub(super) fn tokens(&self, (time, range): &(Duration, RangeInclusive<usize>)) -> usize {
        let each = match self.nanoseconds.load(Ordering::Relaxed) {
            // What is slow must not begin with the most.
            0 => return (*range.end()).min(64),
            each => u128::from(each),
        };
        let tokens = usize::try_from(time.as_nanos() / each).unwrap_or(usize::MAX);
        let tokens = tokens.clamp(*range.start(), *range.end());
        tokens / range.start() * range.start()
    }

    /// Notes how long a pass took.
    pub(super) fn note(&self, tokens: usize, time: Duration) {
        let each = time.as_nanos() / tokens.max(1) as u128;
        let each = u64::try_from(each).unwrap_or(u64::MAX).max(1);
        self.nanoseconds.store(each, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pass_takes_about_its_time() {
        let pace = Pace::default();
        assert_eq!(
            [64, 64],
            [&ALONE, &BESIDE_OTHERS].map(|pass| pace.tokens(pass))
        );
        for (milliseconds, alone, beside) in
            [(1, 256, 64), (5, 192, 48), (10, 96, 16), (900, 32, 16)]
        {
            pace.note(64, Duration::from_millis(64 * milliseconds));
            let found = [&ALONE, &BESIDE_OTHERS].map(|pass| pace.tokens(pass));
            assert_eq!(found, [alone, beside], "{milliseconds} ms a token");
        }
        pace.note(1, Duration::ZERO);
        assert_eq!(pace.tokens(&ALONE), 256);
    }
}
