//! Stand-ins for the two neighbours of `kos-api`, for tests and for looking at the console without
//! a box (`cargo run --release --example fake-box`).

pub mod blobs;
pub mod boots;
pub mod infer;
pub mod init;
pub mod registry;
