//! What the attacking programs share: one attempt is one line of output.
//!
//! `NAME: denied (WHY)`, or `NAME: ALLOWED`, which a test takes for a hole. `NAME: works` and
//! `NAME: BROKEN (WHY)` are for what must go on working. The last line is [`END`].

use std::fmt::Display;
use std::fs::{self, File};
use std::io::{self, Read};
use std::thread;

/// The last line of a program that has made all of its attempts.
pub const END: &str = "attempts end";

/// One attempt and what came of it.
pub fn attempt<T, E: Display>(name: &str, result: Result<T, E>) {
    match result {
        Ok(_) => println!("{name}: ALLOWED"),
        Err(error) => println!("{name}: denied ({error})"),
    }
}

/// One attempt that only a refusal counts for: any other error would mean that the kernel was
/// willing and only the arguments were wrong.
pub fn attempt_at_kernel<T>(name: &str, result: io::Result<T>) {
    let refusals = [
        nix::libc::EPERM,
        nix::libc::EACCES,
        nix::libc::ENOSYS,
        // A kind of socket, a protocol that this kernel does not have.
        nix::libc::EAFNOSUPPORT,
        nix::libc::EPROTONOSUPPORT,
        nix::libc::ESOCKTNOSUPPORT,
        // No such process, or none that could be seen; no further namespace.
        nix::libc::ESRCH,
        nix::libc::ENOSPC,
    ];
    match result {
        Err(error) if error.raw_os_error().is_some_and(|e| refusals.contains(&e)) => {
            println!("{name}: denied ({error})");
        }
        Err(error) => println!("{name}: ALLOWED as far as the kernel ({error})"),
        Ok(_) => println!("{name}: ALLOWED"),
    }
}

/// Something that must work, and whether it does.
pub fn must_work<T, E: Display>(name: &str, result: Result<T, E>) {
    match result {
        Ok(_) => println!("{name}: works"),
        Err(error) => println!("{name}: BROKEN ({error})"),
    }
}

/// Says that all attempts were made, and stays, so that the service is still there to be looked at.
pub fn end() -> ! {
    println!("{END}");
    loop {
        thread::park();
    }
}

/// Lists a directory; one that can be listed but holds nothing tells nothing.
///
/// # Errors
/// It cannot be listed, or is empty.
pub fn list(path: &str) -> io::Result<()> {
    match fs::read_dir(path)?.count() {
        0 => Err(io::Error::other("nothing in it")),
        _ => Ok(()),
    }
}

/// Reads a byte; a file that can be opened but is covered by an empty one tells nothing.
///
/// # Errors
/// It cannot be read, or is empty.
pub fn read(path: &str) -> io::Result<()> {
    match File::open(path)?.read(&mut [0])? {
        0 => Err(io::Error::other("nothing in it")),
        _ => Ok(()),
    }
}
