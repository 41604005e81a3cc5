//! Who may come in: the pairing code, the sessions made from it, and the limit on wrong tries.

pub mod code;
pub mod door;
pub mod origin;
pub mod tries;
