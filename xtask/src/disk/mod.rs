//! Disk images: what a box's disk holds, made as files, without a loop device and without a right.
//!
//! Everything here takes bytes and gives bytes or a file, and equal inputs give equal outputs: no
//! clock, no random number, no name of this machine gets in. Board files are read elsewhere.

pub mod fat;
pub mod fatfile;
pub mod fatname;
pub mod gpt;
pub mod guid;
pub mod layout;
pub mod seed;
pub mod uki;
pub mod window;
pub mod write;

/// The one date in every image, in seconds since 1970: the first of January 2026. A file system
/// needs some date; the day of the build would make two builds differ.
pub const DATE: u64 = 1_767_225_600;
