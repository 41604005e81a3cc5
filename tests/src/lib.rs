//! The fixture of the end-to-end tests: a test starts a guest, acts and asserts in three lines.
//!
//! ```no_run
//! # use kos_tests::{Guest, Image};
//! # fn main() -> anyhow::Result<()> {
//! let guest = Guest::boot("hog", Image::Test)?;
//! guest.api().post("/api/v1/services/memory-hog/start")?;
//! guest.wait_service("memory-hog", |s| s.state == "failed" && s.reason.contains("memory"))?;
//! # Ok(())
//! # }
//! ```
//!
//! What it hides: the machine, the data disk, the pairing code, time limits. What it never does:
//! it never reaches into the guest by a way that a user has not got, but for the power button
//! and pulling the plug; and it never loses a serial log (`$KOS_LOGS/<test>.log`).
//!
//! The images come from `cargo xtask test`, by environment variables (see [`environment`]).

pub mod api;
mod boot;
pub mod box_disk;
pub mod chance;
pub mod disk;
pub mod environment;
pub mod fat;
pub mod file_system;
pub mod gpt;
mod guest;
pub mod host;
mod measured;
pub mod write_log;

pub use api::{Answer, Api, ServiceView};
pub use boot::Boot;
pub use box_disk::BoxDisk;
pub use disk::DataDisk;
pub use environment::{Image, boot_limit, step_limit};
pub use guest::{Guest, KEPT_PORT, OPERATOR};
pub use measured::measured;
