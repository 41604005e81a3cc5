//! Starting a process inside its cgroup and its namespaces, with a descriptor that is the process.
//!
//! `clone3` puts the child into the cgroup before it runs its first instruction, so no limit has a
//! gap, and returns a pidfd, so no later signal can hit a recycled number.

use std::ffi::{CStr, CString, c_char};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Signal, WaitId, WaitIdOptions, pidfd_send_signal, waitid};

use crate::error::{SysError, Told};
use crate::signals::{self, AllBlocked};

/// How long [`spawn`] waits for the child to come from clone to exec. Usual are milliseconds; only a
/// frozen cgroup or a dying disk gets here.
const EXEC_SECONDS: i64 = 30;

/// Lowest number that the child's copies of its descriptors get while it rearranges them.
const COPIES_FROM: RawFd = 16;

/// Bit 33, which libc's `c_int` constant cannot hold.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// What to start, where.
///
/// The program starts with every signal blocked: process 1 of a pid namespace would lose what comes
/// before it listens, a stop that follows at once on a start for instance.
#[derive(Debug)]
pub struct Spawn<'a> {
    /// Absolute path of the program.
    pub program: &'a CStr,
    /// Arguments after the program's own name (`argv[0]` is `program`).
    pub arguments: &'a [CString],
    /// The whole environment, as `NAME=value`.
    pub environment: &'a [CString],
    /// Directory of the cgroup that the process is born in.
    pub cgroup: BorrowedFd<'a>,
    /// New namespaces of the process.
    pub namespaces: Namespaces,
    /// Descriptors of the child: ours, and the number it has there. Every other one is closed.
    pub descriptors: &'a [(BorrowedFd<'a>, RawFd)],
}

/// Which namespaces are new; the others are shared with the parent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Namespaces {
    /// Process ids: the child is 1.
    pub pid: bool,
    /// Mounts: a copy.
    pub mount: bool,
    /// System V and POSIX message queues.
    pub ipc: bool,
    /// Host name.
    pub uts: bool,
    /// Network: nothing but a loopback device that is down.
    pub net: bool,
}

impl Namespaces {
    fn flags(self) -> u64 {
        let flag = |wanted: bool, flag: libc::c_int| if wanted { flag as u64 } else { 0 };
        flag(self.pid, libc::CLONE_NEWPID)
            | flag(self.mount, libc::CLONE_NEWNS)
            | flag(self.ipc, libc::CLONE_NEWIPC)
            | flag(self.uts, libc::CLONE_NEWUTS)
            | flag(self.net, libc::CLONE_NEWNET)
    }
}

/// A started process. Whoever owns `waitpid` reaps it.
#[derive(Debug)]
pub struct Child {
    /// Its number in our pid namespace.
    pub pid: i32,
    /// The process itself: for signals, and readable when it has ended.
    pub pidfd: OwnedFd,
}

impl Child {
    /// Sends a signal to exactly this process, never to another one that got its number.
    ///
    /// # Errors
    /// The number is no signal, or the process has ended and was collected.
    pub fn signal(&self, number: i32) -> Result<(), SysError> {
        let subject = || format!("signal {number} to process {}", self.pid);
        let signal = signals::from_number(number)
            .ok_or_else(|| SysError::refused("send", subject(), "there is no such signal"))?;
        pidfd_send_signal(&self.pidfd, signal).told("send", subject())
    }
}

