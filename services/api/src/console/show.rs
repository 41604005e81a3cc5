//! Numbers as people read them.

/// `12.3 MiB`: three digits at most, in binary units, as memory is counted.
pub fn bytes(bytes: u64) -> String {
    in_units(bytes, 1024.0, &["B", "KiB", "MiB", "GiB", "TiB"])
}

/// `12.3 MB`: the same in decimal units, as disks are sold.
pub fn disk_bytes(bytes: u64) -> String {
    in_units(bytes, 1000.0, &["B", "kB", "MB", "GB", "TB"])
}

fn in_units(bytes: u64, step: f64, units: &[&str]) -> String {
    let mut unit = 0;
    #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
    let mut value = bytes as f64;
    while value >= step - 0.5 && unit + 1 < units.len() {
        value /= step;
        unit += 1;
    }
    let digits = usize::from(unit > 0 && value < 9.95);
    format!("{value:.digits$} {}", units[unit])
}

/// `3 d 4 h`, `4 h 5 min`, `5 min 6 s`, `6 s`: the two largest units that say something.
pub fn duration(milliseconds: u64) -> String {
    let seconds = milliseconds / 1000;
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {} s", seconds % 60),
        (0, _, _) => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}

/// `1.24 s`, `12 ms`, `0.3 ms`: how long a phase took.
pub fn span(microseconds: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
    let milliseconds = microseconds as f64 / 1000.0;
    if milliseconds >= 1000.0 {
        format!("{:.2} s", milliseconds / 1000.0)
    } else if milliseconds >= 10.0 {
        format!("{milliseconds:.0} ms")
    } else {
        format!("{milliseconds:.1} ms")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        assert_eq!(bytes(0), "0 B");
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(1024), "1.0 KiB");
        assert_eq!(bytes(64 * 1024 * 1024), "64 MiB");
        assert_eq!(bytes(1024 * 1024 - 1), "1.0 MiB");
        assert_eq!(disk_bytes(999), "999 B");
        assert_eq!(disk_bytes(7_800_000_000), "7.8 GB");
        assert_eq!(disk_bytes(64 << 20), "67 MB");
        assert_eq!(disk_bytes(999_600), "1.0 MB");
        assert_eq!(duration(59_999), "59 s");
        assert_eq!(duration(61_000), "1 min 1 s");
        assert_eq!(duration(3_600_000), "1 h 0 min");
        assert_eq!(duration(90_000_000), "1 d 1 h");
        assert_eq!(span(300), "0.3 ms");
        assert_eq!(span(12_400), "12 ms");
        assert_eq!(span(1_240_000), "1.24 s");
    }
}
