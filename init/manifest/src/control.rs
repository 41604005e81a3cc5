//! What PID 1 says about services and the machine, to whoever asks over D-Bus.
//!
//! The interface is `org.kos.Init1` at `/org/kos/Init1`; these are its structures. Times are
//! milliseconds since boot (`CLOCK_BOOTTIME`) unless a name says otherwise.

mod boots;

use std::fmt;

pub use boots::{BootRecord, DownCause, DownRecord, KilledService};
use serde::{Deserialize, Serialize};

/// D-Bus interface name of PID 1's manager object.
pub const INTERFACE: &str = "org.kos.Init1";
/// D-Bus object path of PID 1's manager object.
pub const OBJECT_PATH: &str = "/org/kos/Init1";
/// Where PID 1 listens, peer to peer.
pub const SOCKET: &str = "/run/kos/init.sock";

/// Where a service is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Not running, and nobody asked it to.
    Stopped,
    /// Its process exists but has not said that it is ready, or it waits for what it requires.
    Starting,
    /// Doing its work.
    Ready,
    /// Asked to end, not yet gone.
    Stopping,
    /// Ended by itself; it will be started again after a delay.
    Backoff,
    /// Ended, and will not be started again by itself.
    Failed,
    /// Its cgroup is frozen.
    Frozen,
    /// Kept from running by policy.
    Quarantined,
}

impl State {
    /// Every state, in the order of the diagram in ARCHITECTURE.md.
    pub const ALL: [State; 8] = [
        State::Stopped,
        State::Starting,
        State::Ready,
        State::Stopping,
        State::Backoff,
        State::Failed,
        State::Frozen,
        State::Quarantined,
    ];

    /// The name used in every API, on the console and in logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            State::Stopped => "stopped",
            State::Starting => "starting",
            State::Ready => "ready",
            State::Stopping => "stopping",
            State::Backoff => "backoff",
            State::Failed => "failed",
            State::Frozen => "frozen",
            State::Quarantined => "quarantined",
        }
    }

    /// Whether the boot need not wait for this service any longer.
    pub const fn is_settled(self) -> bool {
        !matches!(self, State::Starting | State::Stopping)
    }
}

impl fmt::Display for State {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// One service as PID 1 sees it now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "dbus", derive(zbus::Type))]
pub struct ServiceStatus {
    /// Its name.
    pub name: String,
    /// One line of what it is for.
    pub description: String,
    /// [`State`] by name.
    pub state: String,
    /// Why it is in that state, as a sentence.
    pub reason: String,
    /// What the service itself said last through `STATUS=`.
    pub status_text: String,
    /// When it came into that state.
    pub since_ms: u64,
    /// How long its process has been running; 0 when there is none.
    pub uptime_ms: u64,
    /// Process id of the program in PID 1's namespace; 0 when there is none.
    pub pid: u32,
    /// How often it was started again by itself since boot or since an operator started it.
    pub restarts: u32,
    /// The last time it ended by itself: why; empty when it never did.
    pub last_failure: String,
    /// Memory that its cgroup uses, in bytes.
    pub memory: u64,
    /// Its memory limit, in bytes; 0 when there is none.
    pub memory_max: u64,
    /// CPU time that its cgroup has used, in microseconds.
    pub cpu_usec: u64,
    /// Processes and threads in its cgroup.
    pub tasks: u32,
    /// Whether its failure reboots the box.
    pub essential: bool,
}

/// One phase of the boot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "dbus", derive(zbus::Type))]
pub struct PhaseRecord {
    /// Its name.
    pub name: String,
    /// When it began.
    pub started_ms: u64,
    /// How long it took, in microseconds.
    pub took_usec: u64,
    /// Empty when it went well, else what went wrong.
    pub error: String,
}

/// The machine as PID 1 sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "dbus", derive(zbus::Type))]
pub struct SystemStatus {
    /// Host name.
    pub hostname: String,
    /// Version of the image.
    pub version: String,
    /// Time since the kernel started.
    pub uptime_ms: u64,
    /// Name of the board that the image was made for; empty when the image does not say.
    pub board: String,
    /// One line about the board.
    pub board_description: String,
    /// The disk that the box booted from: device, model, size; empty when it is not known.
    pub boot_disk: String,
    /// `disk` or `tmpfs`: what `/data` is.
    pub data_kind: String,
    /// The device, or why there is none, as a sentence.
    pub data_detail: String,
    /// [`DataProblem`] by name; empty when there is none.
    pub data_problem: String,
    /// What the owner can do about it, in sentences; empty when there is no problem.
    pub data_advice: String,
    /// Size of `/data`, in bytes.
    pub data_bytes: u64,
    /// Of that, what services can still write.
    pub data_free: u64,
    /// What is wrong with the settings on the boot partition; empty when nothing is.
    pub setup_problem: String,
    /// Processes, kernel threads included.
    pub processes: u32,
    /// Of those, the ones that ended and were not yet reaped.
    pub zombies: u32,
    /// How many children PID 1 has reaped that were nobody's (orphans).
    pub orphans_reaped: u64,
    /// Memory that PID 1 itself uses, in bytes.
    pub init_memory: u64,
    /// When the first start of all services had settled; 0 before.
    pub ready_ms: u64,
    /// The boot, phase by phase.
    pub phases: Vec<PhaseRecord>,
    /// The kernel's random name for this boot.
    pub boot_id: String,
    /// The hardware watchdog's identity; empty when none runs.
    pub watchdog: String,
    /// How long it waits before it resets the box; 0 when none runs.
    pub watchdog_timeout_ms: u64,
    /// Why none runs, as a sentence; empty when one does.
    pub watchdog_problem: String,
    /// What PID 1 itself holds.
    pub holdings: Holdings,
}

/// What PID 1 holds: numbers that stay where they are, however long the box runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "dbus", derive(zbus::Type))]
pub struct Holdings {
    /// Its resident memory, in bytes.
    pub resident: u64,
    /// Its open descriptors.
    pub descriptors: u32,
    /// Mounts in its namespace, which is the box's.
    pub mounts: u32,
    /// Cgroups of the box, without the root.
    pub groups: u32,
}

/// What is wrong with `/data`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DataProblem {
    /// Nothing says which disk holds it.
    NotNamed,
    /// The disk, or the data partition on it, is not there.
    Missing,
    /// Two disks have the identity that was asked for.
    Ambiguous,
    /// There is no file system on the partition, or one that cannot be mounted.
    Corrupt,
    /// It is mounted, and the file system has met errors.
    Errors,
    /// It is mounted, and has no room.
    Full,
    /// The disk cannot be written to.
    ReadOnly,
    /// It is mounted at its former size, as it could not be made larger.
    NotGrown,
}