/// `struct clone_args` up to its `cgroup` member (88 bytes, Linux 5.7).
#[repr(C)]
#[derive(Default)]
struct CloneArguments {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// Everything the child touches, made before it exists: it must not allocate.
struct Prepared {
    program: *const c_char,
    arguments: Vec<*const c_char>,
    environment: Vec<*const c_char>,
    /// Source, number in the child, and room for the number of the copy.
    descriptors: Vec<(RawFd, RawFd, RawFd)>,
    copies_from: RawFd,
    failure: RawFd,
}

/// A process that has been started and may not have come to its program yet.
#[derive(Debug)]
pub struct Started {
    /// The process.
    pub child: Child,
    /// Closes when the program runs; carries an error number when it does not.
    failure: OwnedFd,
}

impl Started {
    /// Why the program could not be executed, as far as is known by now, without waiting.
    pub fn exec_error(&self) -> Option<io::Error> {
        let mut errno = [0u8; 4];
        match rustix::io::read(&self.failure, &mut errno) {
            Ok(4) => Some(io::Error::from_raw_os_error(i32::from_ne_bytes(errno))),
            // It runs (0), or nothing has been said yet (EAGAIN).
            _ => None,
        }
    }
}

/// Starts a process and returns without waiting for its program: a process that is born into a
/// frozen cgroup comes to it when somebody thaws it.
///
/// # Errors
/// A namespace or the cgroup is refused, or a descriptor is bad. Nothing is left behind then.
pub fn start(request: &Spawn<'_>) -> Result<Started, SysError> {
    let name = request.program.to_string_lossy();
    let (failure, failure_child) =
        pipe_with(PipeFlags::CLOEXEC).told("make a pipe for starting", &name)?;
    rustix::io::ioctl_fionbio(&failure, true).told("make non-blocking", "a pipe")?;
    let mut prepared = prepare(request, failure_child.as_raw_fd())?;
    let child = clone_into(request, &mut prepared).told("start", &name)?;
    Ok(Started { child, failure })
}

/// Starts a process and returns once it has executed its program. Only for what has nothing else
/// to do meanwhile.
///
/// # Errors
/// As [`start`]; and the program cannot be executed (the error is the child's), or it did not come
/// to `exec` within 30 s. Nothing is left behind then.
pub fn spawn(request: &Spawn<'_>) -> Result<Child, SysError> {
    let name = request.program.to_string_lossy();
    let Started { child, failure } = start(request)?;
    match wait_for_exec(&failure) {
        Ok(()) => Ok(child),
        Err(error) => {
            discard(&child);
            Err(error).told("execute", &name)
        }
    }
}

fn prepare(request: &Spawn<'_>, failure: RawFd) -> Result<Prepared, SysError> {
    let mut descriptors = Vec::with_capacity(request.descriptors.len());
    let mut highest = COPIES_FROM - 1;
    for (source, number) in request.descriptors {
        if *number < 0 || descriptors.iter().any(|(_, taken, _)| taken == number) {
            return Err(SysError::refused(
                "give the child descriptor",
                number,
                "the number is negative or used twice",
            ));
        }
        highest = highest.max(*number);
        descriptors.push((source.as_raw_fd(), *number, -1));
    }
    let pointers = |strings: &[CString]| -> Vec<*const c_char> {
        strings.iter().map(|string| string.as_ptr()).collect()
    };
    let mut arguments = vec![request.program.as_ptr()];
    arguments.extend(pointers(request.arguments));
    arguments.push(std::ptr::null());
    let mut environment = pointers(request.environment);
    environment.push(std::ptr::null());
    Ok(Prepared {
        program: request.program.as_ptr(),
        arguments,
        environment,
        descriptors,
        copies_from: highest + 1,
        failure,
    })
}

fn clone_into(request: &Spawn<'_>, prepared: &mut Prepared) -> io::Result<Child> {
    let mut pidfd: libc::c_int = -1;
    let mut arguments = CloneArguments {
        flags: request.namespaces.flags() | libc::CLONE_PIDFD as u64 | CLONE_INTO_CGROUP,
        pidfd: &raw mut pidfd as u64,
        exit_signal: libc::SIGCHLD as u64,
        cgroup: request.cgroup.as_raw_fd() as u64,
        ..CloneArguments::default()
    };
    // A handler of ours (tokio's writes into a pipe that the child shares) must not run in the
    // child, and none must be lost before the program listens: in the child they stay blocked.
    let blocked = AllBlocked::new();
    // SAFETY: `arguments` is a valid clone_args of the size given, and `pidfd` outlives the call.
    // There is no CLONE_VM and no new stack: the child runs on a copy of this one, as after
    // fork, and can damage nothing of ours. It goes straight to `run_child`, which makes only
    // async-signal-safe calls and never returns, so that locks held by other threads at this
    // instant (the allocator's) are never waited for in the child.
    let pid = unsafe {
        libc::syscall(
            libc::SYS_clone3,
            &raw mut arguments,
            size_of::<CloneArguments>(),
        )
    };
    if pid == 0 {
        // SAFETY: this is the child of a clone without CLONE_VM; `prepared` is its own copy, and
        // the strings that it points to live in `request`, which is copied just the same.
        unsafe { run_child(prepared) }
    }
    let error = io::Error::last_os_error();
    drop(blocked);
    if pid < 0 {
        return Err(error);
    }
    // SAFETY: the call succeeded with CLONE_PIDFD, so the kernel stored a new descriptor in
    // `pidfd` that nothing else owns.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    // A pid fits: the kernel's limit is 2^22.
    Ok(Child {
        pid: pid as i32,
        pidfd,
    })
}

/// The child between clone and exec.
///
/// # Safety
/// Only in a fresh copy of the process, with valid pointers in `prepared`. Makes only
/// async-signal-safe calls: no allocation, no lock, no panic.
unsafe fn run_child(prepared: &mut Prepared) -> ! {
    signals::give_defaults();
    // SAFETY: setsid has no preconditions; it fails only for a group leader, which a new child
    // is not.
    unsafe { libc::setsid() };
    // First everything is marked to close at exec, then the wanted ones are made anew without
    // the mark: whatever the parent had open, nothing else can survive.
    // SAFETY: marks descriptors of this process only.
    let marked = unsafe {
        libc::syscall(
            libc::SYS_close_range,
            0u32,
            u32::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        )
    };
    // SAFETY: plain descriptor calls on numbers; a bad one makes the call fail.
    let failure = unsafe {
        libc::fcntl(
            prepared.failure,
            libc::F_DUPFD_CLOEXEC,
            prepared.copies_from,
        )
    };
    if marked < 0 || failure < 0 {
        // SAFETY: reports through the original number and ends.
        unsafe { fail(prepared.failure) }
    }
    // A source may have the number that another one is to get. So all are copied above every
    // number wanted, and only then moved to their places.
    for (source, _, copy) in prepared.descriptors.iter_mut() {
        // SAFETY: as above.
        *copy = unsafe { libc::fcntl(*source, libc::F_DUPFD_CLOEXEC, prepared.copies_from) };
        if *copy < 0 {
            // SAFETY: reports and ends.
            unsafe { fail(failure) }
        }
    }
    for (_, number, copy) in prepared.descriptors.iter() {
        // SAFETY: as above; `copy` differs from `number`, so dup3 without flags is allowed and
        // the new descriptor stays open at exec.
        if unsafe { libc::dup3(*copy, *number, 0) } < 0 {
            // SAFETY: reports and ends.
            unsafe { fail(failure) }
        }
    }
    // SAFETY: the program and both null-terminated arrays were made by `prepare` from strings
    // that are still alive in this copy of the process.
    unsafe {
        libc::execve(
            prepared.program,
            prepared.arguments.as_ptr(),
            prepared.environment.as_ptr(),
        );
        fail(failure)
    }
}

/// Tells the parent the error number and ends the child without running anything of the parent's.
///
/// # Safety
/// Only in the child, before exec.
unsafe fn fail(failure: RawFd) -> ! {
    // SAFETY: errno is this thread's; the buffer is on this stack; _exit runs no destructors.
    unsafe {
        let errno = (*libc::__errno_location()).to_ne_bytes();
        libc::write(failure, errno.as_ptr().cast(), errno.len());
        libc::_exit(127)
    }
}

/// Waits until the pipe closes (the program runs) or carries an error number (it does not).
fn wait_for_exec(failure: &OwnedFd) -> io::Result<()> {
    let limit = Timespec {
        tv_sec: EXEC_SECONDS,
        tv_nsec: 0,
    };
    let mut errno = [0u8; 4];
    loop {
        let mut ready = [PollFd::new(failure, PollFlags::IN)];
        match poll(&mut ready, Some(&limit)) {
            Ok(0) => return Err(io::ErrorKind::TimedOut.into()),
            Ok(_) => {}
            // A signal restarts the limit; they are rare and the child needs milliseconds.
            Err(rustix::io::Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        }
        return match rustix::io::read(failure, &mut errno) {
            Ok(0) => Ok(()),
            Ok(4) => Err(io::Error::from_raw_os_error(i32::from_ne_bytes(errno))),
            Ok(_) => Err(io::ErrorKind::InvalidData.into()),
            Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => continue,
            Err(error) => Err(error.into()),
        };
    }
}

/// Ends and reaps a child that did not come to its program.
fn discard(child: &Child) {
    let _ = pidfd_send_signal(&child.pidfd, Signal::KILL);
    // SIGKILL also ends a frozen process, so this does not wait long.
    while let Err(rustix::io::Errno::INTR) =
        waitid(WaitId::PidFd(child.pidfd.as_fd()), WaitIdOptions::EXITED)
    {}
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::path::PathBuf;

    use super::*;
    use crate::sockets::pipe_cloexec_nonblocking;

    fn cgroup() -> Option<OwnedFd> {
        crate::tree::open_directory(&cgroup_path()?).ok()
    }

    /// The cgroup2 hierarchy of this machine; CI and development machines have one somewhere.
    fn cgroup_path() -> Option<PathBuf> {
        let mounts = std::fs::read_to_string("/proc/mounts").unwrap();
        let mount = mounts
            .lines()
            .find(|line| line.split(' ').nth(2) == Some("cgroup2"))?;
        Some(mount.split(' ').nth(1)?.into())
    }

    #[test]
    fn a_child_is_born_in_its_cgroup_and_dies_with_it() {
        let Some(path) = cgroup_path() else {
            eprintln!("skipped: no cgroup2 hierarchy is mounted");
            return;
        };
        let root = crate::cgroup::CgroupRoot::new(path);
        let name = format!("kos-test-{}", std::process::id());
        let Ok(group) = root.create(&name) else {
            eprintln!("skipped: no cgroup can be made");
            return;
        };
        let mut watch = crate::watch::Watch::new().unwrap();
        watch.add(&group.path().join("cgroup.events")).unwrap();
        let child = spawn(&Spawn {
            program: c"/bin/sleep",
            arguments: &[c"600".to_owned()],
            environment: &[],
            cgroup: group.open_dir().unwrap().as_fd(),
            namespaces: Namespaces::default(),
            descriptors: &[],
        })
        .unwrap();
        assert_eq!(group.processes().unwrap(), [child.pid]);
        assert!(group.populated().unwrap());
        group.freeze(true).unwrap();
        group.kill().unwrap();
        let end = waitid(WaitId::PidFd(child.pidfd.as_fd()), WaitIdOptions::EXITED).unwrap();
        assert_eq!(end.unwrap().terminating_signal(), Some(libc::SIGKILL));
        // The kernel tells by inotify that the group is empty; then it can be removed.
        while group.populated().unwrap() {
            let limit = Timespec {
                tv_sec: 60,
                tv_nsec: 0,
            };
            let count = poll(&mut [PollFd::new(&watch, PollFlags::IN)], Some(&limit)).unwrap();
            assert_eq!(count, 1, "nobody says that the group is empty");
            watch.drain().unwrap();
        }
        group.remove().unwrap();
    }

    fn run(program: &CStr, arguments: &[&str], numbers: [RawFd; 2]) -> Result<String, SysError> {
        let Some(cgroup) = cgroup() else {
            eprintln!("skipped: no cgroup2 hierarchy is mounted");
            return Ok(String::new());
        };
        let (reader, writer) = pipe_cloexec_nonblocking().unwrap();
        let other = std::fs::File::open("/dev/zero").unwrap();
        let arguments: Vec<CString> = arguments
            .iter()
            .map(|argument| CString::new(*argument).unwrap())
            .collect();
        let child = spawn(&Spawn {
            program,
            arguments: &arguments,
            environment: &[CString::new("NAME=value").unwrap()],
            cgroup: cgroup.as_fd(),
            namespaces: Namespaces::default(),
            descriptors: &[(writer.as_fd(), numbers[0]), (other.as_fd(), numbers[1])],
        });
        let child = match child {
            Err(error) if error.errno() == Some(libc::EPERM) => {
                eprintln!("skipped: {}", error.full());
                return Ok(String::new());
            }
            other => other?,
        };
        drop(writer);
        rustix::io::ioctl_fionbio(&reader, false).unwrap();
        let mut text = String::new();
        std::fs::File::from(reader)
            .read_to_string(&mut text)
            .unwrap();
        waitid(WaitId::PidFd(child.pidfd.as_fd()), WaitIdOptions::EXITED).unwrap();
        Ok(text)
    }

    #[test]
    fn a_child_has_its_descriptors_and_nothing_else() {
        let _inheritable = rustix::io::dup(std::io::stdin()).unwrap();
        let text = run(
            c"/bin/sh",
            &["-c", "echo $NAME $(ls /proc/self/fd)"],
            [1, 7],
        )
        .unwrap();
        // `ls` adds the directory it lists (as 0, the lowest free one); 7 is the second one given.
        assert!(text.is_empty() || text == "value 0 1 7\n", "{text}");
        let arguments = ["-E", "Sig(Blk|Ign|Cgt)", "/proc/self/status"];
        let text = run(c"/bin/grep", &arguments, [1, 7]).unwrap();
        // The Rust runtime of this test ignores SIGPIPE; the child does not.
        assert!(
            text.is_empty() || text.contains("SigIgn:\t0000000000000000"),
            "{text}"
        );
        // All but SIGKILL, SIGSTOP and the two that glibc keeps for itself.
        assert!(
            text.is_empty() || text.contains("SigBlk:\tfffffffe7ffbfeff"),
            "{text}"
        );
    }

    #[test]
    fn numbers_that_overlap_with_sources_survive() {
        // Whatever numbers the two sources have, trying a range makes one the other's target.
        for number in 3..12 {
            let script = format!("echo $(readlink /proc/self/fd/{number})");
            let text = run(c"/bin/sh", &["-c", &script], [1, number]).unwrap();
            assert!(text.is_empty() || text == "/dev/zero\n", "{number}: {text}");
        }
    }

    #[test]
    fn a_program_that_cannot_run_is_the_callers_error() {
        match run(c"/nonexistent/program", &[], [1, 2]) {
            Err(error) => {
                assert_eq!(error.errno(), Some(libc::ENOENT));
                assert!(
                    error.full().contains("/nonexistent/program"),
                    "{}",
                    error.full()
                );
            }
            Ok(text) => assert!(text.is_empty()),
        }
        assert!(run(c"/bin/true", &[], [5, 5]).is_err());
    }
}
