//! A service as PID 1 runs it: what has been validated, and cannot be wrong any more.

use core::net::SocketAddr;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

pub use crate::raw::{
    ControlGrant, Network, PressureLevel, PressureResource, ReadinessKind, RestartPolicy,
};

/// One validated service.
#[derive(Debug, Clone, PartialEq)]
pub struct Service {
    /// Its name.
    pub name: String,
    /// One line for people.
    pub description: String,
    /// Absolute path of its program.
    pub program: PathBuf,
    /// Arguments after the program's name.
    pub args: Vec<String>,
    /// User and group id.
    pub uid: u32,
    /// The template's name without its `@`, and the instance; `None` for a service that is no
    /// instance.
    pub instance_of: Option<(String, String)>,
    /// Whether the image brought it, or the owner added it.
    pub origin: Origin,
    /// Whether it is started at boot.
    pub enabled: bool,
    /// Whether its final failure reboots the box.
    pub essential: bool,
    /// Started after these (those it requires included), when they are started at all.
    pub after: Vec<String>,
    /// Does not start without these.
    pub requires: Vec<String>,
    /// Started with it.
    pub wants: Vec<String>,
    /// Stopped only after it has ended.
    pub stop_before: Vec<String>,
    /// Environment that the manifest gives.
    pub environment: BTreeMap<String, String>,
    /// Secrets by name.
    pub credentials: Vec<String>,
    /// What must be true of the box.
    pub conditions: Conditions,
    /// How it becomes ready.
    pub readiness: Readiness,
    /// Longest silence between two `WATCHDOG=1`.
    pub watchdog: Option<Duration>,
    /// What happens when it ends by itself.
    pub restart: Restart,
    /// How it is asked to end.
    pub stop: Stop,
    /// What is run before it.
    pub pre_start: Vec<StepProgram>,
    /// What is run after it.
    pub post_stop: Vec<StepProgram>,
    /// Sockets that outlive it.
    pub sockets: Vec<ListenSocket>,
    /// When the clock starts it.
    pub timer: Option<Timer>,
    /// What its cgroup may use.
    pub limits: Limits,
    /// What is done when it waits too long.
    pub pressure: Vec<Pressure>,
    /// What it can see and do.
    pub sandbox: Sandbox,
}

/// Where a manifest came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The image.
    Image,
    /// The box's owner, below `/data/services`.
    Box,
}

/// What must be true of the box; an empty list asks for nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Conditions {
    /// Names of deployment profiles.
    pub profiles: Vec<String>,
    /// Names of boards.
    pub boards: Vec<String>,
    /// Names below `/dev`.
    pub devices: Vec<String>,
}

/// Where something listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// A TCP port of an address of the machine.
    Tcp(SocketAddr),
    /// A UDP port of an address of the machine.
    Udp(SocketAddr),
    /// A socket in the file system, stream.
    Unix(PathBuf),
}

/// One program to run to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepProgram {
    /// Absolute path of the program.
    pub program: PathBuf,
    /// Arguments after the program's name.
    pub args: Vec<String>,
    /// Time until it is killed.
    pub timeout: Duration,
}

/// A listening socket that outlives the program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenSocket {
    /// Its name in `$LISTEN_FDNAMES`.
    pub name: String,
    /// Where it listens.
    pub address: Address,
    /// Connections that may wait.
    pub backlog: u32,
}

/// When the clock starts a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timer {
    /// How often, or at what time.
    pub schedule: Schedule,
    /// Up to so much later.
    pub spread: Duration,
}

/// See [`Timer`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Schedule {
    /// So long after the last start.
    Every(Duration),
    /// At a time of the day, UTC.
    At {
        /// The day, 0 is Monday; every day without one.
        weekday: Option<u8>,
        /// Minutes since midnight.
        minute: u16,
    },
}

