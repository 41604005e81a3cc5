//! A service manifest as it is written, before anything about it is believed.
//!
//! The doc comments here and below `raw/` are the reference of the manifest's keys: `cargo xtask
//! docs` makes `docs/manifest.md` and the JSON Schema of editors from them. So they have a form:
//! sentences, then `Default: …` and `Allowed: …` as paragraphs, and a table has an example in TOML.
//! Unknown keys are refused, and the error lists those that exist.

use std::collections::BTreeMap;

use serde::Deserialize;
use toml::Spanned;

mod limits;
mod sandbox;
mod supervision;

pub use limits::{PressureAction, PressureLevel, PressureResource};
pub(crate) use limits::{RawLimits, RawPressure};
pub(crate) use sandbox::RawSandbox;
pub use sandbox::{ControlGrant, Network};
pub(crate) use supervision::{
    RawReadiness, RawRestart, RawSocket, RawStep, RawSteps, RawStop, RawTimer,
};
pub use supervision::{ReadinessKind, RestartPolicy};

/// A time: a whole number with `ms`, `s`, `m`, `h` or `d`.
///
/// Pattern: `^[0-9]+(ms|s|m|h|d)$`
pub(crate) type Time = Spanned<String>;
/// A size in bytes: a whole number, with `K`, `M`, `G` or `T` for binary multiples.
///
/// Pattern: `^[0-9]+[KMGT]?$`
pub(crate) type Size = Spanned<String>;
/// A size in bytes, or `none` for no limit.
///
/// Pattern: `^([0-9]+[KMGT]?|none)$`
pub(crate) type SizeOrNone = Spanned<String>;
/// An absolute path below `/`, without `..`.
///
/// Pattern: `^/`
pub(crate) type AbsolutePath = Spanned<String>;
/// The name of a service, or of an instance of a template (`camera@garage`).
///
/// Pattern: `^[a-z][a-z0-9-]*(@[a-z0-9-]+)?$`
pub(crate) type ServiceName = Spanned<String>;
/// The name of a device node below `/dev`.
///
/// Pattern: `^[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*$`
pub(crate) type DeviceName = Spanned<String>;
/// The kernel's name of a system call; `clone/thread` and the like allow one form of it.
///
/// Pattern: `^[a-z_][a-z0-9_]*(/[a-z0-9]+)?$`
pub(crate) type SyscallName = Spanned<String>;
/// A text without control characters.
pub(crate) type Text = Spanned<String>;
/// One of a few words.
pub(crate) type Word = Spanned<String>;
/// A TCP port.
///
/// Allowed: 1 to 65535.
pub(crate) type Port = Spanned<u16>;

