//! A user namespace with one user in it: nothing that is gained there means anything outside.
//!
//! It is made last, when the mounts and all other namespaces exist and belong to the machine's own
//! user namespace. So a capability in it reaches none of them.

use std::os::fd::BorrowedFd;

use rustix::fs::{Mode, OFlags, openat};
use rustix::thread::UnshareFlags;

use crate::error::{SysError, Told};
use crate::identity;

/// Moves this process into a user namespace of its own, in which its user and group are the only
/// ones, with the numbers that they have outside, and in which no further one can be made. `proc` is
/// a `/proc` that may be written. Afterwards the process has every capability there: see
/// [`identity::give_up_capabilities`].
///
/// # Errors
/// The process has other threads, the kernel has no user namespaces or as many as it allows, or it
/// refuses the mapping.
pub fn enter(proc: BorrowedFd<'_>, uid: u32, gid: u32) -> Result<(), SysError> {
    // A process that has changed its user belongs to root in `/proc` until it executes a program,
    // and could not write its own mapping.
    identity::set_dumpable(true)?;
    // SAFETY: a new user namespace changes who this process is, and neither its memory nor its
    // descriptors; the kernel refuses it to a process with several threads.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWUSER) }
        .told("make", "a user namespace")?;
    // Without this nobody but root may map a group: groups can take rights away, too.
    write(proc, "self/setgroups", "deny")?;
    write(proc, "self/uid_map", &format!("{uid} {uid} 1"))?;
    write(proc, "self/gid_map", &format!("{gid} {gid} 1"))?;
    write(proc, "sys/user/max_user_namespaces", "0")
}

fn write(proc: BorrowedFd<'_>, path: &str, value: &str) -> Result<(), SysError> {
    let subject = || format!("'{value}' to /proc/{path}");
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    let file = openat(proc, path, flags, Mode::empty()).told("write", subject())?;
    // Such files take a value in one piece or not at all.
    rustix::io::write(&file, value.as_bytes())
        .map(drop)
        .told("write", subject())
}
