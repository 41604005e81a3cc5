//! Starts guests in QEMU: for `cargo xtask run` and for every test that boots an image.
//!
//! A [`Machine`] describes a guest, [`Machine::start`] makes it a running [`Guest`], and the
//! guest is watched (serial lines), talked to (QMP, forwarded ports) and ended in bounded time.
//!
//! Invariants:
//! - Synchronous: plain threads, no runtime, so that a test is a plain function.
//! - Every wait has a time limit, and every error about a running guest carries the end of its
//!   serial log and the log's path.
//! - No QEMU outlives the process that started it: `Drop` kills and reaps it, and the kernel
//!   kills it when we are killed ourselves (see `process`).
//! - Nothing here knows what kOS prints or serves; that is `kos-tests`' and `xtask`'s business.

mod accelerator;
mod disk;
mod error;
mod firmware;
mod guest;
mod machine;
mod platform;
mod process;
mod qmp;
mod serial;
mod usernet;

pub use accelerator::Accelerator;
pub use disk::{Attachment, Disk};
pub use error::{Error, Result, SerialTail};
pub use firmware::Firmware;
pub use guest::Guest;
pub use machine::{Forward, Machine};
pub use platform::{Arch, Platform};
pub use qmp::Event;
pub use serial::SerialSink;
