//! Forking and executing in a single-threaded process (the launcher's last steps).

use std::collections::BTreeMap;
use std::ffi::{CString, c_char};
use std::io;
use std::os::fd::{IntoRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::pipe::{PipeFlags, pipe_with};

use crate::error::{SysError, Told};
use crate::process;

/// Which side of a fork this is.
#[derive(Debug)]
pub enum Fork {
    /// The parent, with the child's number.
    Parent(i32, BeforeExec),
    /// The child.
    Child,
}

/// The time from a fork until the child executes its program or ends.
#[derive(Debug)]
pub struct BeforeExec {
    /// The child alone has the other end, which closes at exec.
    pipe: OwnedFd,
}

impl BeforeExec {
    /// Waits until it is over.
    pub fn wait(self) {
        // Nothing is ever written, so there is nothing to read but the end.
        let _ = rustix::io::retry_on_intr(|| rustix::io::read(&self.pipe, &mut [0u8; 1]));
    }
}

/// Forks a process that has only one thread.
///
/// # Errors
/// The process has other threads (whose locks the child could wait for for ever), or the kernel
/// refuses, for want of memory or descriptors, or because the cgroup's limit of processes is reached.
pub fn fork_single_threaded() -> Result<Fork, SysError> {
    let threads = process::own_threads(Path::new("/proc"))?;
    if threads != 1 {
        return Err(SysError::refused(
            "fork",
            "this process",
            format!("it has {threads} threads"),
        ));
    }
    let (pipe, childs) = pipe_with(PipeFlags::CLOEXEC).told("make a pipe for", "a fork")?;
    // SAFETY: this is the only thread, so the child is a complete copy in which every lock is in
    // a state that this thread knows; any code may run in it.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()).told("fork", "this process"),
        0 => {
            // Open until exec, or until the end of the process.
            let _ = childs.into_raw_fd();
            Ok(Fork::Child)
        }
        pid => Ok(Fork::Parent(pid, BeforeExec { pipe })),
    }
}

/// Marks every descriptor from `first` upwards to close at exec.
///
/// # Errors
/// The kernel is older than 5.11.
pub fn close_on_exec_from(first: RawFd) -> Result<(), SysError> {
    // SAFETY: changes a flag of descriptors and closes none of them now.
    let result = unsafe {
        libc::syscall(
            libc::SYS_close_range,
            first,
            u32::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error()).told("mark descriptors from", first);
    }
    Ok(())
}

/// Gives `count` descriptors from `first` upwards the numbers from `target` upwards and lets the next
/// program have them. What had those numbers is closed, so this is the last thing before exec.
///
/// # Errors
/// `target` is not below `first`, or one of the descriptors is not open.
pub fn pass_on(first: RawFd, count: usize, target: RawFd) -> Result<(), SysError> {
    if target < 3 || target >= first {
        let reason = format!("they cannot go to {target}");
        return Err(SysError::refused("pass on descriptors from", first, reason));
    }
    for (source, target) in (first..).zip(target..).take(count) {
        // SAFETY: numbers only. The two differ, so the new one stays open at exec. What it closes
        // belongs to nobody who still uses it: the contract of this function.
        if unsafe { libc::dup3(source, target, 0) } < 0 {
            let error = io::Error::last_os_error();
            return Err(error).told("pass on descriptor", source);
        }
    }
    Ok(())
}

/// A program with its arguments and environment, laid out in memory as `execve` wants them.
///
/// The addresses stay the same for the life of the value: a system-call filter can allow exactly
/// this `execve` and no other ([`Program::addresses`]).
#[derive(Debug)]
pub struct Program {
    path: CString,
    arguments: Pointers,
    environment: Pointers,
}

#[derive(Debug)]
struct Pointers {
    /// Owns what `pointers` points to.
    _strings: Vec<CString>,
    pointers: Vec<*const c_char>,
}

impl Pointers {
    fn new(strings: Vec<CString>) -> Self {
        let mut pointers: Vec<*const c_char> = strings.iter().map(|s| s.as_ptr()).collect();
        pointers.push(std::ptr::null());
        Pointers {
            _strings: strings,
            pointers,
        }
    }
}

impl Program {
    /// Lays out `path` with `arguments` (after the program's own name) and `environment`.
    ///
    /// # Errors
    /// A string has a zero byte in it.
    pub fn new(
        path: &Path,
        arguments: &[String],
        environment: &BTreeMap<String, String>,
    ) -> Result<Self, SysError> {
        let string = |bytes: &[u8]| {
            CString::new(bytes).map_err(|error| SysError::new("prepare", path.display(), error))
        };
        let path = string(path.as_os_str().as_bytes())?;
        let mut all = vec![path.clone()];
        for argument in arguments {
            all.push(string(argument.as_bytes())?);
        }
        let mut variables = Vec::with_capacity(environment.len());
        for (name, value) in environment {
            variables.push(string(format!("{name}={value}").as_bytes())?);
        }
        Ok(Program {
            path,
            arguments: Pointers::new(all),
            environment: Pointers::new(variables),
        })
    }

    /// The three addresses that [`Program::exec`] hands to the kernel.
    pub fn addresses(&self) -> [u64; 3] {
        [
            self.path.as_ptr() as u64,
            self.arguments.pointers.as_ptr() as u64,
            self.environment.pointers.as_ptr() as u64,
        ]
    }

    /// Becomes the program. Returns only the error.
    pub fn exec(&self) -> SysError {
        // SAFETY: the path and both null-terminated arrays point to strings that `self` owns.
        unsafe {
            libc::execve(
                self.path.as_ptr(),
                self.arguments.pointers.as_ptr(),
                self.environment.pointers.as_ptr(),
            )
        };
        let error = io::Error::last_os_error();
        SysError::new("execute", self.path.to_string_lossy(), error)
    }
}
