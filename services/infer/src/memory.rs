//! How much memory a model may take.

use std::path::{Path, PathBuf};

use rustix::process::{Resource, getrlimit};

use crate::group::Group;

/// The limits known.
#[derive(Debug, Clone)]
pub struct Limits {
    /// What the operator or the service's manifest allows this process, in bytes.
    pub configured: Option<u64>,
    /// Where `/proc` and `/sys` are.
    pub root: PathBuf,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            configured: None,
            root: "/".into(),
        }
    }
}

impl Limits {
    /// Bytes that can be taken now, with the limit's origin for the message: the least of what the
    /// machine has available, what is configured, what the cgroup leaves where it can be seen, and what
    /// the process' address space may still grow by.
    #[must_use]
    pub fn available(&self) -> (u64, &'static str) {
        let root = &self.root;
        let machine = field(&root.join("proc/meminfo"), "MemAvailable:");
        let own = |name| field(&root.join("proc/self/status"), name).unwrap_or(0);
        let left = |limit: u64, name| limit.saturating_sub(own(name));
        let space = getrlimit(Resource::As).current;
        let limits = [
            (machine, "available on this machine"),
            (
                self.configured.map(|limit| left(limit, "VmRSS:")),
                "left of this service's memory limit",
            ),
            (
                Group::own(root).memory_left(),
                "left of its control group's memory limit",
            ),
            (
                space.map(|limit| left(limit, "VmSize:")),
                "left of its limit of address space",
            ),
        ];
        let known = limits
            .into_iter()
            .filter_map(|(bytes, origin)| bytes.map(|bytes| (bytes, origin)));
        known
            .min_by_key(|(bytes, _)| *bytes)
            .unwrap_or((u64::MAX, "available on this machine"))
    }

    /// Whether the machine itself is short of memory: a tenth of it, or less, is available.
    #[must_use]
    pub fn machine_is_short(&self) -> bool {
        let of = |name| field(&self.root.join("proc/meminfo"), name);
        match (of("MemAvailable:"), of("MemTotal:")) {
            (Some(available), Some(total)) => available <= total / 10,
            // Whoever asks was told so by the kernel.
            _ => true,
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
        let root = tempfile::tempdir().unwrap();
        let proc = root.path().join("proc");
        std::fs::create_dir_all(proc.join("self")).unwrap();
        std::fs::write(
            proc.join("meminfo"),
            "MemTotal: 9000 kB\nMemAvailable:  1000 kB\n",
        )
        .unwrap();
        std::fs::write(proc.join("self/status"), "Name:\tx\nVmRSS:\t  100 kB\n").unwrap();
        let limits = |configured| Limits {
            configured,
            root: root.path().to_owned(),
        };
        let available = |configured| limits(configured).available().0;
        assert_eq!(available(None), 1_024_000);
        assert_eq!(available(Some(512_000)), 512_000 - 102_400);
        assert_eq!(available(Some(u64::MAX)), 1_024_000);
        assert_eq!(available(Some(5)), 0);
        assert!(!limits(None).machine_is_short());
        let text = "MemTotal: 9000 kB\nMemAvailable: 900 kB\n";
        std::fs::write(proc.join("meminfo"), text).unwrap();
        assert!(limits(None).machine_is_short());
    }

    #[test]
    fn sizes_have_units() {
        assert_eq!(parse_size("12"), Some(12));
        assert_eq!(parse_size("3M"), Some(3 << 20));
        assert_eq!(parse_size("99999999999999G"), None);
        assert_eq!(parse_size("G"), None);
    }
}
