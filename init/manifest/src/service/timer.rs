//! When the clock starts a service.

use std::time::Duration;

use toml::Spanned;

use super::{Schedule, Timer};
use crate::error::ManifestError;
use crate::raw::RawTimer;
use crate::source::Source;

/// Days of the week in the order of [`Schedule::At`].
const WEEKDAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
const DAY: Duration = Duration::from_secs(86_400);

/// `name` is where an error points when neither key is given.
pub(super) fn parse(
    source: &Source<'_>,
    raw: &RawTimer,
    name: &Spanned<String>,
) -> Result<Timer, ManifestError> {
    let one = "one of 'every' and 'at'";
    let schedule = match (&raw.every, &raw.at) {
        (Some(_), Some(at)) => {
            return Err(source.error("timer", at, format!("found both, allowed: {one}")));
        }
        (None, None) => {
            return Err(source.error("timer", name, format!("found neither, allowed: {one}")));
        }
        (every @ Some(_), None) => Schedule::Every(source.time(
            "timer.every",
            every.as_ref(),
            DAY,
            Duration::from_secs(1)..=365 * DAY,
        )?),
        (None, Some(at)) => at_time(at.get_ref()).ok_or_else(|| {
            let message = format!(
                "found {:?}, allowed: a time of the day such as '03:30', or a weekday and a time \
                 such as 'sun 03:30', the weekday one of {}",
                at.get_ref(),
                WEEKDAYS.join(", ")
            );
            source.error("timer.at", at, message)
        })?,
    };
    let spread = source.time(
        "timer.spread",
        raw.spread.as_ref(),
        Duration::ZERO,
        Duration::ZERO..=7 * DAY,
    )?;
    Ok(Timer { schedule, spread })
}

fn at_time(text: &str) -> Option<Schedule> {
    let (weekday, time) = match text.split_once(' ') {
        None => (None, text),
        Some((day, time)) => {
            let index = WEEKDAYS.iter().position(|known| *known == day)?;
            (Some(u8::try_from(index).ok()?), time)
        }
    };
    let (hour, minute) = time.split_once(':')?;
    let two_digits = |text: &str, below: u16| {
        let plain = text.len() == 2 && text.bytes().all(|b| b.is_ascii_digit());
        let number: u16 = text.parse().ok()?;
        (plain && number < below).then_some(number)
    };
    Some(Schedule::At {
        weekday,
        minute: two_digits(hour, 24)? * 60 + two_digits(minute, 60)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_the_day_and_of_the_week() {
        let at = |weekday, minute| Some(Schedule::At { weekday, minute });
        assert_eq!(at_time("00:00"), at(None, 0));
        assert_eq!(at_time("23:59"), at(None, 1439));
        assert_eq!(at_time("mon 03:30"), at(Some(0), 210));
        assert_eq!(at_time("sun 03:30"), at(Some(6), 210));
        for bad in [
            "",
            "3:30",
            "24:00",
            "00:60",
            "+1:30",
            "sun",
            "Sun 03:30",
            "sun  03:30",
            "03:30 sun",
            "03:30:00",
        ] {
            assert_eq!(at_time(bad), None, "{bad}");
        }
    }
}
