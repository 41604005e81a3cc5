//! The schemas that kOS is described with: services, boards and the owner's settings today, agents
//! and deployment profiles later, and the values that PID 1, its launcher and its clients exchange about them.
//!
//! This crate is pure. It does no I/O, reads no clock and starts no thread, so that the image
//! build, PID 1 and the tests all reach the same verdict on the same text.
//!
//! Raw text becomes a validated type exactly once ([`service::ServiceSet::parse`]); what has been
//! parsed cannot be wrong any more, and no other crate re-checks it.

#![forbid(unsafe_code)]

pub mod board_info;
pub mod box_settings;
pub mod control;
pub mod disk;
pub mod error;
pub mod guid;
pub mod launch;
pub mod order;
pub mod quantity;
pub mod raw;
pub mod seccomp;
pub mod service;
pub mod signal;
mod source;

pub use error::ManifestError;
