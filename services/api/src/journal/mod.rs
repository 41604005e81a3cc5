//! The box's log as it is kept: what PID 1's rings held, written to disk, searched and followed.
//!
//! One task collects from PID 1, one keeps: only the keeper writes. Readers see what has been
//! written and nothing else, so that a cursor that was given out means the same after a crash.

pub mod collector;
pub mod filter;
pub mod keeper;
pub mod line;
pub mod rate;
pub mod reader;
pub mod record;
pub mod search;
pub mod segment;
pub mod segments;
pub mod shelf;
pub mod sync;
pub mod time;
