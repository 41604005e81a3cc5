//! What this process' control group (cgroup v2) lets it have, where that can be seen. In the box's sandbox
//! it cannot: PID 1 tells the limits in the environment instead.

use std::fs;
use std::path::{Path, PathBuf};

/// The process' group and those that it is in, which limit it, too.
#[derive(Debug, Default)]
pub struct Group {
    /// The own group first.
    directories: Vec<PathBuf>,
}

impl Group {
    /// The group of this process; `root` is where `/proc` and `/sys` are.
    #[must_use]
    pub fn own(root: &Path) -> Self {
        let text = fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
        let mut lines = text.lines();
        let Some(path) = lines.find_map(|line| line.strip_prefix("0::/")) else {
            return Self::default();
        };
        let mount = root.join("sys/fs/cgroup");
        let own = mount.join(path);
        let directories = own.ancestors().take_while(|path| path.starts_with(&mount));
        Self {
            directories: directories.map(Path::to_owned).collect(),
        }
    }

    /// Bytes that it may still take, of the group that leaves the fewest. What files have in the page
    /// cache is not held against it: the kernel takes that back first.
    #[must_use]
    pub fn memory_left(&self) -> Option<u64> {
        let left = |directory: &PathBuf| -> Option<u64> {
            let limit: u64 = read(directory, "memory.max")?.trim().parse().ok()?;
            let used: u64 = read(directory, "memory.current")?.trim().parse().ok()?;
            let parts = read(directory, "memory.stat").unwrap_or_default();
            let cached = parts.lines().filter_map(|line| {
                let (name, count) = line.split_once(' ')?;
                matches!(name, "inactive_file" | "active_file")
                    .then(|| count.parse::<u64>().ok())?
            });
            Some(limit.saturating_sub(used.saturating_sub(cached.sum())))
        };
        self.directories.iter().filter_map(left).min()
    }

    /// Processors' time that it may use per time, of the group that has the least: `quota / period`.
    #[must_use]
    pub fn processors(&self) -> Option<f64> {
        let share = |directory: &PathBuf| -> Option<f64> {
            let text = read(directory, "cpu.max")?;
            let (quota, period) = text.trim().split_once(' ')?;
            let (quota, period): (f64, f64) = (quota.parse().ok()?, period.parse().ok()?);
            (quota > 0.0 && period > 0.0).then_some(quota / period)
        };
        let shares = self.directories.iter().filter_map(share);
        shares.min_by(f64::total_cmp)
    }

    /// The file in which the kernel says how long its processes wait for memory.
    #[must_use]
    pub fn memory_pressure(&self) -> Option<PathBuf> {
        let own = self.directories.first()?.join("memory.pressure");
        own.exists().then_some(own)
    }
}

fn read(directory: &Path, file: &str) -> Option<String> {
    fs::read_to_string(directory.join(file)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    #[test]
    fn the_tightest_group_counts() {
        let root = root(&[
            ("proc/self/cgroup", "1:cpu:/x\n0::/box/infer\n"),
            ("sys/fs/cgroup/box/infer/memory.max", "max\n"),
            ("sys/fs/cgroup/box/infer/memory.current", "10\n"),
            ("sys/fs/cgroup/box/infer/cpu.max", "150000 100000\n"),
            ("sys/fs/cgroup/box/memory.max", "1000\n"),
            ("sys/fs/cgroup/box/memory.current", "900\n"),
            (
                "sys/fs/cgroup/box/memory.stat",
                "anon 500\nfile 400\ninactive_file 300\nactive_file 50\n",
            ),
            ("sys/fs/cgroup/box/cpu.max", "max 100000\n"),
            ("sys/fs/cgroup/cpu.max", "50000 10000\n"),
        ]);
        let group = Group::own(root.path());
        assert_eq!(group.memory_left(), Some(1000 - (900 - 350)));
        assert_eq!(group.processors(), Some(1.5));
        assert_eq!(group.memory_pressure(), None);
    }

    #[test]
    fn what_cannot_be_seen_is_no_limit() {
        for files in [
            &[][..],
            &[("proc/self/cgroup", "4:memory:/a\n")],
            &[
                ("proc/self/cgroup", "0::/\n"),
                ("sys/fs/cgroup/cpu.max", "nonsense"),
                ("sys/fs/cgroup/memory.max", "12\n"),
            ],
        ] {
            let root = root(files);
            let group = Group::own(root.path());
            assert_eq!((group.memory_left(), group.processors()), (None, None));
        }
    }
}
