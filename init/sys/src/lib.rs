//! The system calls that PID 1 and its launcher need, each behind a function that returns a
//! `Result` naming the act and its object.
//!
//! This is the one crate of the workspace that may hold `unsafe`. It prefers the safe calls of
//! rustix; where none exists, the block says why it is sound. Kernel files (cgroup, sysfs, proc)
//! are reached through a root path that a test replaces by a directory of its own.
//!
//! Deliberately absent: policy (which calls, which paths, which limits is data elsewhere),
//! threads, and any waiting without a bound except for a signal.

pub mod allocator;
#[cfg(feature = "attempts")]
pub mod attempts;
pub mod block;
pub mod cgroup;
pub mod checksum;
pub mod clock;
pub mod data_partition;
pub mod efivar;
pub mod error;
pub mod exec;
pub mod ext4;
pub mod filter;
pub mod gpt;
pub mod hostname;
pub mod identity;
pub mod input;
pub mod kernel_file;
pub mod landlock;
pub mod led;
pub mod listen;
pub mod loopback;
pub mod medium;
pub mod mount;
pub mod partitions;
pub mod power;
pub mod process;
pub mod provision;
pub mod psi;
pub mod quota;
pub mod reap;
pub mod seed;
pub mod signals;
pub mod sockets;
pub mod spawn;
pub mod sysctl;
pub mod tree;
pub mod user_namespace;
pub mod watch;
pub mod watchdog;

pub use error::SysError;
