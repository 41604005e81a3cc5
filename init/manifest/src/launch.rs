//! What PID 1 tells `kos-launch`, and what `kos-launch` reports back.
//!
//! The spec travels as one JSON document in a sealed memory file on descriptor
//! [`SPEC_FD`]; the reports travel as one JSON document per packet on the sequenced-packet
//! socket [`REPORT_FD`]. PID 1 writes both ends of the contract here so that neither guesses.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Descriptor on which `kos-launch` finds its [`LaunchSpec`].
pub const SPEC_FD: i32 = 3;

/// Descriptor on which `kos-launch` sends its [`LaunchReport`]s.
pub const REPORT_FD: i32 = 4;

/// First of the descriptors that are passed on: the sockets that PID 1 keeps, then the secrets, in
/// the order of [`LaunchSpec::sockets`] and [`LaunchSpec::credentials`].
pub const FIRST_PASSED_FD: i32 = 5;

/// The number that the first of them has in the program, as `sd_listen_fds` wants it.
pub const FIRST_PROGRAM_FD: i32 = 3;

/// Where the program finds a name for each of its secrets.
pub const CREDENTIALS_DIRECTORY: &str = "/run/kos/credentials";

/// Largest spec that either side handles, in bytes. A generous multiple of the largest real one.
pub const MAX_SPEC_BYTES: usize = 256 * 1024;

/// Largest report packet, in bytes: one error text with its path.
pub const MAX_REPORT_BYTES: usize = 4096;

/// What `kos-launch` calls once the program runs, as the sandbox's init; the memory calls are the
/// allocator's.
pub const LAUNCHER_CALLS: [&str; 17] = [
    "brk",
    "close",
    "exit",
    "exit_group",
    "futex",
    "kill",
    "madvise",
    "mmap",
    "mremap",
    "munmap",
    "rt_sigprocmask",
    "rt_sigreturn",
    "rt_sigtimedwait",
    "sendto",
    "sigaltstack",
    "wait4",
    "write",
];

/// Everything `kos-launch` needs to build one sandbox and become the program in it.
///
/// The pid, mount, ipc, uts and (unless the network is the host's) net namespaces exist already:
/// PID 1 made them with the process. The cgroup, too: the process was born in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LaunchSpec {
    /// The service's name; also the sandbox's host name.
    pub name: String,
    /// Absolute path of the program, the same outside and inside the sandbox.
    pub program: PathBuf,
    /// Arguments after the program's own name.
    pub args: Vec<String>,
    /// The whole environment; nothing is inherited. `kos-launch` adds what it alone knows:
    /// `LISTEN_PID`, `LISTEN_FDS` and `LISTEN_FDNAMES` where there are sockets, `CREDENTIALS_FDS` and
    /// `CREDENTIALS_DIRECTORY` where there are secrets.
    pub environment: BTreeMap<String, String>,
    /// User id that the program runs as.
    pub uid: u32,
    /// Group id that the program runs as; it has no other groups.
    pub gid: u32,
    /// What of the file system exists inside the sandbox, in mount order. Nothing else does.
    pub view: Vec<View>,
    /// Size of the private `/tmp`, in bytes; 0 means that there is none.
    pub tmp_bytes: u64,
    /// Device nodes by name below `/dev` (`null`, `urandom`, …).
    pub devices: Vec<String>,
    /// Capabilities kept (ambient), by name without `CAP_`, lower case; usually none.
    pub capabilities: Vec<String>,
    /// The program's system-call filter, an instruction of the kernel's in each number. PID 1 compiles
    /// it, once for all services with the same rights; `kos-launch` adds its own last call, which is the
    /// program's execution.
    pub filter: Vec<u64>,
    /// The filter of `kos-launch` itself from then on, made of [`LAUNCHER_CALLS`].
    pub own_filter: Vec<u64>,
    /// Whether the loopback device of its own network namespace is brought up.
    pub loopback: bool,
    /// TCP ports that may be bound; `None` means that Landlock does not restrict TCP binding.
    pub listen: Option<Vec<u16>>,
    /// TCP ports that may be connected to; `None` means no restriction.
    pub connect: Option<Vec<u16>>,
    /// Whether the program has a user namespace of its own, in which its uid is the only one.
    pub user_namespace: bool,
    /// Whether memory may be writable and executable, or become executable.
    pub writable_code: bool,
    /// Limits of each process, for good.
    pub limits: ProcessLimits,
    /// Names of the sockets passed on, in the order of their descriptors.
    pub sockets: Vec<String>,
    /// Names of the secrets passed on, in the order of their descriptors.
    pub credentials: Vec<String>,
}

/// What one process may use, beside what its cgroup may (`setrlimit`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProcessLimits {
    /// Open descriptors (`RLIMIT_NOFILE`).
    pub open_files: u64,
    /// Bytes of the largest file that it writes (`RLIMIT_FSIZE`); `None` is no limit.
    pub file_size: Option<u64>,
    /// Bytes of memory that it locks (`RLIMIT_MEMLOCK`).
    pub locked_memory: u64,
    /// Bytes of its stack (`RLIMIT_STACK`).
    pub stack: u64,
}

/// One path that exists inside the sandbox, bound from the same path outside unless said otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct View {
    /// Path outside.
    pub source: PathBuf,
    /// Path inside.
    pub target: PathBuf,
    /// What may be done there.
    pub access: Access,
    /// Whether a missing source is passed over instead of being an error.
    pub optional: bool,
}

/// What a sandbox may do below a path. Mount flags and Landlock rules both follow from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Access {
    /// Read files and list directories; mounted `ro,noexec,nosuid,nodev`.
    Read,
    /// Read and execute; mounted `ro,nosuid,nodev`.
    Execute,
    /// Read, write, create, remove; mounted `rw,noexec,nosuid,nodev`.
    Write,
}

/// The steps of a launch in their order; a failure names the one it happened in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// Reading the spec.
    Spec,
    /// Host name of the sandbox.
    Hostname,
    /// Mounts and the new root.
    Mounts,
    /// The loopback device.
    Network,
    /// Starting the program's own process below the sandbox's init.
    Fork,
    /// Resource limits.
    Limits,
    /// User, group, capabilities and user namespace.
    Identity,
    /// Sockets and secrets that are passed on.
    Descriptors,
    /// Landlock.
    Landlock,
    /// The system-call filter.
    Seccomp,
    /// Executing the program.
    Exec,
}

/// What `kos-launch` tells PID 1, one JSON document per packet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "report")]
pub enum LaunchReport {
    /// The program's process is about to execute; the packet's sender (`SCM_CREDENTIALS`) is it.
    Executing,
    /// A step failed; the process exits with [`LAUNCH_FAILED`].
    Failed {
        /// Where.
        step: Step,
        /// Why, with the path or name concerned.
        error: String,
    },
    /// The program's process ended.
    Exited {
        /// Exit code, when it exited.
        code: Option<i32>,
        /// Signal number, when it was killed.
        signal: Option<i32>,
    },
}

/// Exit code of `kos-launch` when it could not launch (after systemd's 2xx range for the same).
pub const LAUNCH_FAILED: i32 = 203;