/// One service: `NAME.toml`, or a template `NAME@.toml` whose instances are `NAME@INSTANCE`.
///
/// ```toml
/// name = "echo"
/// description = "Says what it hears"
/// program = "/bin/echo-server"
/// args = ["--verbose"]
/// uid = 1500
/// after = ["net"]
/// watchdog = "30s"
///
/// [environment]
/// GREETING = "hello"
/// ```
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct RawService {
    /// The service's name, the same as the file's. A template's ends in `@`.
    ///
    /// Allowed: at most 32 lower-case letters, digits and dashes, a letter first.
    pub name: Spanned<String>,
    /// One line for people.
    ///
    /// Allowed: at most 200 bytes.
    pub description: Text,
    /// The program that is run.
    ///
    /// Allowed: an absolute path; in an owner's manifest below `/bin` (the image's programs) or
    /// `/data/programs`.
    pub program: AbsolutePath,
    /// Arguments after the program's name. In a template `%i` stands for the instance, here and in
    /// `description`, `environment`, `steps`, `sockets`, `readiness`, the devices of `conditions`,
    /// and the paths and devices of `sandbox`; `%%` is a `%` there.
    #[serde(default)]
    pub args: Vec<Text>,
    /// User and group id, unique on the box. A template has none: its instances do.
    ///
    /// Allowed: 1000 to 19999 for services of the image, 20000 to 59999 for those that the owner
    /// adds.
    pub uid: Option<Spanned<u32>>,
    /// A template's instances, each with its uid: `garage = 20001`. Only with a name ending in `@`.
    ///
    /// Allowed: names of at most 24 lower-case letters, digits and dashes.
    #[serde(default)]
    pub instances: BTreeMap<Spanned<String>, Spanned<u32>>,
    /// Whether it is started at boot. One with a `timer` or that others want is started by those.
    ///
    /// Default: `true`.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// Whether its final failure reboots the box. Not in a manifest that the owner adds: a box
    /// that such a one reboots could not be mended any more.
    ///
    /// Default: `false`.
    #[serde(default)]
    pub essential: bool,
    /// Services that are started first, when they are started at all.
    #[serde(default)]
    pub after: Vec<ServiceName>,
    /// Services without which this one does not start; implies `after`. They are started with it,
    /// and when one of them fails, it fails.
    #[serde(default)]
    pub requires: Vec<ServiceName>,
    /// Services that are started with this one, which does not depend on their success or order.
    #[serde(default)]
    pub wants: Vec<ServiceName>,
    /// Services that are stopped only after this one has ended, in whatever order they started.
    #[serde(default)]
    pub stop_before: Vec<ServiceName>,
    /// Environment of the program; nothing else is in it but what PID 1 adds.
    ///
    /// Allowed: names of letters, digits and `_`, none of PID 1's own (`NOTIFY_SOCKET`,
    /// `LISTEN_…`, `…_DIRECTORY`, `KOS_…` and the like).
    #[serde(default)]
    pub environment: BTreeMap<Spanned<String>, Text>,
    /// Secrets by name, handed over as sealed memory files: `$CREDENTIALS_FDS` says
    /// `name=descriptor` for each, separated by colons, and `$CREDENTIALS_DIRECTORY/NAME` opens it.
    ///
    /// Allowed: `pairing-code`, `owner-key`, `network-settings`, `wifi-settings`; none in a
    /// manifest that the owner adds.
    #[serde(default)]
    pub credentials: Vec<Word>,
    /// What must be true of the box for the service to run there; else it stays stopped and says
    /// which condition was not met.
    #[serde(default)]
    pub conditions: RawConditions,
    /// How PID 1 learns that the service does its work.
    #[serde(default)]
    pub readiness: RawReadiness,
    /// Longest silence between two `WATCHDOG=1` once it is ready; a longer one is a failure. The
    /// program finds it in `$WATCHDOG_USEC`.
    ///
    /// Default: no watchdog. Allowed: `100ms` to `1h`.
    pub watchdog: Option<Time>,
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
    ///
    /// Allowed: at most 16.
    #[serde(default)]
    pub sockets: Vec<RawSocket>,
    /// When it is started, beside or instead of at boot.
    pub timer: Option<RawTimer>,
    /// What the service's cgroup may use.
    #[serde(default)]
    pub limits: RawLimits,
    /// What is done when the service waits too long for memory, processor or disk.
    ///
    /// Allowed: at most 8.
    #[serde(default)]
    pub pressure: Vec<RawPressure>,
    /// What the service can see and do.
    #[serde(default)]
    pub sandbox: RawSandbox,
}

/// What must be true of the box. Every list that is given must be met.
///
/// ```toml
/// [conditions]
/// profiles = ["standalone", "embedded"]
/// boards = ["rpi4", "rpi5"]
/// devices = ["video0"]
/// ```
#[derive(Debug, Clone, Deserialize, Default)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct RawConditions {
    /// The deployment profile is one of these.
    ///
    /// Default: any. Allowed: `standalone`, `browser`, `embedded`, `server`, `cluster`.
    #[serde(default)]
    pub profiles: Vec<Word>,
    /// The board is one of these, by the name of its file below `image/boards/`.
    ///
    /// Default: any. Allowed: letters, digits, `-` and `_`.
    #[serde(default)]
    pub boards: Vec<Word>,
    /// All of these devices are there, by their names below `/dev`. It is started when they appear.
    ///
    /// Default: none.
    #[serde(default)]
    pub devices: Vec<DeviceName>,
}

fn yes() -> bool {
    true
}
