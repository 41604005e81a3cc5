//! Trains the operator, the model that `kos-infer` carries in the image. Runs on the building machine
//! only; nothing of it is in the image.
//!
//! [`grammar`] reads what `grammar/` says, [`sentence`] makes requests of it with the call that each
//! means, [`learn`] trains on them, [`write`] puts the result into a file, [`score`] says how well
//! requests written by hand are understood, [`overlap`] which of those the grammar can make. All chance
//! comes from one seed.

pub mod chance;
pub mod grammar;
pub mod learn;
pub mod names;
pub mod overlap;
pub mod score;
pub mod sentence;
pub mod write;
