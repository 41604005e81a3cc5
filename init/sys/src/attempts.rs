//! System calls that a sandbox must refuse, for the programs that check that it does.
//!
//! No program of the image uses this: it is behind the feature `attempts`. The attempts stand here
//! because they are made without a library's wrapper and so with `unsafe`. Each has arguments that
//! do no harm should it be let through: numbers, null, or a constant string.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use syscalls::Sysno;

/// One attempt.
#[derive(Debug, Clone, Copy)]
pub struct Attempt {
    /// The call, by the kernel's name.
    pub name: &'static str,
    arguments: [u64; 6],
}

const fn attempt(name: &'static str, arguments: [u64; 6]) -> Attempt {
    Attempt { name, arguments }
}

/// Nothing, or null.
const ZERO: u64 = 0;
/// -1: no such descriptor, no such process.
const NONE: u64 = u64::MAX;
/// `AT_FDCWD`.
const HERE: u64 = -100i64 as u64;

/// What the kernel does with the machine, with memory of others, with namespaces, mounts and keys.
/// None of these is needed by a service, whatever sets of system calls it has.
pub const KERNEL: [Attempt; 49] = [
    attempt("bpf", [ZERO; 6]),
    attempt("perf_event_open", [ZERO, ZERO, NONE, NONE, ZERO, ZERO]),
    // KEYCTL_GET_KEYRING_ID of the session, made when there is none.
    attempt("keyctl", [0, -3i64 as u64, 1, ZERO, ZERO, ZERO]),
    attempt("add_key", [ZERO, ZERO, ZERO, ZERO, -3i64 as u64, ZERO]),
    attempt("request_key", [ZERO; 6]),
    attempt("io_uring_setup", [1, ZERO, ZERO, ZERO, ZERO, ZERO]),
    attempt("io_uring_enter", [NONE, ZERO, ZERO, ZERO, ZERO, ZERO]),
    attempt("io_uring_register", [NONE, ZERO, ZERO, ZERO, ZERO, ZERO]),
    attempt("init_module", [ZERO; 6]),
    attempt("finit_module", [NONE, ZERO, ZERO, ZERO, ZERO, ZERO]),
    attempt("delete_module", [ZERO; 6]),
    attempt("kexec_load", [ZERO; 6]),
    attempt("kexec_file_load", [NONE, NONE, ZERO, ZERO, ZERO, ZERO]),
    // LINUX_REBOOT_CMD_CAD_OFF: the same right as a reboot, and the machine runs on.
    attempt("reboot", [0xfee1_dead, 672_274_793, ZERO, ZERO, ZERO, ZERO]),
    attempt("settimeofday", [ZERO; 6]),
    attempt("clock_adjtime", [ZERO; 6]),
    attempt("adjtimex", [ZERO; 6]),
    attempt("clock_settime", [ZERO; 6]),
    attempt("sethostname", [ZERO; 6]),
    attempt("setdomainname", [ZERO; 6]),
    attempt("syslog", [3, ZERO, ZERO, ZERO, ZERO, ZERO]),
    attempt("acct", [ZERO; 6]),
    attempt("swapon", [ZERO; 6]),
    attempt("swapoff", [ZERO; 6]),
    attempt("quotactl", [ZERO; 6]),
    attempt("quotactl_fd", [NONE, ZERO, ZERO, ZERO, ZERO, ZERO]),
    attempt("vhangup", [ZERO; 6]),
    attempt("mount", [ZERO; 6]),
    attempt("umount2", [ZERO; 6]),
    attempt("pivot_root", [ZERO; 6]),
    attempt("chroot", [ZERO; 6]),
    attempt("fsopen", [ZERO; 6]),
    attempt("fsmount", [NONE, ZERO, ZERO, ZERO, ZERO, ZERO]),
    attempt("open_tree", [HERE, ZERO, ZERO, ZERO, ZERO, ZERO]),
    attempt("move_mount", [HERE, ZERO, HERE, ZERO, ZERO, ZERO]),
    attempt("mount_setattr", [HERE, ZERO, ZERO, ZERO, ZERO, ZERO]),
    attempt("setns", [NONE, ZERO, ZERO, ZERO, ZERO, ZERO]),
    // CLONE_NEWUSER.
    attempt("unshare", [0x1000_0000, ZERO, ZERO, ZERO, ZERO, ZERO]),
    attempt("clone3", [ZERO; 6]),
    // PTRACE_SEIZE of process 1.
    attempt("ptrace", [0x4206, 1, ZERO, ZERO, ZERO, ZERO]),
    attempt("process_vm_readv", [1, ZERO, ZERO, ZERO, ZERO, ZERO]),
    attempt("process_vm_writev", [1, ZERO, ZERO, ZERO, ZERO, ZERO]),
    attempt("process_madvise", [NONE, ZERO, ZERO, ZERO, ZERO, ZERO]),
    attempt("pidfd_getfd", [NONE, ZERO, ZERO, ZERO, ZERO, ZERO]),
    attempt("kcmp", [1, 1, ZERO, ZERO, ZERO, ZERO]),
    attempt("userfaultfd", [ZERO; 6]),
    attempt("fanotify_init", [ZERO; 6]),
    attempt("open_by_handle_at", [NONE, ZERO, ZERO, ZERO, ZERO, ZERO]),
    // SCHED_FIFO.
    attempt("sched_setscheduler", [ZERO, 1, ZERO, ZERO, ZERO, ZERO]),
];

