//! Times in a question: `2026-11-24T12:00:00Z`, milliseconds since 1970, or `-15m` ago.

use crate::store::clock;

/// Why a time cannot be understood.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{key}: found '{found}', allowed: 2026-11-24, 2026-11-24T12:00:00Z, milliseconds since 1970, or \
     how long ago: -30s, -15m, -2h, -7d"
)]
pub struct TimeError {
    key: &'static str,
    found: String,
}

/// Reads a time as milliseconds since 1970; `now` is the same.
///
/// # Errors
/// When it is none of what is allowed.
pub fn parse(key: &'static str, text: &str, now: u64) -> Result<u64, TimeError> {
    let wrong = || TimeError {
        key,
        found: text.chars().take(40).collect(),
    };
    if let Some(ago) = text.strip_prefix('-') {
        return Ok(now.saturating_sub(duration(ago).ok_or_else(wrong)?));
    }
    if let Ok(milliseconds) = text.parse() {
        return Ok(milliseconds);
    }
    stamp(text).ok_or_else(wrong)
}

fn duration(text: &str) -> Option<u64> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let seconds: u64 = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return None,
    };
    let number: u64 = number.parse().ok()?;
    number.checked_mul(seconds)?.checked_mul(1000)
}

/// A date, with or without a time of the day, in UTC.
fn stamp(text: &str) -> Option<u64> {
    let (date, time) = match text.split_once('T') {
        Some((date, time)) => (date, time.strip_suffix('Z').unwrap_or(time)),
        None => (text, "00:00"),
    };
    let mut numbers = date.splitn(3, '-').map(|part| digits(part, 4));
    let (year, month, day) = (numbers.next()??, numbers.next()??, numbers.next()??);
    let (whole, fraction) = time.split_once('.').unwrap_or((time, ""));
    let mut numbers = whole.splitn(3, ':').map(|part| digits(part, 2));
    let (hour, minute) = (numbers.next()??, numbers.next()??);
    let second = numbers.next().unwrap_or(Some(0))?;
    let is_time = hour < 24 && minute < 60 && second < 61;
    if !is_time || !(1..=12).contains(&month) || !(1..=31).contains(&day) || year < 1970 {
        return None;
    }
    let seconds = clock::days(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second;
    let fraction = format!("{:0<3}", fraction.get(..fraction.len().min(3))?);
    let milliseconds = seconds * 1000 + digits(&fraction, 3)?;
    u64::try_from(milliseconds).ok()
}

fn digits(text: &str, most: usize) -> Option<i64> {
    let is_number = (1..=most).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    is_number.then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read() {
        let now = 1_000_000_000;
        for (text, time) in [
            ("0", 0),
            ("1764000000000", 1_764_000_000_000),
            ("-15m", now - 900_000),
            ("-7d", now - 604_800_000),
            ("-99999d", 0),
            ("1970-01-02", 86_400_000),
            ("2000-02-29T00:00:00Z", 951_782_400_000),
            ("2026-01-01T00:00", 1_767_225_600_000),
            ("2026-01-01T00:00:01.5Z", 1_767_225_601_500),
        ] {
            assert_eq!(parse("since", text, now), Ok(time), "{text}");
        }
        for text in [
            "",
            "-",
            "-1",
            "-1w",
            "x",
            "2026-13-01",
            "2026-01-01T25:00Z",
            "2026-01-01T",
            "-\u{e4}",
        ] {
            assert!(parse("since", text, now).is_err(), "{text}");
        }
    }
}
