//! The machine's memory, from `/proc/meminfo`.

use serde::Serialize;

/// Memory in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Memory {
    /// What the kernel manages.
    pub total: u64,
    /// What can be used without swapping.
    pub available: u64,
}

impl Memory {
    /// Memory now; `None` when `/proc` is not there.
    pub fn now() -> Option<Self> {
        Self::parse(&std::fs::read_to_string("/proc/meminfo").ok()?)
    }

    fn parse(text: &str) -> Option<Self> {
        let field = |name: &str| -> Option<u64> {
            let line = text.lines().find_map(|line| line.strip_prefix(name))?;
            let kibibytes: u64 = line.split_whitespace().next()?.parse().ok()?;
            kibibytes.checked_mul(1024)
        };
        Some(Memory {
            total: field("MemTotal:")?,
            available: field("MemAvailable:")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Memory;

    #[test]
    fn the_two_lines_are_found() {
        let text = "MemTotal:        1000 kB\nMemFree: 1 kB\nMemAvailable:    600 kB\n";
        let memory = Memory {
            total: 1_024_000,
            available: 614_400,
        };
        assert_eq!(Memory::parse(text), Some(memory));
        assert_eq!(Memory::parse("MemTotal: x kB"), None);
    }
}
