//! Who may come in: the pairing code, the owner's key, the sessions made from either, and the limit
//! on wrong tries.

pub mod challenges;
pub mod code;
pub mod door;
pub mod origin;
pub mod owner;
pub mod tries;
