//! Models from registries and to them: the inference service has no network, this service has.
//!
//! Bytes go through and are never kept here: what comes is handed to the inference service, which
//! knows how much of a blob it has, checks digests, and keeps room on the disk. What must never be
//! done here: write a credential into the log, or send one to another host than it was meant for.

mod address;
mod body;
mod client;
mod error;
mod infer;
mod names;
mod pull;
mod push;
mod routes;
mod token;

pub use routes::{pull, push};
