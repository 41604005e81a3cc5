//! How a service comes up, stays up, and ends: the keys that steer its life.

use serde::Deserialize;
use toml::Spanned;

use super::{AbsolutePath, Text, Time, Word};

/// How PID 1 learns that the service does its work.
///
/// ```toml
/// [readiness]
/// kind = "http"
/// address = "tcp:8080"
/// path = "/healthz"
/// timeout = "20s"
/// ```
#[derive(Debug, Clone, Deserialize, Default)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct RawReadiness {
    /// The sign that PID 1 waits for.
    ///
    /// Default: `notify`.
    pub kind: Option<Spanned<ReadinessKind>>,
    /// Where it is asked: needed for `socket` and `http`, refused for the others.
    ///
    /// Allowed: `tcp:PORT` on the machine's loopback, for a port of `sandbox.listen` with the network
    /// `host`, or for `http` one of `sockets`; or `unix:PATH` below `/run/kos/NAME`, for a service
    /// with `runtime = true`.
    pub address: Option<Text>,
    /// What is asked for; only for `http`.
    ///
    /// Default: `/`. Allowed: `/` and printable ASCII without spaces, at most 200 bytes.
    pub path: Option<Text>,
    /// How long it may take to become ready.
    ///
    /// Default: `60s`. Allowed: `10ms` to `1h`.
    pub timeout: Option<Time>,
}

/// See [`RawReadiness::kind`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Default)]
#[serde(rename_all = "kebab-case")]
pub enum ReadinessKind {
    /// It says `READY=1` on `$NOTIFY_SOCKET`.
    #[default]
    Notify,
    /// `address` takes a connection.
    Socket,
    /// A GET of `path` at `address` is answered with 2xx.
    Http,
    /// It is ready as soon as the program has been executed.
    None,
}

/// What happens when the program ends by itself.
///
/// ```toml
/// [restart]
/// policy = "on-failure"
/// delay = "500ms"
/// max-delay = "1m"
/// start-limit = 10
/// start-window = "5m"
/// ```
#[derive(Debug, Clone, Deserialize, Default)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct RawRestart {
    /// When it is started again. Exit code 125 and an operator's stop are final under each.
    ///
    /// Default: `always`.
    #[serde(default)]
    pub policy: RestartPolicy,
    /// Delay before the first restart; each further one waits twice as long.
    ///
    /// Default: `200ms`. Allowed: `10ms` to `1h`.
    pub delay: Option<Time>,
    /// The longest that a restart is delayed.
    ///
    /// Default: `30s`, or `delay` when that is longer. Allowed: `delay` to `1d`.
    pub max_delay: Option<Time>,
    /// Starts allowed within `start-window`; one more, and the service is failed.
    ///
    /// Default: `5`. Allowed: 1 to 100.
    pub start_limit: Option<Spanned<u32>>,
    /// See `start-limit`.
    ///
    /// Default: `60s`. Allowed: `1s` to `7d`.
    pub start_window: Option<Time>,
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
///
/// ```toml
/// [stop]
/// signal = "SIGINT"
/// timeout = "15s"
/// ```
#[derive(Debug, Clone, Deserialize, Default)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct RawStop {
    /// The signal that the program gets.
    ///
    /// Default: `SIGTERM`. Allowed: `SIGHUP`, `SIGINT`, `SIGQUIT`, `SIGUSR1`, `SIGUSR2`, `SIGTERM`.
    pub signal: Option<Word>,
    /// How long it may take to end before its whole cgroup is killed.
    ///
    /// Default: `10s`. Allowed: `0s` to `1h`.
    pub timeout: Option<Time>,
}

/// Programs that are run before and after the service's own, one after the other, each in a
/// sandbox like the service's.
///
/// ```toml
/// [[steps.pre-start]]
/// program = "/bin/migrate-database"
/// args = ["--to", "latest"]
/// timeout = "2m"
///
/// [[steps.post-stop]]
/// program = "/bin/remove-locks"
/// ```
#[derive(Debug, Clone, Deserialize, Default)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct RawSteps {
    /// Before each start; one that fails is a failure of the start.
    ///
    /// Allowed: at most 8.
    #[serde(default)]
    pub pre_start: Vec<RawStep>,
    /// After each end, however it came; one that fails is told and changes nothing.
    ///
    /// Allowed: at most 8.
    #[serde(default)]
    pub post_stop: Vec<RawStep>,
}

/// One program to run to its end.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct RawStep {
    /// The program, under the same rules as the service's own; in an owner's manifest with the name
    /// of an image's service it is one of the image's.
    pub program: AbsolutePath,
    /// Arguments after the program's name.
    #[serde(default)]
    pub args: Vec<Text>,
    /// How long it may take before it is killed.
    ///
    /// Default: `30s`. Allowed: `10ms` to `1h`.
    pub timeout: Option<Time>,
}

/// A listening socket that outlives the program.
///
/// ```toml
/// [[sockets]]
/// name = "web"
/// listen = "tcp:0.0.0.0:8080"
/// backlog = 256
///
/// [[sockets]]
/// name = "local"
/// listen = "unix:/run/kos/echo/echo.sock"
/// ```
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct RawSocket {
    /// Its name in `$LISTEN_FDNAMES`, unique in the service.
    ///
    /// Allowed: at most 32 lower-case letters, digits and dashes.
    pub name: Word,
    /// Where it listens. No two sockets of the box listen at one place.
    ///
    /// Allowed: `tcp:ADDRESS:PORT` or `udp:ADDRESS:PORT` (on the machine's network, whatever the
    /// service's own is; IPv6 as `[::1]`), or `unix:PATH` in `/run/kos/NAME` with
    /// `runtime = true`.
    pub listen: Text,
    /// Connections that may wait to be accepted; not for `udp`.
    ///
    /// Default: `128`. Allowed: 1 to 4096.
    pub backlog: Option<Spanned<u32>>,
}

/// When the service is started by the clock: by one of `every` and `at`. A start of what runs
/// already changes nothing.
///
/// ```toml
/// [timer]
/// at = "sun 03:30"
/// spread = "30m"
/// ```
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct RawTimer {
    /// So long after its last start, and after the boot for the first time.
    ///
    /// Allowed: `1s` to `365d`.
    pub every: Option<Time>,
    /// At this time of the day in UTC, or of a weekday. Not before the clock has been set.
    ///
    /// Allowed: `03:30`, or with `mon`, `tue`, `wed`, `thu`, `fri`, `sat` or `sun` and one space
    /// before it.
    pub at: Option<Text>,
    /// Up to so much later, a different time on each box and the same on each run of one.
    ///
    /// Default: `0s`. Allowed: `0s` to `7d`.
    pub spread: Option<Time>,
}