/// A trigger of pressure stall information on a service's cgroup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pressure {
    /// What is waited for.
    pub resource: PressureResource,
    /// By how many threads.
    pub level: PressureLevel,
    /// Waiting time within the window.
    pub threshold: Duration,
    /// The window.
    pub window: Duration,
    /// What is done.
    pub action: PressureResponse,
}

/// See [`Pressure`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PressureResponse {
    /// Written down.
    Tell,
    /// The program gets this signal.
    Signal(i32),
    /// The cgroup is frozen for so long.
    Freeze(Duration),
    /// Counted as a failure.
    Restart,
}

/// How a service becomes ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Readiness {
    /// By what sign.
    pub kind: ReadinessKind,
    /// What is asked, for `socket` and `http`.
    pub address: Option<Address>,
    /// For `http`.
    pub path: String,
    /// Within what time.
    pub timeout: Duration,
}

/// What happens when a service ends by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restart {
    /// When it is started again.
    pub policy: RestartPolicy,
    /// Delay before the first restart.
    pub delay: Duration,
    /// Longest delay.
    pub max_delay: Duration,
    /// Starts allowed within `start_window`.
    pub start_limit: u32,
    /// See `start_limit`.
    pub start_window: Duration,
}

/// How a service is asked to end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stop {
    /// Signal number.
    pub signal: i32,
    /// Time until its cgroup is killed.
    pub timeout: Duration,
}

/// What a service's cgroup may use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of memory that it can never exceed.
    pub memory: Option<u64>,
    /// Bytes beyond which it is slowed down.
    pub memory_high: Option<u64>,
    /// Bytes that are not reclaimed from it.
    pub memory_low: u64,
    /// Bytes of swap.
    pub memory_swap: u64,
    /// Whether an out-of-memory kill takes all of its processes.
    pub oom_group: bool,
    /// Thousandths of a processor.
    pub cpu_millis: Option<u32>,
    /// Share of the processors under contention.
    pub cpu_weight: u32,
    /// Share of disk time under contention.
    pub io_weight: u32,
    /// Bytes per second read from the data disk.
    pub io_read: Option<u64>,
    /// Bytes per second written to the data disk.
    pub io_write: Option<u64>,
    /// Processes and threads.
    pub pids: u32,
    /// Bytes in its state and cache directories.
    pub disk: Option<u64>,
    /// Files in its state and cache directories.
    pub disk_files: u32,
    /// Open descriptors per process.
    pub open_files: u32,
    /// Bytes of the largest file that it writes.
    pub file_size: Option<u64>,
    /// Bytes of memory that it locks.
    pub locked_memory: u64,
    /// Bytes of a thread's stack.
    pub stack: u64,
}

/// What a service can see and do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sandbox {
    /// Which network.
    pub network: Network,
    /// TCP ports it may bind.
    pub listen: Vec<u16>,
    /// TCP ports it may connect to.
    pub connect: Vec<u16>,
    /// Whether it may use datagrams on the machine's network.
    pub udp: bool,
    /// Paths to read.
    pub read: Vec<PathBuf>,
    /// Paths to write.
    pub write: Vec<PathBuf>,
    /// Paths to execute.
    pub execute: Vec<PathBuf>,
    /// Device nodes below `/dev`, the common ones included.
    pub devices: Vec<String>,
    /// Whether it has `/data/NAME`.
    pub state: bool,
    /// Whether it has `/data/cache/NAME`.
    pub cache: bool,
    /// Whether it has `/run/kos/NAME`.
    pub runtime: bool,
    /// Size of its private `/tmp` in bytes.
    pub tmp_bytes: u64,
    /// Capabilities it keeps.
    pub capabilities: Vec<String>,
    /// Named sets of system calls.
    pub syscalls: Vec<String>,
    /// System calls beyond those.
    pub syscalls_add: Vec<String>,
    /// System calls taken from those.
    pub syscalls_remove: Vec<String>,
    /// Whether memory may be writable and executable.
    pub writable_code: bool,
    /// Whether it has a user namespace of its own.
    pub user_namespace: bool,
    /// What it may ask of PID 1.
    pub control: ControlGrant,
}
