//! A service manifest as it is written, before anything about it is believed.
//!
//! The doc comments here are the reference of the manifest's keys: `cargo xtask docs` makes
//! `docs/manifest.md` and the JSON Schema of editors from them. Unknown keys are refused, and the
//! error lists those that exist.

use std::collections::BTreeMap;

use serde::Deserialize;
use toml::Spanned;

/// One service: `NAME.toml`, or a template `NAME@.toml` whose instances are `NAME@INSTANCE`.
///
/// Times are written `500ms`, `10s`, `2m`, `1h`, `7d`; sizes `64K`, `512M`, `4G`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct RawService {
    /// The service's name: lower-case letters, digits and dashes; the same as the file's. A
    /// template's ends in `@`.
    pub name: Spanned<String>,
    /// One line for people.
    pub description: String,
    /// Absolute path of the program.
    pub program: Spanned<String>,
    /// Arguments after the program's name. In a template `%i` stands for the instance, here and in
    /// `description`, `environment`, `steps`, `sockets` and the paths of `sandbox`.
    #[serde(default)]
    pub args: Vec<String>,
    /// User and group id, unique on the box: 1000 to 19999 for services of the image, 20000 to
    /// 59999 for those that the owner adds. A template has none: its instances do.
    pub uid: Option<Spanned<u32>>,
    /// A template's instances, each with its uid: `garage = 20001`. Only with a name ending in `@`.
    #[serde(default)]
    pub instances: BTreeMap<Spanned<String>, Spanned<u32>>,
    /// Whether it is started at boot. One with a `timer` or that others want is started by those.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// Whether its final failure reboots the box.
    #[serde(default)]
    pub essential: bool,
    /// Services that are started first, when they are started at all.
    #[serde(default)]
    pub after: Vec<Spanned<String>>,
    /// Services without which this one does not start; implies `after`. They are started with it,
    /// and when one of them fails, it fails.
    #[serde(default)]
    pub requires: Vec<Spanned<String>>,
    /// Services that are started with this one, which does not depend on their success or order.
    #[serde(default)]
    pub wants: Vec<Spanned<String>>,
    /// Services that are stopped only after this one has ended, in whatever order they started.
    #[serde(default)]
    pub stop_before: Vec<Spanned<String>>,
    /// Environment of the program; nothing else is in it but what PID 1 adds.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    /// Secrets by name, handed over as sealed memory files: `$CREDENTIALS_FDS` says
    /// `name=descriptor` for each, separated by colons, and `$CREDENTIALS_DIRECTORY/NAME` opens it.
    #[serde(default)]
    pub credentials: Vec<Spanned<String>>,
    /// What must be true of the box for the service to run there; else it stays stopped and says
    /// which condition was not met.
    #[serde(default)]
    pub conditions: RawConditions,
    /// How PID 1 learns that the service does its work.
    #[serde(default)]
    pub readiness: RawReadiness,
    /// Longest silence between two `WATCHDOG=1` once it is ready; a longer one is a failure. None
    /// when not given. The program finds it in `$WATCHDOG_USEC`.
    pub watchdog: Option<Spanned<String>>,
    /// What happens when the program ends by itself.
    #[serde(default)]
    pub restart: RawRestart,
    /// How the service is asked to end.
    #[serde(default)]
    pub stop: RawStop,
    /// Programs that are run before and after it, in its sandbox.
    #[serde(default)]
    pub steps: RawSteps,
    /// Sockets that PID 1 opens and keeps across restarts; the program finds them from descriptor 3
    /// on (`$LISTEN_FDS`, `$LISTEN_FDNAMES`).
    #[serde(default)]
    pub sockets: Vec<RawSocket>,
    /// When it is started, beside or instead of at boot.
    pub timer: Option<RawTimer>,
    /// What the service's cgroup may use.
    #[serde(default)]
    pub limits: RawLimits,
    /// What is done when the service waits too long for memory, processor or disk.
    #[serde(default)]
    pub pressure: Vec<RawPressure>,
    /// What the service can see and do.
    #[serde(default)]
    pub sandbox: RawSandbox,
}

