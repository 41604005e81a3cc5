//! Descriptors in the event loop.

use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};

use kos_sys::clock::ClockSet;
use kos_sys::psi;
use kos_sys::watch::Watch;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Types that own one descriptor for as long as they live and never exchange it: what
/// [`AsyncFd`] needs to be sound, and cannot say in its own bounds.
pub trait OwnsDescriptor: AsRawFd {}

impl OwnsDescriptor for OwnedFd {}
impl OwnsDescriptor for File {}
impl OwnsDescriptor for Watch {}
impl OwnsDescriptor for ClockSet {}
impl OwnsDescriptor for psi::Trigger {}

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

/// Lets the event loop wait for a descriptor's priority event (`POLLPRI`).
///
/// # Errors
/// As [`register`].
pub fn register_priority<T: OwnsDescriptor>(owner: T) -> std::io::Result<AsyncFd<T>> {
    // As above.
    #[allow(deprecated)]
    AsyncFd::with_interest(owner, Interest::PRIORITY)
}
