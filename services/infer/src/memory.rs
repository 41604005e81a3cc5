//! How much memory a model may take.

use std::path::Path;

/// The limits known.
#[derive(Debug, Clone, Default)]
pub struct Limits {
    /// What the operator or the service's manifest allows this process, in bytes.
    pub configured: Option<u64>,
}

impl Limits {
    /// Bytes that can be taken now, with the limit's origin for the message.
    ///
    /// `MemAvailable` is the machine's; the cgroup's own limit is not visible in the sandbox, so
    /// it is configured beside it. Memory that this process holds already counts against the latter.
    #[must_use]
    pub fn available(&self, proc: &Path) -> (u64, &'static str) {
        let machine = field(&proc.join("meminfo"), "MemAvailable:").unwrap_or(u64::MAX);
        let used = field(&proc.join("self/status"), "VmRSS:").unwrap_or(0);
        match self.configured.map(|limit| limit.saturating_sub(used)) {
            Some(left) if left < machine => (left, "left of this service's memory limit"),
            _ => (machine, "available on this machine"),
        }
    }
}

/// A field of a file of `/proc`, which counts in KiB, in bytes.
fn field(path: &Path, name: &str) -> Option<u64> {
    let text = std::fs::read_to_string(path).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    let kibibytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    kibibytes.checked_mul(1024)
}

/// A size as people write it: `1500000`, `512M`, `2G` (powers of 1024).
#[must_use]
pub fn parse_size(text: &str) -> Option<u64> {
    let (digits, unit) = match text.char_indices().last()? {
        (place, 'K' | 'k') => (&text[..place], 1 << 10),
        (place, 'M' | 'm') => (&text[..place], 1 << 20),
        (place, 'G' | 'g') => (&text[..place], 1 << 30),
        _ => (text, 1),
    };
    digits.parse::<u64>().ok()?.checked_mul(unit)
}

/// Bytes for people: `1.4 GB`.
#[must_use]
pub fn show_size(bytes: u64) -> String {
    match bytes {
        0..1_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", bytes as f64 / 1e6),
        _ => format!("{:.1} GB", bytes as f64 / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smaller_limit_counts() {
        let proc = tempfile::tempdir().unwrap();
        std::fs::create_dir(proc.path().join("self")).unwrap();
        std::fs::write(
            proc.path().join("meminfo"),
            "MemTotal: 9 kB\nMemAvailable:  1000 kB\n",
        )
        .unwrap();
        std::fs::write(
            proc.path().join("self/status"),
            "Name:\tx\nVmRSS:\t  100 kB\n",
        )
        .unwrap();
        let available = |configured| Limits { configured }.available(proc.path()).0;
        assert_eq!(available(None), 1_024_000);
        assert_eq!(available(Some(512_000)), 512_000 - 102_400);
        assert_eq!(available(Some(u64::MAX)), 1_024_000);
        assert_eq!(available(Some(5)), 0);
    }

    #[test]
    fn sizes_have_units() {
        assert_eq!(parse_size("12"), Some(12));
        assert_eq!(parse_size("3M"), Some(3 << 20));
        assert_eq!(parse_size("99999999999999G"), None);
        assert_eq!(parse_size("G"), None);
    }
}