/// What must be true of the box. Every list that is given must be met; none is given by default.
#[derive(Debug, Deserialize, Default)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct RawConditions {
    /// The deployment profile is one of these: `standalone`, `browser`, `embedded`, `server`,
    /// `cluster`.
    #[serde(default)]
    pub profiles: Vec<Spanned<String>>,
    /// The board is one of these, by the name of its file below `image/boards/`.
    #[serde(default)]
    pub boards: Vec<Spanned<String>>,
    /// All of these devices are there, by their names below `/dev`. It is started when they appear.
    #[serde(default)]
    pub devices: Vec<Spanned<String>>,
}

/// How PID 1 learns that the service does its work.
#[derive(Debug, Deserialize, Default)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct RawReadiness {
    /// `notify`: it says `READY=1`; `socket`: `address` takes a connection; `http`: a GET of `path`
    /// at `address` is answered with 2xx; `none`: it is ready once it runs.
    #[serde(default)]
    pub kind: ReadinessKind,
    /// For `socket` and `http`: `tcp:PORT` on the machine's loopback (for a service with the
    /// machine's network), or `unix:PATH` below the service's runtime directory.
    pub address: Option<Spanned<String>>,
    /// For `http`; `/` when not given.
    pub path: Option<Spanned<String>>,
    /// How long that may take; 60 s when not given.
    pub timeout: Option<Spanned<String>>,
}

/// See [`RawReadiness::kind`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Default)]
#[serde(rename_all = "kebab-case")]
pub enum ReadinessKind {
    /// `READY=1` on `$NOTIFY_SOCKET`.
    #[default]
    Notify,
    /// An address takes a connection.
    Socket,
    /// An address answers a GET with 2xx.
    Http,
    /// Ready as soon as the program has been executed.
    None,
}

/// What happens when the program ends by itself.
#[derive(Debug, Deserialize, Default)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct RawRestart {
    /// `always`, `on-failure` or `never`. Exit code 125 and an operator's stop are final under each.
    #[serde(default)]
    pub policy: RestartPolicy,
    /// Delay before the first restart; each further one waits twice as long. 200 ms when not given.
    pub delay: Option<Spanned<String>>,
    /// The longest that a restart is delayed; 30 s when not given.
    pub max_delay: Option<Spanned<String>>,
    /// Starts allowed within `start-window`; one more, and the service is failed. 5 when not given.
    pub start_limit: Option<Spanned<u32>>,
    /// See `start-limit`; 60 s when not given.
    pub start_window: Option<Spanned<String>>,
}

/// See [`RawRestart::policy`]. Exit code 125 and an operator's stop are final under each of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Default)]
#[serde(rename_all = "kebab-case")]
pub enum RestartPolicy {
    /// Whenever it ends.
    #[default]
    Always,
    /// When it ends with an exit code other than 0, by a signal, or by a limit.
    OnFailure,
    /// Not by itself.
    Never,
}

/// How the service is asked to end.
#[derive(Debug, Deserialize, Default)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct RawStop {
    /// `SIGTERM` (when not given), `SIGINT`, `SIGHUP`, `SIGQUIT`, `SIGUSR1`, `SIGUSR2`.
    pub signal: Option<Spanned<String>>,
    /// How long that may take before its whole cgroup is killed; 10 s when not given.
    pub timeout: Option<Spanned<String>>,
}

/// Programs that are run before and after the service's own, one after the other, each in a
/// sandbox like the service's.
#[derive(Debug, Deserialize, Default)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct RawSteps {
    /// Before each start; one that fails is a failure of the start.
    #[serde(default)]
    pub pre_start: Vec<RawStep>,
    /// After each end, however it came; one that fails is told and changes nothing.
    #[serde(default)]
    pub post_stop: Vec<RawStep>,
}

/// One program to run to its end.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct RawStep {
    /// Absolute path of the program.
    pub program: Spanned<String>,
    /// Arguments after the program's name.
    #[serde(default)]
    pub args: Vec<String>,
    /// How long it may take before it is killed; 30 s when not given.
    pub timeout: Option<Spanned<String>>,
}

