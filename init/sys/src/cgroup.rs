//! The cgroup v2 tree: making groups, limiting them, reading what they used, ending them whole.
//!
//! A limit that the kernel does not offer is an error that names the file; whether that matters is
//! the caller's business.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

use crate::error::{SysError, Told};
use crate::kernel_file;

/// More processes than one group may ever hold (`pids.max` is far below), so that a listing ends.
const MAX_PROCESSES: usize = 1 << 16;

/// The mounted hierarchy, or a test's directory.
#[derive(Debug, Clone)]
pub struct CgroupRoot {
    path: PathBuf,
    controllers: Vec<String>,
}

impl CgroupRoot {
    /// The hierarchy mounted at `path`; no controller is enabled yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        CgroupRoot {
            path: path.into(),
            controllers: Vec::new(),
        }
    }

    /// Enables controllers for the groups below the root and, as they are made, for every group on
    /// the way to a leaf. Returns those that this kernel does not offer.
    ///
    /// # Errors
    /// The hierarchy is not there, or the kernel refuses to enable an offered controller.
    pub fn enable_controllers(&mut self, controllers: &[&str]) -> Result<Vec<String>, SysError> {
        let offered = kernel_file::read(&self.path.join("cgroup.controllers"))?;
        let offered: Vec<&str> = offered.split_ascii_whitespace().collect();
        let mut missing = Vec::new();
        for controller in controllers {
            if offered.contains(controller) {
                self.controllers.push((*controller).to_owned());
            } else {
                missing.push((*controller).to_owned());
            }
        }
        self.delegate(&self.path)?;
        Ok(missing)
    }

    /// Makes a group (`services/infer`) and those above it; one that exists already is taken over.
    ///
    /// # Errors
    /// The path is absolute or climbs, or the kernel refuses.
    pub fn create(&self, group: &str) -> Result<Cgroup, SysError> {
        let mut path = self.path.clone();
        let mut names = group.split('/').peekable();
        while let Some(name) = names.next() {
            if name.is_empty() || name == "." || name == ".." {
                return Err(SysError::refused(
                    "make cgroup",
                    group,
                    "it is not a plain path",
                ));
            }
            path.push(name);
            match std::fs::create_dir(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
                    return Err(SysError::new("make cgroup", path.display(), error));
                }
                _ => {}
            }
            if names.peek().is_some() {
                self.delegate(&path)?;
            }
        }
        Ok(Cgroup { path })
    }

    /// A group that exists, without making it.
    pub fn group(&self, group: &str) -> Cgroup {
        Cgroup {
            path: self.path.join(group),
        }
    }

    /// How many groups there are, without the root.
    ///
    /// # Errors
    /// The hierarchy is not there.
    pub fn descendants(&self) -> Result<u64, SysError> {
        let path = self.path.join("cgroup.stat");
        kernel_file::keyed_number(&path, &kernel_file::read(&path)?, "nr_descendants")
    }

    fn delegate(&self, group: &Path) -> Result<(), SysError> {
        if self.controllers.is_empty() {
            return Ok(());
        }
        let words: Vec<String> = self
            .controllers
            .iter()
            .map(|name| format!("+{name}"))
            .collect();
        let file = group.join("cgroup.subtree_control");
        // The kernel answers even a write that changes nothing only once every group that was
        // removed below is gone for good, which takes tens of milliseconds. Reading waits for
        // nobody.
        let enabled = kernel_file::read(&file)?;
        let enabled: Vec<&str> = enabled.split_ascii_whitespace().collect();
        if self
            .controllers
            .iter()
            .all(|name| enabled.contains(&name.as_str()))
        {
            return Ok(());
        }
        kernel_file::write(&file, &words.join(" "))
    }
}

/// Counters of `memory.events`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MemoryEvents {
    /// Reclaimed although below `memory.low`.
    pub low: u64,
    /// Throttled at `memory.high`.
    pub high: u64,
    /// `memory.max` was about to be exceeded.
    pub max: u64,
    /// Reclaim failed at `memory.max`: out of memory.
    pub oom: u64,
    /// Processes killed for it.
    pub oom_kill: u64,
}

/// Share of the last ten seconds that was spent waiting for a resource, in percent.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Waiting {
    /// In which any thread of the group waited.
    pub some: f64,
    /// In which all of them did.
    pub full: f64,
}

/// One group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cgroup {
    path: PathBuf,
}

