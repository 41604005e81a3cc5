//! Descriptors in the event loop.

use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};

use kos_sys::watch::Watch;
use tokio::io::unix::AsyncFd;

/// Types that own one descriptor for as long as they live and never exchange it: what
/// [`AsyncFd`] needs to be sound, and cannot say in its own bounds.
pub trait OwnsDescriptor: AsRawFd {}

impl OwnsDescriptor for OwnedFd {}
impl OwnsDescriptor for File {}
impl OwnsDescriptor for Watch {}

/// Lets the event loop wait for a descriptor.
///
/// # Errors
/// When the loop cannot wait for this kind of file.
pub fn register<T: OwnsDescriptor>(owner: T) -> std::io::Result<AsyncFd<T>> {
    // Deprecated because any `AsRawFd` may lie about its descriptor; an `OwnsDescriptor` does not.
    // Its successor is the same function with `unsafe`, which this crate does without.
    #[allow(deprecated)]
    AsyncFd::new(owner)
}