/// A listening socket that outlives the program.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct RawSocket {
    /// Its name in `$LISTEN_FDNAMES`.
    pub name: Spanned<String>,
    /// `tcp:ADDRESS:PORT`, `udp:ADDRESS:PORT` (on the machine's network, whatever the service's
    /// own is), or `unix:PATH` below the service's runtime directory.
    pub listen: Spanned<String>,
    /// Connections that may wait to be accepted; 128 when not given.
    pub backlog: Option<Spanned<u32>>,
}

/// When the service is started by the clock. A start of what runs already changes nothing.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct RawTimer {
    /// So long after its last start, and after the boot for the first time.
    pub every: Option<Spanned<String>>,
    /// At this time of the day in UTC, `03:30`, or of a weekday, `sun 03:30`. Not before the clock
    /// has been set.
    pub at: Option<Spanned<String>>,
    /// Up to so much later, a different time on each box and the same on each run of one.
    pub spread: Option<Spanned<String>>,
}

/// What the service's cgroup may use.
#[derive(Debug, Deserialize, Default)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct RawLimits {
    /// Memory that it can never exceed; 128M when not given, `none` for no limit.
    pub memory: Option<Spanned<String>>,
    /// Memory beyond which it is slowed down and reclaimed from.
    pub memory_high: Option<Spanned<String>>,
    /// Memory that is not reclaimed from it while others have more than theirs.
    pub memory_low: Option<Spanned<String>>,
    /// Swap at most; none when not given.
    pub memory_swap: Option<Spanned<String>>,
    /// Whether an out-of-memory kill takes all of its processes; `true` when not given.
    pub oom_group: Option<bool>,
    /// Processors at most: `0.5`, `2`; all of them when not given.
    pub cpu: Option<Spanned<f64>>,
    /// Share of the processors under contention, 1 to 10000; 100 when not given.
    pub cpu_weight: Option<Spanned<u32>>,
    /// Share of disk time under contention, 1 to 10000; 100 when not given.
    pub io_weight: Option<Spanned<u32>>,
    /// Bytes per second that it reads at most from the disk of `/data`.
    pub io_read: Option<Spanned<String>>,
    /// Bytes per second that it writes at most to the disk of `/data`.
    pub io_write: Option<Spanned<String>>,
    /// Processes and threads at most; 64 when not given.
    pub pids: Option<Spanned<u32>>,
    /// Bytes that its state and cache directories hold at most; 256M when not given, `none` for no
    /// limit.
    pub disk: Option<Spanned<String>>,
    /// Files that its state and cache directories hold at most; 16384 when not given.
    pub disk_files: Option<Spanned<u32>>,
    /// Open descriptors at most per process; 1024 when not given.
    pub open_files: Option<Spanned<u32>>,
    /// Largest file that it writes (`RLIMIT_FSIZE`); no limit when not given.
    pub file_size: Option<Spanned<String>>,
    /// Memory that it locks at most (`RLIMIT_MEMLOCK`); 64K when not given.
    pub locked_memory: Option<Spanned<String>>,
    /// Stack of a thread at most (`RLIMIT_STACK`); 8M when not given.
    pub stack: Option<Spanned<String>>,
}

/// A trigger of the kernel's pressure stall information (PSI) on the service's cgroup.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct RawPressure {
    /// `memory`, `cpu` or `io`.
    pub resource: PressureResource,
    /// `some`: any of its threads waits; `full`: all of them do. `some` when not given.
    #[serde(default)]
    pub level: PressureLevel,
    /// Waiting time within the window that is too much.
    pub threshold: Spanned<String>,
    /// 500 ms to 10 s; 2 s when not given.
    pub window: Option<Spanned<String>>,
    /// `tell`: it is written in the log and its reason; `signal`: the program gets `signal`;
    /// `freeze`: its cgroup is frozen for `freeze-for`; `restart`: it counts as a failure.
    pub action: PressureAction,
    /// For `signal`.
    pub signal: Option<Spanned<String>>,
    /// For `freeze`; 10 s when not given.
    pub freeze_for: Option<Spanned<String>>,
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
    /// Written down.
    Tell,
    /// The program gets a signal.
    Signal,
    /// The cgroup is frozen for a time.
    Freeze,
    /// Stopped, counted as a failure, and started again as its policy says.
    Restart,
}

