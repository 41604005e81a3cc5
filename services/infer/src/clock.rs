//! Times as Ollama writes them: RFC 3339, in UTC.

use std::time::{SystemTime, UNIX_EPOCH};

/// A moment in the civil calendar.
struct Civil {
    year: i64,
    month: i64,
    day: i64,
    hour: i64,
    minute: i64,
    second: i64,
    nanosecond: u32,
}

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

impl Civil {
    /// From seconds since 1970, by the calendar's cycle of 400 years (146,097 days).
    fn new(time: SystemTime) -> Self {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        let seconds = i64::try_from(since.as_secs()).unwrap_or(0);
        // Years are counted from March, so that a leap day is the last of its year.
        let days = seconds / 86_400 + 719_468;
        let cycle = days.div_euclid(146_097);
        let day_of_cycle = days.rem_euclid(146_097);
        let leaps = day_of_cycle / 1_460 - day_of_cycle / 36_524 + day_of_cycle / 146_096;
        let year_of_cycle = (day_of_cycle - leaps) / 365;
        let before = 365 * year_of_cycle + year_of_cycle / 4 - year_of_cycle / 100;
        let day_of_year = day_of_cycle - before;
        let month_from_march = (5 * day_of_year + 2) / 153;
        let month = (month_from_march + 2) % 12 + 1;
        let rest = seconds % 86_400;
        Self {
            year: cycle * 400 + year_of_cycle + i64::from(month <= 2),
            month,
            day: day_of_year - (153 * month_from_march + 2) / 5 + 1,
            hour: rest / 3600,
            minute: rest / 60 % 60,
            second: rest % 60,
            nanosecond: since.subsec_nanos(),
        }
    }
}

/// A time as RFC 3339 with nanoseconds: `2026-11-23T05:49:00.000000001Z`.
#[must_use]
pub fn rfc3339(time: SystemTime) -> String {
    let c = Civil::new(time);
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:09}Z",
        c.year, c.month, c.day, c.hour, c.minute, c.second, c.nanosecond
    )
}

/// Now, as RFC 3339.
#[must_use]
pub fn now() -> String {
    rfc3339(SystemTime::now())
}

/// Now, by the letters that chat templates use: `%d %m %Y %B %b %H %M %S %%`.
#[must_use]
pub fn strftime(format: &str) -> String {
    strftime_at(format, SystemTime::now())
}

fn strftime_at(format: &str, time: SystemTime) -> String {
    let c = Civil::new(time);
    let month = MONTHS[(c.month - 1) as usize];
    let mut text = String::new();
    let mut letters = format.chars();
    while let Some(letter) = letters.next() {
        if letter != '%' {
            text.push(letter);
            continue;
        }
        match letters.next() {
            Some('d') => text += &format!("{:02}", c.day),
            Some('m') => text += &format!("{:02}", c.month),
            Some('Y') => text += &format!("{:04}", c.year),
            Some('y') => text += &format!("{:02}", c.year % 100),
            Some('B') => text += month,
            Some('b') => text += &month[..3],
            Some('H') => text += &format!("{:02}", c.hour),
            Some('M') => text += &format!("{:02}", c.minute),
            Some('S') => text += &format!("{:02}", c.second),
            Some('%') => text.push('%'),
            Some(other) => text.extend(['%', other]),
            None => text.push('%'),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn known_moments() {
        // `date -u -d @N` of GNU coreutils.
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00.000000000Z"),
            (951_782_399, "2000-02-28T23:59:59.000000000Z"),
            (951_782_400, "2000-02-29T00:00:00.000000000Z"),
            (1_709_251_199, "2024-02-29T23:59:59.000000000Z"),
            (1_795_412_940, "2026-11-23T05:49:00.000000000Z"),
            (4_107_542_399, "2100-02-28T23:59:59.000000000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000000000Z"),
        ] {
            assert_eq!(rfc3339(at(seconds)), text);
        }
    }

    #[test]
    fn the_letters_of_templates() {
        assert_eq!(
            strftime_at("%d %b %Y, 100%%", at(951_782_400)),
            "29 Feb 2000, 100%"
        );
    }
}
