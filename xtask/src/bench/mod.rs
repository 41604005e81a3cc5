//! `cargo xtask bench …`: what is measured, always beside something in the same run.

mod boot;
mod command;
mod image;
mod infer;
mod median;
mod supervise;
mod uefi;

pub use command::{BenchArgs, run};
