//! `cargo xtask bench supervise`: kOS beside the supervisors of Debian 12, on the same kernel, in
//! the same machine, in the same run.

mod command;
mod peer;
mod report;
mod root;
mod services;

pub use command::{SuperviseArgs, run};
