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

/// Largest spec that either side handles, in bytes. A generous multiple of the largest real one.
pub const MAX_SPEC_BYTES: usize = 256 * 1024;

/// Largest report packet, in bytes: one error text with its path.
pub const MAX_REPORT_BYTES: usize = 4096;

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
    /// The whole environment; nothing is inherited.
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
    /// System calls allowed, by name; every other one fails with `EPERM`.
    pub syscalls: Vec<String>,
    /// TCP ports that may be bound; `None` means that Landlock does not restrict TCP binding.
    pub listen: Option<Vec<u16>>,
    /// TCP ports that may be connected to; `None` means no restriction.
    pub connect: Option<Vec<u16>>,
    /// Limit of open descriptors (`RLIMIT_NOFILE`).
    pub open_files: u64,
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
    /// Starting the program's own process below the sandbox's init.
    Fork,
    /// Resource limits.
    Limits,
    /// User, group and capabilities.
    Identity,
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
