//! What a service can see and do.

use serde::Deserialize;
use toml::Spanned;

use super::{AbsolutePath, DeviceName, Port, Size, SyscallName, Word};

/// What the service can see and do. All is denied that is not given here.
///
/// ```toml
/// [sandbox]
/// network = "host"
/// listen = [9090]
/// runtime = true
/// state = true
/// read = ["/data/models"]
/// syscalls = ["default", "network"]
/// syscalls-remove = ["chmod"]
/// ```
#[derive(Debug, Clone, Deserialize, Default)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct RawSandbox {
    /// Which network it has.
    ///
    /// Default: `none`.
    #[serde(default)]
    pub network: Network,
    /// TCP ports that it may bind; not with the network `none`.
    ///
    /// Default: none.
    #[serde(default)]
    pub listen: Vec<Port>,
    /// TCP ports that it may connect to; not with the network `none`.
    ///
    /// Default: none.
    #[serde(default)]
    pub connect: Vec<Port>,
    /// Whether it may use UDP and other datagrams, which no port rule reaches; not with the
    /// network `none`.
    ///
    /// Default: `false`.
    pub udp: Option<Spanned<bool>>,
    /// Paths that exist for it, to read. Missing ones are passed over.
    ///
    /// Allowed: in a manifest that the owner adds, below `/data/models` and the runtime directories
    /// of the image's services.
    #[serde(default)]
    pub read: Vec<AbsolutePath>,
    /// Paths that exist for it, to write. Missing ones are passed over.
    ///
    /// Allowed: in a manifest that the owner adds, below the service's own directories.
    #[serde(default)]
    pub write: Vec<AbsolutePath>,
    /// Paths that exist for it, to read and execute. Missing ones are passed over.
    ///
    /// Allowed: in a manifest that the owner adds, below `/bin` and `/data/programs`.
    #[serde(default)]
    pub execute: Vec<AbsolutePath>,
    /// Device nodes beyond null, zero, full, random and urandom.
    ///
    /// Allowed: names below `/dev`, of letters, digits, `-`, `_` and `/`.
    #[serde(default)]
    pub devices: Vec<DeviceName>,
    /// Whether `/data/NAME` exists for it, to write, and outlives it (`$STATE_DIRECTORY`).
    ///
    /// Default: `false`.
    #[serde(default)]
    pub state: bool,
    /// Whether `/data/cache/NAME` exists for it, to write; PID 1 may empty it between two starts
    /// (`$CACHE_DIRECTORY`).
    ///
    /// Default: `false`.
    #[serde(default)]
    pub cache: bool,
    /// Whether `/run/kos/NAME` exists for it, to write, until the box goes down
    /// (`$RUNTIME_DIRECTORY`).
    ///
    /// Default: `false`.
    #[serde(default)]
    pub runtime: bool,
    /// Size of its private `/tmp`, 0 for none.
    ///
    /// Default: `16M`.
    pub tmp: Option<Size>,
    /// Capabilities it keeps, without `CAP_`.
    ///
    /// Default: none. Allowed: `net_admin`, `net_raw`, `net_bind_service`, `sys_time`, `sys_nice`;
    /// none in a manifest that the owner adds.
    #[serde(default)]
    pub capabilities: Vec<Word>,
    /// Named sets of system calls: the files of `image/seccomp/`.
    ///
    /// Default: `["default"]`.
    pub syscalls: Option<Vec<Word>>,
    /// System calls beyond those of the sets. One that the machine does not have is passed over.
    ///
    /// Default: none.
    #[serde(default)]
    pub syscalls_add: Vec<SyscallName>,
    /// System calls of the sets that it does not get.
    ///
    /// Default: none.
    #[serde(default)]
    pub syscalls_remove: Vec<SyscallName>,
    /// Whether memory may be writable and executable, or become executable: a just-in-time
    /// compiler's need, and an attacker's.
    ///
    /// Default: `false`.
    #[serde(default)]
    pub writable_code: bool,
    /// Whether it runs in a user namespace of its own, in which its uid is the only one: even a
    /// capability gained there means nothing outside.
    ///
    /// Default: `true`; `false` with `capabilities` or the network `host`, which a user namespace
    /// would make void and with which `true` is refused.
    pub user_namespace: Option<Spanned<bool>>,
    /// What it may ask of PID 1.
    ///
    /// Default: `none`. Allowed: `none` and `observe` in a manifest that the owner adds.
    #[serde(default)]
    pub control: ControlGrant,
}

/// See [`RawSandbox::network`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Default)]
#[serde(rename_all = "kebab-case")]
pub enum Network {
    /// A network namespace with nothing in it, not even another service.
    #[default]
    None,
    /// A network namespace with a loopback device of its own, and nothing else.
    Own,
    /// The machine's own.
    Host,
}

/// See [`RawSandbox::control`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize, Default)]
#[serde(rename_all = "kebab-case")]
pub enum ControlGrant {
    /// Nothing: the control socket does not exist for it.
    #[default]
    None,
    /// States and logs.
    Observe,
    /// States, logs, and setting the host name.
    Name,
    /// Everything.
    Operate,
}
