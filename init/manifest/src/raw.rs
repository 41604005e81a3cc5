//! A service manifest as it is written, before anything about it is believed.
//!
//! The doc comments here are the reference of the manifest's keys. Unknown keys are refused, and
//! the error lists those that exist.

use std::collections::BTreeMap;

use serde::Deserialize;
use toml::Spanned;

/// One `image/services/NAME.toml`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct RawService {
    /// The service's name: lower-case letters, digits and dashes; the same as the file's.
    pub name: Spanned<String>,
    /// One line for people.
    pub description: String,
    /// Absolute path of the program.
    pub program: Spanned<String>,
    /// Arguments after the program's name.
    #[serde(default)]
    pub args: Vec<String>,
    /// User and group id, unique in the image, 1000 to 59999.
    pub uid: Spanned<u32>,
    /// Whether it is started at boot.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// Whether its final failure reboots the box.
    #[serde(default)]
    pub essential: bool,
    /// Services that are started first, when they are started at all.
    #[serde(default)]
    pub after: Vec<Spanned<String>>,
    /// Services without which this one does not start; implies `after`.
    #[serde(default)]
    pub requires: Vec<Spanned<String>>,
    /// Environment of the program; nothing else is in it but what PID 1 adds.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    /// Secrets by name that PID 1 puts below `$CREDENTIALS_DIRECTORY`.
    #[serde(default)]
    pub credentials: Vec<Spanned<String>>,
    #[serde(default)]
    pub readiness: RawReadiness,
    #[serde(default)]
    pub restart: RawRestart,
    #[serde(default)]
    pub stop: RawStop,
    #[serde(default)]
    pub limits: RawLimits,
    #[serde(default)]
    pub sandbox: RawSandbox,
}

/// How PID 1 learns that the service does its work.
#[derive(Debug, Deserialize, Default)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct RawReadiness {
    /// `notify`: it says `READY=1`; `none`: it is ready once it runs.
    #[serde(default)]
    pub kind: ReadinessKind,
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
    /// Ready as soon as the program has been executed.
    None,
}

/// What happens when the program ends by itself.
#[derive(Debug, Deserialize, Default)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct RawRestart {
    /// `always`, `on-failure` or `never`.
    #[serde(default)]
    pub policy: RestartPolicy,
    /// Delay before the first restart; each further one waits twice as long.
    pub delay: Option<Spanned<String>>,
    /// The longest that a restart is delayed.
    pub max_delay: Option<Spanned<String>>,
    /// Starts allowed within `start-window`; one more, and the service is failed.
    pub start_limit: Option<Spanned<u32>>,
    /// See `start-limit`.
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

/// What the service's cgroup may use.
#[derive(Debug, Deserialize, Default)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct RawLimits {
    /// Memory that it can never exceed; 128M when not given, `none` for no limit.
    pub memory: Option<Spanned<String>>,
    /// Memory beyond which it is slowed down and reclaimed from.
    pub memory_high: Option<Spanned<String>>,
    /// Processors at most: `0.5`, `2`; all of them when not given.
    pub cpu: Option<Spanned<f64>>,
    /// Share of the processors under contention, 1 to 10000; 100 when not given.
    pub cpu_weight: Option<Spanned<u32>>,
    /// Share of disk time under contention, 1 to 10000; 100 when not given.
    pub io_weight: Option<Spanned<u32>>,
    /// Processes and threads at most; 64 when not given.
    pub pids: Option<Spanned<u32>>,
    /// Open descriptors at most per process; 1024 when not given.
    pub open_files: Option<Spanned<u32>>,
}

/// What the service can see and do.
#[derive(Debug, Deserialize, Default)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct RawSandbox {
    /// `none`: a network namespace of its own with nothing in it; `host`: the machine's.
    #[serde(default)]
    pub network: Network,
    /// TCP ports that it may bind; none when not given.
    #[serde(default)]
    pub listen: Vec<u16>,
    /// TCP ports that it may connect to; none when not given.
    #[serde(default)]
    pub connect: Vec<u16>,
    /// Paths that exist for it, to read. Missing ones are passed over.
    #[serde(default)]
    pub read: Vec<Spanned<String>>,
    /// Paths that exist for it, to write. Missing ones are passed over.
    #[serde(default)]
    pub write: Vec<Spanned<String>>,
    /// Device nodes beyond null, zero, full, random and urandom.
    #[serde(default)]
    pub devices: Vec<Spanned<String>>,
    /// Whether `/data/NAME` exists for it, to write, and outlives it.
    #[serde(default)]
    pub state: bool,
    /// Whether `/run/kos/NAME` exists for it, to write, until the box goes down.
    #[serde(default)]
    pub runtime: bool,
    /// Size of its private `/tmp`; 16M when not given, 0 for none.
    pub tmp: Option<Spanned<String>>,
    /// Capabilities it keeps, without `CAP_`, lower case: `net_admin`.
    #[serde(default)]
    pub capabilities: Vec<Spanned<String>>,
    /// Named sets of system calls; `["default"]` when not given.
    pub syscalls: Option<Vec<Spanned<String>>>,
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