/// What the service can see and do. All is denied that is not given here.
#[derive(Debug, Deserialize, Default)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct RawSandbox {
    /// `none`: a network namespace with nothing in it; `own`: one with a loopback device of its
    /// own; `host`: the machine's.
    #[serde(default)]
    pub network: Network,
    /// TCP ports that it may bind; none when not given.
    #[serde(default)]
    pub listen: Vec<u16>,
    /// TCP ports that it may connect to; none when not given.
    #[serde(default)]
    pub connect: Vec<u16>,
    /// Whether it may use UDP and other datagrams on the machine's network, which no port rule
    /// reaches.
    #[serde(default)]
    pub udp: bool,
    /// Paths that exist for it, to read. Missing ones are passed over.
    #[serde(default)]
    pub read: Vec<Spanned<String>>,
    /// Paths that exist for it, to write. Missing ones are passed over.
    #[serde(default)]
    pub write: Vec<Spanned<String>>,
    /// Paths that exist for it, to read and execute. Missing ones are passed over.
    #[serde(default)]
    pub execute: Vec<Spanned<String>>,
    /// Device nodes beyond null, zero, full, random and urandom.
    #[serde(default)]
    pub devices: Vec<Spanned<String>>,
    /// Whether `/data/NAME` exists for it, to write, and outlives it (`$STATE_DIRECTORY`).
    #[serde(default)]
    pub state: bool,
    /// Whether `/data/cache/NAME` exists for it, to write; PID 1 may empty it between two starts
    /// (`$CACHE_DIRECTORY`).
    #[serde(default)]
    pub cache: bool,
    /// Whether `/run/kos/NAME` exists for it, to write, until the box goes down
    /// (`$RUNTIME_DIRECTORY`).
    #[serde(default)]
    pub runtime: bool,
    /// Size of its private `/tmp`; 16M when not given, 0 for none.
    pub tmp: Option<Spanned<String>>,
    /// Capabilities it keeps, without `CAP_`, lower case: `net_admin`.
    #[serde(default)]
    pub capabilities: Vec<Spanned<String>>,
    /// Named sets of system calls; `["default"]` when not given.
    pub syscalls: Option<Vec<Spanned<String>>>,
    /// System calls beyond those of the sets, by the kernel's names.
    #[serde(default)]
    pub syscalls_add: Vec<Spanned<String>>,
    /// System calls of the sets that it does not get.
    #[serde(default)]
    pub syscalls_remove: Vec<Spanned<String>>,
    /// Whether memory may be writable and executable, or become executable: a just-in-time
    /// compiler's need, and an attacker's.
    #[serde(default)]
    pub writable_code: bool,
    /// Whether it runs in a user namespace of its own, in which its uid is the only one: even a
    /// capability gained there means nothing outside. `true` when not given, `false` with
    /// `capabilities` or the machine's network, which a user namespace would make void.
    pub user_namespace: Option<Spanned<bool>>,
    /// What it may ask of PID 1: `none`, `observe`, `name` (observe, and set the host name) or
    /// `operate` (all).
    #[serde(default)]
    pub control: ControlGrant,
}

/// See [`RawSandbox::network`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Default)]
#[serde(rename_all = "kebab-case")]
pub enum Network {
    /// Nothing, not even another service.
    #[default]
    None,
    /// A loopback device of its own, and nothing else.
    Own,
    /// The machine's own.
    Host,
}

/// See [`RawSandbox::control`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize, Default)]
#[serde(rename_all = "kebab-case")]
pub enum ControlGrant {
    /// The control socket does not exist for it.
    #[default]
    None,
    /// States and logs.
    Observe,
    /// States, logs, and setting the host name.
    Name,
    /// Everything.
    Operate,
}

fn yes() -> bool {
    true
}
