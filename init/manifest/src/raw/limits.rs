//! What a service may use, and what is done when it waits too long for it.

use serde::Deserialize;
use toml::Spanned;

use super::{Size, SizeOrNone, Time, Word};

/// What the service's cgroup may use.
///
/// ```toml
/// [limits]
/// memory = "256M"
/// memory-high = "192M"
/// cpu = 0.5
/// pids = 32
/// disk = "1G"
/// ```
#[derive(Debug, Clone, Deserialize, Default)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct RawLimits {
    /// Memory that it can never exceed.
    ///
    /// Default: `128M`. Allowed: at least `1M`, or `none` for no limit.
    pub memory: Option<SizeOrNone>,
    /// Memory beyond which it is slowed down and reclaimed from.
    ///
    /// Default: no such limit. Allowed: `1M` to `memory`.
    pub memory_high: Option<Size>,
    /// Memory that is not reclaimed from it while others have more than theirs.
    ///
    /// Default: `0`. Allowed: at most `memory` and `memory-high`.
    pub memory_low: Option<Size>,
    /// Swap at most.
    ///
    /// Default: `0`.
    pub memory_swap: Option<Size>,
    /// Whether an out-of-memory kill takes all of its processes.
    ///
    /// Default: `true`.
    pub oom_group: Option<bool>,
    /// Processors at most: `0.5`, `2`.
    ///
    /// Default: all of them. Allowed: 0.01 to 1024.
    pub cpu: Option<Spanned<f64>>,
    /// Share of the processors under contention.
    ///
    /// Default: `100`. Allowed: 1 to 10000.
    pub cpu_weight: Option<Spanned<u32>>,
    /// Share of disk time under contention.
    ///
    /// Default: `100`. Allowed: 1 to 10000.
    pub io_weight: Option<Spanned<u32>>,
    /// Bytes per second that it reads at most from the disk of `/data`.
    ///
    /// Default: no limit. Allowed: at least `4K`.
    pub io_read: Option<Size>,
    /// Bytes per second that it writes at most to the disk of `/data`.
    ///
    /// Default: no limit. Allowed: at least `4K`.
    pub io_write: Option<Size>,
    /// Processes and threads at most.
    ///
    /// Default: `64`. Allowed: 3 to 1000000.
    pub pids: Option<Spanned<u32>>,
    /// Bytes that its state and cache directories hold at most.
    ///
    /// Default: `256M`. Allowed: at least `64K`, or `none` for no limit.
    pub disk: Option<SizeOrNone>,
    /// Files that its state and cache directories hold at most.
    ///
    /// Default: `16384`. Allowed: 16 to 100000000.
    pub disk_files: Option<Spanned<u32>>,
    /// Open descriptors at most per process (`RLIMIT_NOFILE`).
    ///
    /// Default: `1024`. Allowed: 16 to 1048576.
    pub open_files: Option<Spanned<u32>>,
    /// Largest file that it writes (`RLIMIT_FSIZE`).
    ///
    /// Default: no limit.
    pub file_size: Option<Size>,
    /// Memory that it locks at most (`RLIMIT_MEMLOCK`).
    ///
    /// Default: `64K`.
    pub locked_memory: Option<Size>,
    /// Stack of a thread at most (`RLIMIT_STACK`).
    ///
    /// Default: `8M`. Allowed: at least `128K`.
    pub stack: Option<Size>,
}

/// A trigger of the kernel's pressure stall information (PSI) on the service's cgroup.
///
/// ```toml
/// [[pressure]]
/// resource = "memory"
/// level = "full"
/// threshold = "500ms"
/// window = "2s"
/// action = "freeze"
/// freeze-for = "5s"
/// ```
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct RawPressure {
    /// What is waited for.
    pub resource: PressureResource,
    /// How many of its threads wait.
    ///
    /// Default: `some`.
    #[serde(default)]
    pub level: PressureLevel,
    /// Waiting time within the window that is too much.
    ///
    /// Allowed: `1ms` up to, and less than, `window`.
    pub threshold: Time,
    /// The time that is looked at.
    ///
    /// Default: `2s`. Allowed: `500ms` to `10s`.
    pub window: Option<Time>,
    /// What is done.
    pub action: PressureAction,
    /// What the program gets; needed for the action `signal`, refused for the others.
    ///
    /// Allowed: as `stop.signal`.
    pub signal: Option<Word>,
    /// How long it stays frozen; only for the action `freeze`.
    ///
    /// Default: `10s`. Allowed: `100ms` to `1h`.
    pub freeze_for: Option<Time>,
}

/// See [`RawPressure::resource`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PressureResource {
    /// Waiting for memory: reclaim, refaults.
    Memory,
    /// Waiting for a processor.
    Cpu,
    /// Waiting for a disk.
    Io,
}

/// See [`RawPressure::level`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize, Default)]
#[serde(rename_all = "kebab-case")]
pub enum PressureLevel {
    /// At least one thread waits.
    #[default]
    Some,
    /// All threads wait at once.
    Full,
}

/// See [`RawPressure::action`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PressureAction {
    /// It is written in the log and in the reason.
    Tell,
    /// The program gets `signal`.
    Signal,
    /// The cgroup is frozen for `freeze-for`.
    Freeze,
    /// It is stopped, which counts as a failure, and started again as its policy says.
    Restart,
}
