//! Numbers and times as people write them.

/// A count in digits or in a word.
#[must_use]
pub fn count(word: &str) -> Option<u32> {
    if let Ok(count) = word.parse() {
        return Some(count);
    }
    let words = [
        ("a", 1),
        ("an", 1),
        ("one", 1),
        ("two", 2),
        ("couple", 2),
        ("three", 3),
        ("few", 3),
        ("four", 4),
        ("five", 5),
        ("six", 6),
        ("seven", 7),
        ("eight", 8),
        ("nine", 9),
        ("ten", 10),
        ("eleven", 11),
        ("twelve", 12),
        ("dozen", 12),
        ("fifteen", 15),
        ("twenty", 20),
        ("twenty-four", 24),
        ("thirty", 30),
        ("forty", 40),
        ("forty-five", 45),
        ("fifty", 50),
        ("sixty", 60),
        ("ninety", 90),
        ("hundred", 100),
        ("thousand", 1000),
    ];
    words
        .into_iter()
        .find_map(|(name, count)| (name == word).then_some(count))
}

/// How long ago, as the log's filter writes it, of an amount's word and a unit's.
#[must_use]
pub fn ago(amount: Option<&str>, unit: &str) -> Option<String> {
    let digits = unit.len() - unit.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (own, unit) = unit.split_at(digits);
    let seconds: u64 = match unit.trim_start_matches('-').chars().next()? {
        's' => 1,
        // months are written out; m, min, mins and minutes are not they
        'm' if unit.starts_with("mo") => 30 * 86_400,
        'm' => 60,
        'h' => 3600,
        'd' | 'n' => 86_400,
        'w' => 7 * 86_400,
        _ => return None,
    };
    let times = match (own, amount) {
        ("", None) => 1.0,
        ("", Some("half")) => 0.5,
        ("", Some("quarter")) => 0.25,
        ("", Some(word)) => f64::from(count(word)?),
        (own, _) => f64::from(own.parse::<u32>().ok()?),
    };
    if times <= 0.0 || times > 10_000.0 {
        return None;
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss
    )]
    let seconds = (times * seconds as f64).round() as u64;
    Some(match seconds {
        // As it was said where that is a whole number: 90 minutes are not one hour.
        _ if unit.starts_with('h') && seconds.is_multiple_of(3600) => {
            format!("-{}h", seconds / 3600)
        }
        _ if seconds.is_multiple_of(86_400) => format!("-{}d", seconds / 86_400),
        _ if unit.starts_with('s') => format!("-{seconds}s"),
        _ if seconds.is_multiple_of(60) && !seconds.is_multiple_of(3600) => {
            format!("-{}m", seconds / 60)
        }
        _ if unit.starts_with('m') => format!("-{}m", seconds / 60),
        _ if seconds.is_multiple_of(3600) => format!("-{}h", seconds / 3600),
        _ => format!("-{seconds}s"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_as_the_log_wants_them() {
        for (amount, unit, expected) in [
            (None, "hour", "-1h"),
            (Some("fifteen"), "minutes", "-15m"),
            (Some("half"), "hour", "-30m"),
            (Some("quarter"), "hour", "-15m"),
            (Some("couple"), "hrs", "-2h"),
            (Some("90"), "min", "-90m"),
            (Some("60"), "minutes", "-60m"),
            (Some("24"), "hours", "-24h"),
            (None, "week", "-7d"),
            (Some("2"), "weeks", "-14d"),
            (None, "month", "-30d"),
            (Some("half"), "day", "-12h"),
            (None, "15m", "-15m"),
            (None, "2h", "-2h"),
            (Some("30"), "seconds", "-30s"),
        ] {
            assert_eq!(
                ago(amount, unit).as_deref(),
                Some(expected),
                "{amount:?} {unit}"
            );
        }
        assert_eq!(ago(Some("many"), "hours"), None);
        assert_eq!(ago(Some("99999999"), "hours"), None);
        assert_eq!(ago(None, "xyz"), None);
        assert_eq!(ago(None, ""), None);
    }
}
