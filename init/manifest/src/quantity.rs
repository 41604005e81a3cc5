//! Durations and sizes as people write them: `500ms`, `10s`, `2m`, `512M`, `4G`.

use std::time::Duration;

/// Parses `500ms`, `10s`, `2m`, `1h`, `7d`: a whole number and a unit.
///
/// # Errors
/// A sentence that says what was found and what is allowed.
pub fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = split(text);
    let wrong =
        || format!("found '{text}', allowed: a whole number with ms, s, m, h or d, such as '10s'");
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let milliseconds = match unit {
        "ms" => Some(number),
        "s" => number.checked_mul(1_000),
        "m" => number.checked_mul(60_000),
        "h" => number.checked_mul(3_600_000),
        "d" => number.checked_mul(86_400_000),
        _ => None,
    };
    milliseconds.map(Duration::from_millis).ok_or_else(wrong)
}

/// Parses `4096`, `64K`, `512M`, `4G`: bytes, with binary multiples.
///
/// # Errors
/// A sentence that says what was found and what is allowed.
pub fn bytes(text: &str) -> Result<u64, String> {
    let (number, unit) = split(text);
    let wrong =
        || format!("found '{text}', allowed: a whole number with K, M, G or T, such as '512M'");
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let shift = match unit {
        "" => 0,
        "K" => 10,
        "M" => 20,
        "G" => 30,
        "T" => 40,
        _ => return Err(wrong()),
    };
    number.checked_mul(1 << shift).ok_or_else(wrong)
}

/// Parses a share of processors, `0.5` or `2`, into thousandths.
///
/// # Errors
/// A sentence that says what was found and what is allowed.
pub fn processors(value: f64) -> Result<u32, String> {
    if (0.01..=1024.0).contains(&value) {
        // In range, so the product is at most 1,024,000 and not negative.
        Ok((value * 1000.0).round() as u32)
    } else {
        Err(format!("found {value}, allowed: 0.01 to 1024 processors"))
    }
}

/// Writes a number of bytes in the largest unit that keeps it whole enough to read.
pub fn show_bytes(bytes: u64) -> String {
    let units = [
        (1u64 << 40, "TiB"),
        (1 << 30, "GiB"),
        (1 << 20, "MiB"),
        (1 << 10, "KiB"),
    ];
    for (size, unit) in units {
        if bytes >= size {
            return if bytes.is_multiple_of(size) {
                format!("{} {unit}", bytes / size)
            } else {
                format!("{:.1} {unit}", bytes as f64 / size as f64)
            };
        }
    }
    format!("{bytes} B")
}

/// Writes a time as a manifest does, in the largest unit that keeps it whole: `500ms`, `2m`.
pub fn show_duration(time: Duration) -> String {
    let milliseconds = time.as_millis();
    let units = [
        (86_400_000, "d"),
        (3_600_000, "h"),
        (60_000, "m"),
        (1_000, "s"),
    ];
    for (size, unit) in units {
        if milliseconds > 0 && milliseconds.is_multiple_of(size) {
            return format!("{}{unit}", milliseconds / size);
        }
    }
    if milliseconds == 0 {
        "0s".to_owned()
    } else {
        format!("{milliseconds}ms")
    }
}

fn split(text: &str) -> (&str, &str) {
    let end = text
        .find(|letter: char| !letter.is_ascii_digit())
        .unwrap_or(text.len());
    text.split_at(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        for bad in [
            "",
            "10",
            "s",
            "-1s",
            "1.5s",
            "10 s",
            "99999999999999999999s",
            "99999999999999999d",
        ] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn times_are_shown_as_they_are_written() {
        for text in ["0s", "1ms", "1500ms", "90s", "2m", "36h", "7d"] {
            assert_eq!(show_duration(duration(text).unwrap()), text);
        }
        assert_eq!(show_duration(Duration::from_secs(3600)), "1h");
    }

    #[test]
    fn sizes() {
        assert_eq!(bytes("64K"), Ok(65536));
        assert_eq!(bytes("0"), Ok(0));
        for bad in ["", "M", "1.5G", "12MB", "18446744073709551615T"] {
            assert!(bytes(bad).is_err(), "{bad}");
        }
        assert_eq!(show_bytes(64 << 20), "64 MiB");
        assert_eq!(show_bytes(1536), "1.5 KiB");
    }

    #[test]
    fn shares() {
        assert_eq!(processors(0.5), Ok(500));
        assert!(processors(0.0).is_err());
        assert!(processors(f64::NAN).is_err());
    }
}