impl Cgroup {
    /// Its directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its directory, opened: what [`crate::spawn::Spawn`] wants.
    ///
    /// # Errors
    /// The group does not exist.
    pub fn open_dir(&self) -> Result<OwnedFd, SysError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::open(&self.path, flags, Mode::empty()).told("open", self.path.display())
    }

    /// Writes one of the group's files.
    ///
    /// # Errors
    /// The controller is not enabled (the file is missing) or the kernel refuses the value.
    pub fn set(&self, file: &str, value: &str) -> Result<(), SysError> {
        kernel_file::write(&self.path.join(file), value)
    }

    /// Hard limit of memory in bytes; `None` is no limit.
    ///
    /// # Errors
    /// As [`Cgroup::set`].
    pub fn memory_max(&self, bytes: Option<u64>) -> Result<(), SysError> {
        self.set("memory.max", &or_max(bytes))
    }

    /// Memory in bytes from which the group is slowed down and reclaimed from.
    ///
    /// # Errors
    /// As [`Cgroup::set`].
    pub fn memory_high(&self, bytes: Option<u64>) -> Result<(), SysError> {
        self.set("memory.high", &or_max(bytes))
    }

    /// Memory in bytes that is not reclaimed from the group while others have more than theirs.
    ///
    /// # Errors
    /// As [`Cgroup::set`].
    pub fn memory_low(&self, bytes: u64) -> Result<(), SysError> {
        self.set("memory.low", &bytes.to_string())
    }

    /// Limit of swap in bytes. Without swap in the kernel there is no file and nothing to limit.
    ///
    /// # Errors
    /// As [`Cgroup::set`], a missing file excepted.
    pub fn swap_max(&self, bytes: Option<u64>) -> Result<(), SysError> {
        unless_missing(self.set("memory.swap.max", &or_max(bytes)))
    }

    /// Whether an out-of-memory kill takes the whole group.
    ///
    /// # Errors
    /// As [`Cgroup::set`].
    pub fn oom_group(&self, whole: bool) -> Result<(), SysError> {
        self.set("memory.oom.group", if whole { "1" } else { "0" })
    }

    /// Share of the processor against its siblings, 1 to 10000; 100 is the usual one.
    ///
    /// # Errors
    /// As [`Cgroup::set`].
    pub fn cpu_weight(&self, weight: u32) -> Result<(), SysError> {
        self.set("cpu.weight", &weight.to_string())
    }

    /// Processor time per period, both in microseconds; `None` is no limit.
    ///
    /// # Errors
    /// As [`Cgroup::set`].
    pub fn cpu_max(
        &self,
        quota_microseconds: Option<u64>,
        period_microseconds: u64,
    ) -> Result<(), SysError> {
        self.set(
            "cpu.max",
            &format!("{} {period_microseconds}", or_max(quota_microseconds)),
        )
    }

    /// Limit of processes and threads.
    ///
    /// # Errors
    /// As [`Cgroup::set`].
    pub fn pids_max(&self, count: u32) -> Result<(), SysError> {
        self.set("pids.max", &count.to_string())
    }

    /// Share of disk time against its siblings, 1 to 10000. The file exists only with an I/O
    /// scheduler that knows weights; without one there is nothing to share by, and no error.
    ///
    /// # Errors
    /// As [`Cgroup::set`], a missing file excepted.
    pub fn io_weight(&self, weight: u32) -> Result<(), SysError> {
        unless_missing(self.set("io.weight", &format!("default {weight}")))
    }

    /// Bytes per second that the group reads from and writes to a disk at most; `None` is no limit.
    /// `device` is the whole disk's number, major and minor: a partition has no queue of its own.
    ///
    /// # Errors
    /// As [`Cgroup::set`]; `ENODEV` when there is no such disk.
    pub fn io_max(
        &self,
        (major, minor): (u32, u32),
        read: Option<u64>,
        write: Option<u64>,
    ) -> Result<(), SysError> {
        let (read, write) = (or_max(read), or_max(write));
        self.set(
            "io.max",
            &format!("{major}:{minor} rbps={read} wbps={write}"),
        )
    }

    /// Moves a process into the group.
    ///
    /// # Errors
    /// The process is gone, or the group has children with controllers.
    pub fn add(&self, pid: i32) -> Result<(), SysError> {
        self.set("cgroup.procs", &pid.to_string())
    }

    /// Kills every process of the group and of those below it, frozen ones too.
    ///
    /// # Errors
    /// The kernel is older than 5.14, or the group is gone.
    pub fn kill(&self) -> Result<(), SysError> {
        self.set("cgroup.kill", "1")
    }

    /// The group's file of waiting times, for a [`crate::psi::Trigger`]; `resource` is `memory`,
    /// `cpu` or `io`.
    pub fn pressure_file(&self, resource: &str) -> PathBuf {
        self.path.join(format!("{resource}.pressure"))
    }

    /// Stops or continues every process of the group. The kernel does it soon, not at once:
    /// `cgroup.events` changes when it is done, which wakes whoever watches it, and
    /// [`Cgroup::frozen`] says so.
    ///
    /// # Errors
    /// As [`Cgroup::set`].
    pub fn freeze(&self, frozen: bool) -> Result<(), SysError> {
        self.set("cgroup.freeze", if frozen { "1" } else { "0" })
    }

    /// Whether every process of the group stands still.
    ///
    /// # Errors
    /// The group is gone.
    pub fn frozen(&self) -> Result<bool, SysError> {
        Ok(self.keyed("cgroup.events", "frozen")? == 1)
    }

    /// The processes of the group (not of those below it).
    ///
    /// # Errors
    /// The group is gone, or holds more processes than it can.
    pub fn processes(&self) -> Result<Vec<i32>, SysError> {
        let path = self.path.join("cgroup.procs");
        let text = kernel_file::read(&path)?;
        let pids: Vec<i32> = text
            .lines()
            .take(MAX_PROCESSES)
            .filter_map(|line| line.parse().ok())
            .collect();
        Ok(pids)
    }

    /// Whether the group or one below it holds a living process.
    ///
    /// # Errors
    /// The group is gone.
    pub fn populated(&self) -> Result<bool, SysError> {
        Ok(self.keyed("cgroup.events", "populated")? == 1)
    }

    /// Memory in use, in bytes.
    ///
    /// # Errors
    /// The memory controller is not enabled.
    pub fn memory_current(&self) -> Result<u64, SysError> {
        kernel_file::read_number(&self.path.join("memory.current"))
    }

    /// Processor time used, in microseconds.
    ///
    /// # Errors
    /// The group is gone.
    pub fn cpu_usage_microseconds(&self) -> Result<u64, SysError> {
        self.keyed("cpu.stat", "usage_usec")
    }

    /// Processes and threads in the group and below it.
    ///
    /// # Errors
    /// The pids controller is not enabled.
    pub fn pids_current(&self) -> Result<u64, SysError> {
        kernel_file::read_number(&self.path.join("pids.current"))
    }

    /// What happened at the memory limits since the group was made.
    ///
    /// # Errors
    /// The memory controller is not enabled.
    pub fn memory_events(&self) -> Result<MemoryEvents, SysError> {
        let path = self.path.join("memory.events");
        let text = kernel_file::read(&path)?;
        let count = |key| kernel_file::keyed_number(&path, &text, key);
        Ok(MemoryEvents {
            low: count("low")?,
            high: count("high")?,
            max: count("max")?,
            oom: count("oom")?,
            oom_kill: count("oom_kill")?,
        })
    }

    /// How often a fork failed at the limit of processes.
    ///
    /// # Errors
    /// The pids controller is not enabled.
    pub fn pids_events_max(&self) -> Result<u64, SysError> {
        self.keyed("pids.events", "max")
    }

    /// How much the group has waited of late for `memory`, `cpu` or `io`.
    ///
    /// # Errors
    /// The kernel keeps no pressure stall information, or the group is gone.
    pub fn pressure(&self, resource: &str) -> Result<Waiting, SysError> {
        let path = self.path.join(format!("{resource}.pressure"));
        let text = kernel_file::read(&path)?;
        let share = |line: &str| {
            let told = text.lines().find_map(|text| {
                let told = text.strip_prefix(line)?.strip_prefix(" avg10=")?;
                told.split(' ').next()?.parse::<f64>().ok()
            });
            // Older kernels have no `full` for the processor.
            told.unwrap_or_default()
        };
        Ok(Waiting {
            some: share("some"),
            full: share("full"),
        })
    }

    /// Removes the group.
    ///
    /// # Errors
    /// It still holds processes (`EBUSY`) or is gone.
    pub fn remove(&self) -> Result<(), SysError> {
        std::fs::remove_dir(&self.path).told("remove cgroup", self.path.display())
    }

    fn keyed(&self, file: &str, key: &str) -> Result<u64, SysError> {
        let path = self.path.join(file);
        kernel_file::keyed_number(&path, &kernel_file::read(&path)?, key)
    }
}

