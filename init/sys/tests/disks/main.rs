//! Disks in memory: what the power may do to them, and what somebody may have written on them. And
//! one disk that a kernel sees.

// Helpers of tests are not seen as tests.
#![allow(clippy::unwrap_used)]

mod disk;
mod hostile;
mod kernel;
mod power_cut;
mod random;
mod table;
