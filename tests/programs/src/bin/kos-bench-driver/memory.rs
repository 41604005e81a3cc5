//! What the supervisor's processes hold of the memory.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;

/// Kilobytes by `/proc/PID/smaps_rollup`.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Kilobytes {
    /// How many processes.
    pub processes: u32,
    /// Pages that they have in memory, shared ones counted in each.
    pub rss: u64,
    /// The same with each page divided among those who share it.
    pub pss: u64,
}

/// PID 1, and whatever else it needs to supervise.
#[derive(Debug, Default, Serialize)]
pub struct Memory {
    /// PID 1.
    pub init: Kilobytes,
    /// Everything else that is neither a probe nor this program, by name.
    pub helpers: BTreeMap<String, Kilobytes>,
}

impl Memory {
    /// Looks at every process below `proc_root`. Kernel threads have no memory of their own.
    pub fn read(proc_root: &Path) -> Result<Self> {
        let mut memory = Memory::default();
        let own = std::process::id();
        for entry in std::fs::read_dir(proc_root)? {
            let directory = entry?.path();
            let name = directory.file_name().unwrap_or_default().to_string_lossy();
            let Ok(pid) = name.parse::<u32>() else {
                continue;
            };
            // A process that ended meanwhile holds nothing.
            let read = |file: &str| std::fs::read_to_string(directory.join(file));
            let (Ok(comm), Ok(rollup)) = (read("comm"), read("smaps_rollup")) else {
                continue;
            };
            let comm = comm.trim();
            if rollup.is_empty() || pid == own || comm.starts_with("kos-bench-probe") {
                continue;
            }
            let place = match pid {
                1 => &mut memory.init,
                _ => memory.helpers.entry(comm.to_owned()).or_default(),
            };
            place.processes += 1;
            place.rss += field(&rollup, "Rss:")?;
            place.pss += field(&rollup, "Pss:")?;
        }
        Ok(memory)
    }
}

fn field(rollup: &str, name: &str) -> Result<u64> {
    rollup
        .lines()
        .find_map(|line| line.strip_prefix(name))
        .and_then(|rest| rest.split_whitespace().next())
        .and_then(|number| number.parse().ok())
        .with_context(|| format!("no {name} in {rollup:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probes_are_not_the_supervisors_and_kernel_threads_hold_nothing() {
        let proc = std::env::temp_dir().join(format!("kos-bench-memory-{}", std::process::id()));
        for (pid, comm, rollup) in [
            ("1", "systemd", "Rss: 100 kB\nPss:  60 kB\nPss_Anon: 1 kB\n"),
            ("2", "kthreadd", ""),
            ("9", "kos-bench-probe", "Rss: 7 kB\nPss: 7 kB\n"),
            ("10", "runsv", "Rss: 5 kB\nPss: 3 kB\n"),
            ("11", "runsv", "Rss: 5 kB\nPss: 3 kB\n"),
        ] {
            let directory = proc.join(pid);
            std::fs::create_dir_all(&directory).unwrap();
            std::fs::write(directory.join("comm"), format!("{comm}\n")).unwrap();
            std::fs::write(directory.join("smaps_rollup"), rollup).unwrap();
        }
        let memory = Memory::read(&proc).unwrap();
        std::fs::remove_dir_all(&proc).unwrap();
        assert_eq!((memory.init.rss, memory.init.pss), (100, 60));
        let helpers: Vec<_> = memory.helpers.iter().collect();
        let runsv = Kilobytes {
            processes: 2,
            rss: 10,
            pss: 6,
        };
        assert_eq!(helpers, [(&"runsv".to_owned(), &runsv)]);
    }
}