fn or_max(value: Option<u64>) -> String {
    value.map_or_else(|| "max".to_owned(), |value| value.to_string())
}

fn unless_missing(result: Result<(), SysError>) -> Result<(), SysError> {
    match result {
        Err(error) if error.errno() == Some(libc::ENOENT) => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(path: &Path, text: &str) {
        std::fs::write(path, text).unwrap();
    }

    #[test]
    fn controllers_go_along_the_way_but_not_into_the_leaf() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        write(&path.join("cgroup.controllers"), "cpu memory pids\n");
        write(&path.join("cgroup.subtree_control"), "");
        std::fs::create_dir(path.join("services")).unwrap();
        write(&path.join("services/cgroup.subtree_control"), "");
        let mut root = CgroupRoot::new(path);
        assert_eq!(
            root.enable_controllers(&["memory", "io", "pids"]).unwrap(),
            ["io"]
        );
        let group = root.create("services/infer").unwrap();
        let told = |file: &str| std::fs::read_to_string(path.join(file)).unwrap();
        assert_eq!(told("cgroup.subtree_control"), "+memory +pids");
        assert_eq!(told("services/cgroup.subtree_control"), "+memory +pids");
        assert!(group.path().ends_with("services/infer"));
        assert!(root.create("services/../x").is_err());
    }

    #[test]
    fn what_is_enabled_already_is_not_written_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        write(&path.join("cgroup.controllers"), "memory pids\n");
        write(&path.join("cgroup.subtree_control"), "");
        std::fs::create_dir(path.join("services")).unwrap();
        // As the kernel shows it, which no write of ours looks like.
        let shown = "memory pids\n";
        let file = path.join("services/cgroup.subtree_control");
        write(&file, shown);
        let mut root = CgroupRoot::new(path);
        root.enable_controllers(&["memory", "pids"]).unwrap();
        root.create("services/infer").unwrap();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), shown);
        write(&file, "memory\n");
        root.create("services/infer").unwrap();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "+memory +pids");
    }

    #[test]
    fn limits_are_written_as_the_kernel_reads_them() {
        let directory = tempfile::tempdir().unwrap();
        let group = CgroupRoot::new(directory.path()).create("a").unwrap();
        for file in ["memory.max", "memory.low", "cpu.max", "io.max"] {
            write(&group.path().join(file), "");
        }
        group.memory_low(1 << 16).unwrap();
        group.io_max((254, 0), Some(1 << 20), None).unwrap();
        group.memory_max(Some(1 << 20)).unwrap();
        group.cpu_max(None, 100_000).unwrap();
        group.io_weight(50).unwrap();
        group.swap_max(Some(0)).unwrap();
        let told = |file: &str| std::fs::read_to_string(group.path().join(file)).unwrap();
        assert_eq!(told("memory.max"), "1048576");
        assert_eq!(told("cpu.max"), "max 100000");
        assert_eq!(told("memory.low"), "65536");
        assert_eq!(told("io.max"), "254:0 rbps=1048576 wbps=max");
        let error = group.pids_max(3).unwrap_err();
        assert!(error.full().contains("pids.max"), "{}", error.full());
    }

    #[test]
    fn counters_are_read_and_nonsense_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let group = CgroupRoot::new(directory.path()).create("a").unwrap();
        let file = |name: &str| group.path().join(name);
        write(
            &file("memory.events"),
            "low 0\nhigh 2\nmax 5\noom 1\noom_kill 3\noom_group_kill 1\n",
        );
        write(&file("cgroup.events"), "populated 1\nfrozen 0\n");
        write(&file("cgroup.procs"), "4\n17\n");
        write(&file("memory.current"), "lots\n");
        write(
            &file("io.pressure"),
            "some avg10=1.53 avg60=1.20 avg300=0.20 total=9\nfull avg10=0.50 avg60=0.0 avg300=0.0 total=3\n",
        );
        let waited = group.pressure("io").unwrap();
        assert_eq!((waited.some, waited.full), (1.53, 0.5));
        assert!(group.pressure("cpu").is_err());
        let events = group.memory_events().unwrap();
        assert_eq!(
            (events.high, events.max, events.oom, events.oom_kill),
            (2, 5, 1, 3)
        );
        assert!(group.populated().unwrap() && !group.frozen().unwrap());
        assert_eq!(group.processes().unwrap(), [4, 17]);
        assert!(
            group
                .memory_current()
                .unwrap_err()
                .full()
                .contains("'lots'")
        );
    }
}