/// Kinds of sockets by name, domain, type and protocol: what goes past ports and past the kernel's
/// own protocols. A service without capabilities gets none of them.
pub const SOCKETS: [(&str, [libc::c_int; 3]); 9] = [
    ("raw", [libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_ICMP]),
    (
        "raw-6",
        [libc::AF_INET6, libc::SOCK_RAW, libc::IPPROTO_ICMPV6],
    ),
    ("packet", [libc::AF_PACKET, libc::SOCK_RAW, 0x300]),
    ("packet-cooked", [libc::AF_PACKET, libc::SOCK_DGRAM, 0x300]),
    (
        "ping",
        [libc::AF_INET, libc::SOCK_DGRAM, libc::IPPROTO_ICMP],
    ),
    (
        "sctp",
        [libc::AF_INET, libc::SOCK_STREAM, libc::IPPROTO_SCTP],
    ),
    (
        "mptcp",
        [libc::AF_INET, libc::SOCK_STREAM, libc::IPPROTO_MPTCP],
    ),
    ("vsock", [libc::AF_VSOCK, libc::SOCK_STREAM, 0]),
    ("crypto", [libc::AF_ALG, libc::SOCK_SEQPACKET, 0]),
];

/// Makes an attempt; any answer but a refusal means that the call reached the kernel. A call that
/// this architecture does not have answers `ENOSYS`.
///
/// # Errors
/// The kernel's answer.
pub fn make(attempt: &Attempt) -> io::Result<()> {
    let Ok(number) = attempt.name.parse::<Sysno>() else {
        return Err(io::Error::from_raw_os_error(libc::ENOSYS));
    };
    let [a, b, c, d, e, f] = attempt.arguments;
    // SAFETY: the constants above pass numbers and null only, so the kernel is given no memory of
    // this process to read or write; `clone3` with null makes no process.
    answer(unsafe { libc::syscall(number.id().into(), a, b, c, d, e, f) })
}

/// Makes a socket of a kind, and closes it again.
///
/// # Errors
/// The kernel's answer.
pub fn socket(kind: [libc::c_int; 3]) -> io::Result<()> {
    let [domain, kind, protocol] = kind;
    // SAFETY: numbers only; the descriptor that it may return is closed here and nowhere else.
    unsafe {
        let socket = libc::socket(domain, kind, protocol);
        answer(socket.into())?;
        libc::close(socket);
    }
    Ok(())
}

/// Makes a process in a new user namespace (`clone`, whose flags a filter sees), which ends at once.
///
/// # Errors
/// The kernel's answer.
pub fn clone_into_user_namespace() -> io::Result<()> {
    let flags = libc::CLONE_NEWUSER | libc::SIGCHLD;
    // SAFETY: without CLONE_VM and with no new stack this is a fork; the child does nothing but end,
    // by a call that runs nothing of the parent's. Both architectures have the flags first.
    let pid = unsafe { libc::syscall(libc::SYS_clone, flags as u64, ZERO, ZERO, ZERO, ZERO) };
    if pid == 0 {
        // SAFETY: ends the child.
        unsafe { libc::_exit(0) }
    }
    answer(pid)
}