impl DataProblem {
    /// Every problem.
    pub const ALL: [DataProblem; 8] = [
        DataProblem::NotNamed,
        DataProblem::Missing,
        DataProblem::Ambiguous,
        DataProblem::Corrupt,
        DataProblem::Errors,
        DataProblem::Full,
        DataProblem::ReadOnly,
        DataProblem::NotGrown,
    ];

    /// The code used in every API, on the console and in logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            DataProblem::NotNamed => "not-named",
            DataProblem::Missing => "missing",
            DataProblem::Ambiguous => "ambiguous",
            DataProblem::Corrupt => "corrupt",
            DataProblem::Errors => "errors",
            DataProblem::Full => "full",
            DataProblem::ReadOnly => "read-only",
            DataProblem::NotGrown => "not-grown",
        }
    }
}

impl fmt::Display for DataProblem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// Longest reason that `FactoryReset` takes, in bytes; it is shown on the machine's console.
pub const MAX_RESET_REASON: usize = 200;

/// One line of a log ring.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "dbus", derive(zbus::Type))]
pub struct LogEntry {
    /// Position in the ring: grows by one per line, never reused.
    pub cursor: u64,
    /// Wall-clock milliseconds since 1970 when PID 1 read the line.
    pub time_unix_ms: u64,
    /// syslog severity, 0 to 7.
    pub level: u8,
    /// The line.
    pub message: String,
}

/// A piece of a log ring.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "dbus", derive(zbus::Type))]
pub struct LogPage {
    /// Oldest first.
    pub entries: Vec<LogEntry>,
    /// Cursor to ask for next.
    pub next: u64,
    /// Lines between the asked cursor and the first entry that the ring no longer holds.
    pub dropped: u64,
}

/// Longest manifest that `SetManifest` takes, in bytes. The image's longest is a twentieth of it.
pub const MAX_MANIFEST: usize = 64 * 1024;

/// Longest reason that `Reboot`, `PowerOff` and `Quarantine` take, in bytes.
pub const MAX_REASON: usize = 200;

/// What a reload of the manifests did: names of services, each in one list at most.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "dbus", derive(zbus::Type))]
pub struct ReloadReport {
    /// Those that are new; the enabled ones were started.
    pub added: Vec<String>,
    /// Those that are no more; they were stopped.
    pub removed: Vec<String>,
    /// Those that run anew with their changed manifest.
    pub restarted: Vec<String>,
    /// Those whose change needed no restart: limits, weights, description, restart policy.
    pub updated: Vec<String>,
    /// How many were left alone.
    pub unchanged: u32,
}

/// Where a reader is in one log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "dbus", derive(zbus::Type))]
pub struct LogCursor {
    /// A service, `init` or `kernel`.
    pub name: String,
    /// Cursor of the first line wanted.
    pub cursor: u64,
}

/// What one log has for a reader of all.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "dbus", derive(zbus::Type))]
pub struct LogPart {
    /// A service, `init` or `kernel`.
    pub name: String,
    /// Oldest first.
    pub entries: Vec<LogEntry>,
    /// Cursor to ask for next.
    pub next: u64,
    /// Lines between the asked cursor and the first entry that the ring no longer holds.
    pub dropped: u64,
}

/// What all logs have for one reader.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "dbus", derive(zbus::Type))]
pub struct LogBatch {
    /// The kernel's id of this boot: cursors are of this boot and no other.
    pub boot: String,
    /// The logs that have something; a log with nothing new is not among them.
    pub logs: Vec<LogPart>,
}
