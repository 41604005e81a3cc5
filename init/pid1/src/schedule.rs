//! When the clock starts a service.

use std::time::Duration;

use anyhow::Result;
use kos_manifest::service::{Schedule, Timer};
use kos_sys::clock::ClockSet;
use tokio::sync::watch;

use crate::console::Console;
use crate::descriptor;
use crate::stable_hash;

/// Before this the clock has not been set: no image of this system is older than 2026.
const CLOCK_IS_SET_SECONDS: u64 = 1_767_225_600;

const DAY_SECONDS: u64 = 24 * 60 * 60;

/// 1970 began on a Thursday, and Monday is day 0.
const FIRST_WEEKDAY: u64 = 3;

/// How long until the next start.
///
/// `since_start` is the time since the last start, or since the boot when there was none;
/// `unix` the time since 1970; `fired` the last start by this timer in the same time, so that the
/// minute of a start is not met twice. `None` when the clock has to be set first.
pub fn wait(
    timer: &Timer,
    offset: Duration,
    since_start: Duration,
    unix: Duration,
    fired: Option<Duration>,
) -> Option<Duration> {
    match timer.schedule {
        Schedule::Every(period) => Some((period + offset).saturating_sub(since_start)),
        Schedule::At { weekday, minute } => {
            if unix.as_secs() < CLOCK_IS_SET_SECONDS {
                return None;
            }
            let from = fired.map_or(unix, |fired| unix.max(fired + Duration::from_secs(1)));
            // The start of a day may be as late as the next one's morning.
            let first = (from.saturating_sub(offset).as_secs() / DAY_SECONDS).saturating_sub(1);
            let due = (first..first + 10)
                .filter(|day| {
                    weekday.is_none_or(|wanted| (day + FIRST_WEEKDAY) % 7 == u64::from(wanted))
                })
                .map(|day| Duration::from_secs(day * DAY_SECONDS + u64::from(minute) * 60) + offset)
                .find(|due| *due >= from)?;
            Some(due.saturating_sub(unix))
        }
    }
}

/// How much later a service starts on this machine than its schedule says: less than the spread,
/// another on each machine and for each service, the same each time.
pub fn offset(timer: &Timer, machine: u64, service: &str) -> Duration {
    let spread = u64::try_from(timer.spread.as_millis()).unwrap_or(u64::MAX);
    if spread == 0 {
        return Duration::ZERO;
    }
    let machine = machine.to_le_bytes();
    let pieces = [machine.as_slice(), service.as_bytes()];
    Duration::from_millis(stable_hash::hash(pieces) % spread)
}

/// Counts up each time that somebody sets the clock, for ever.
pub async fn watch_clock(set: watch::Sender<u64>, console: Console) {
    if let Err(error) = count_sets(&set).await {
        console.say(4, &format!("jumps of the clock are not noticed: {error:#}"));
    }
}

async fn count_sets(set: &watch::Sender<u64>) -> Result<()> {
    let clock = descriptor::register(ClockSet::new()?)?;
    loop {
        let mut guard = clock.readable().await?;
        if guard.get_inner().was_set()? {
            set.send_modify(|count| *count += 1);
        }
        guard.clear_ready();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-11-24 15:45:00 UTC, a Tuesday.
    const NOW: u64 = 1_795_535_100;

    fn at(weekday: Option<u8>, minute: u16) -> Timer {
        Timer {
            schedule: Schedule::At { weekday, minute },
            spread: Duration::ZERO,
        }
    }

    fn next(timer: &Timer, offset: u64, now: u64, fired: Option<u64>) -> Option<u64> {
        let seconds = Duration::from_secs;
        wait(
            timer,
            seconds(offset),
            Duration::ZERO,
            seconds(now),
            fired.map(seconds),
        )
        .map(|wait| wait.as_secs())
    }

    #[test]
    fn a_time_of_the_day_is_today_or_tomorrow() {
        assert_eq!(next(&at(None, 16 * 60), 0, NOW, None), Some(15 * 60));
        assert_eq!(
            next(&at(None, 15 * 60), 0, NOW, None),
            Some(DAY_SECONDS - 45 * 60)
        );
        // Now is in time, and once is enough.
        assert_eq!(next(&at(None, 15 * 60 + 45), 0, NOW, None), Some(0));
        assert_eq!(
            next(&at(None, 15 * 60 + 45), 0, NOW, Some(NOW)),
            Some(DAY_SECONDS)
        );
    }

    #[test]
    fn a_weekday_is_the_next_of_its_name() {
        assert_eq!(next(&at(Some(1), 16 * 60), 0, NOW, None), Some(15 * 60));
        assert_eq!(
            next(&at(Some(6), 15 * 60 + 45), 0, NOW, None),
            Some(5 * DAY_SECONDS)
        );
        assert_eq!(
            next(&at(Some(1), 15 * 60), 0, NOW, None),
            Some(7 * DAY_SECONDS - 45 * 60)
        );
    }

    #[test]
    fn a_spread_start_of_yesterday_may_still_come() {
        let late = at(None, 23 * 60);
        let morning = NOW - (15 * 60 + 45) * 60 + 60;
        assert_eq!(next(&late, 2 * 60 * 60, morning, None), Some(59 * 60));
    }

    #[test]
    fn nothing_starts_by_a_clock_that_was_not_set() {
        assert_eq!(next(&at(None, 0), 0, 1000, None), None);
    }

    #[test]
    fn a_period_counts_from_the_last_start() {
        let timer = Timer {
            schedule: Schedule::Every(Duration::from_secs(60)),
            spread: Duration::from_secs(10),
        };
        let seconds = Duration::from_secs;
        let wait = |since| wait(&timer, seconds(5), seconds(since), seconds(0), None);
        assert_eq!(wait(0), Some(seconds(65)));
        assert_eq!(wait(60), Some(seconds(5)));
        assert_eq!(wait(600), Some(seconds(0)));
        let offset = |machine, name| offset(&timer, machine, name).as_millis();
        // The same after each boot and each update.
        assert_eq!(
            [offset(1, "a"), offset(2, "a"), offset(1, "b")],
            [1_439, 4_658, 9_650]
        );
    }
}