/// Maps memory writable and executable at once, or writable first and executable afterwards.
///
/// # Errors
/// The kernel's answer.
pub fn make_code(at_once: bool) -> io::Result<()> {
    let write = libc::PROT_READ | libc::PROT_WRITE;
    let first = if at_once {
        write | libc::PROT_EXEC
    } else {
        write
    };
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: new memory at a place of the kernel's choice, which nothing else knows of and nothing
    // is written to or executed in.
    unsafe {
        let memory = libc::mmap(std::ptr::null_mut(), 4096, first, flags, -1, 0);
        if memory == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        if at_once {
            return Ok(());
        }
        answer(libc::mprotect(memory, 4096, libc::PROT_READ | libc::PROT_EXEC).into())
    }
}

/// Makes a memory file that can be executed.
///
/// # Errors
/// The kernel's answer.
pub fn executable_memory_file() -> io::Result<()> {
    /// `MFD_EXEC`.
    const EXECUTABLE: libc::c_uint = 0x10;
    let name: &CStr = c"code";
    // SAFETY: the name is a C string; the descriptor stays open until the program ends.
    answer(unsafe { libc::memfd_create(name.as_ptr(), EXECUTABLE) }.into())
}

/// Takes a directory out of its project's quota (`FS_IOC_FSSETXATTR` with project 0), or lets what
/// is made in it no longer inherit the project (`FS_IOC_SETFLAGS`).
///
/// # Errors
/// The kernel's answer.
pub fn leave_quota(directory: BorrowedFd<'_>, by_flags: bool) -> io::Result<()> {
    let (request, nothing): (u32, [u32; 7]) = match by_flags {
        true => (0x4008_6602, [0; 7]),
        false => (0x401c_5820, [0; 7]),
    };
    // SAFETY: both requests read at most the 28 bytes that are given.
    answer(unsafe { libc::ioctl(directory.as_raw_fd(), request as _, nothing.as_ptr()) }.into())
}

/// Puts a letter into the terminal of standard input (`TIOCSTI`).
///
/// # Errors
/// The kernel's answer.
pub fn type_into_terminal() -> io::Result<()> {
    let letter = b'x';
    // SAFETY: the request reads one byte of ours.
    answer(unsafe { libc::ioctl(0, libc::TIOCSTI, &raw const letter) }.into())
}

/// Opens a TCP connection with the first byte that is sent (`MSG_FASTOPEN`), past `connect`.
///
/// # Errors
/// The kernel's answer.
pub fn fast_open(port: u16) -> io::Result<()> {
    let address = libc::sockaddr_in {
        sin_family: libc::AF_INET as libc::sa_family_t,
        sin_port: port.to_be(),
        sin_addr: libc::in_addr {
            s_addr: u32::from_be_bytes([127, 0, 0, 1]).to_be(),
        },
        sin_zero: [0; 8],
    };
    // SAFETY: one byte and one address of ours are read; the socket is closed here.
    unsafe {
        let socket = libc::socket(libc::AF_INET, libc::SOCK_STREAM, 0);
        answer(socket.into())?;
        let sent = libc::sendto(
            socket,
            b"x".as_ptr().cast(),
            1,
            libc::MSG_FASTOPEN,
            (&raw const address).cast(),
            size_of::<libc::sockaddr_in>() as libc::socklen_t,
        );
        let result = answer(sent as libc::c_long);
        libc::close(socket);
        result
    }
}

fn answer(result: libc::c_long) -> io::Result<()> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An attempt at a call that no kernel has would prove nothing.
    #[test]
    fn every_attempt_is_a_system_call() {
        for attempt in KERNEL {
            let known: Result<syscalls::x86_64::Sysno, ()> = attempt.name.parse();
            assert!(known.is_ok(), "{}", attempt.name);
        }
    }

    /// Outside of a sandbox they are let through, or the suite could not fail.
    #[test]
    fn outside_of_a_sandbox_they_are_allowed() {
        make_code(true).unwrap();
        make_code(false).unwrap();
        executable_memory_file().unwrap();
        let kcmp = KERNEL.iter().find(|attempt| attempt.name == "kcmp");
        match make(kcmp.unwrap()) {
            Err(error) if error.raw_os_error() == Some(libc::EPERM) => {
                eprintln!("skipped: not root here");
            }
            other => other.unwrap(),
        }
    }
}
