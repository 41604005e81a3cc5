//! System calls that a sandbox must refuse, for the programs that check that it does.
//!
//! No program of the image uses this: it is behind the feature `attempts`. The attempts stand here
//! because they are made without a library's wrapper and so with `unsafe`. Each has arguments that
//! do no harm should it be let through: numbers, null, or a constant string.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::path::Path;

use syscalls::Sysno;

/// One attempt.
#[derive(Debug, Clone, Copy)]
pub struct Attempt {
    /// The call, by the kernel's name.
    pub name: &'static str,
    words: [Word; 6],
}

/// One argument.
#[derive(Debug, Clone, Copy)]
enum Word {
    Number(u64),
    /// The address of constant bytes, which the kernel can read and not write.
    Bytes(&'static [u8]),
}

/// Where a call is refused is not the same in all kernels: some look at the arguments first. So they
/// are good ones, and the right to the call is all that is missing.
const fn attempt(name: &'static str, given: &[Word]) -> Attempt {
    let mut words = [Word::Number(0); 6];
    let mut index = 0;
    while index < given.len() {
        words[index] = given[index];
        index += 1;
    }
    Attempt { name, words }
}

const fn number(value: u64) -> Word {
    Word::Number(value)
}

const NULL: Word = number(0);
/// -1: no such descriptor, no such process.
const NONE: Word = number(u64::MAX);
/// `AT_FDCWD`.
const HERE: Word = number(-100i64 as u64);
const ROOT: Word = Word::Bytes(b"/\0");
const TMPFS: Word = Word::Bytes(b"tmpfs\0");
const ZEROS: Word = Word::Bytes(&[0; 256]);
/// A structure whose first number is 1, or 2.
const ONE: Word = Word::Bytes(&[1, 0, 0, 0, 0, 0, 0, 0]);
const FREQUENCY: Word = Word::Bytes(&{
    let mut timex = [0u8; 256];
    timex[0] = 2;
    timex
});
/// `struct file_handle` with 8 bytes of the kind 1.
const HANDLE: Word = Word::Bytes(&[8, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0]);
/// The session's keyring.
const SESSION: Word = number(-3i64 as u64);

/// What the kernel does with the machine, with memory of others, with namespaces, mounts and keys.
/// None of these is needed by a service, whatever sets of system calls it has.
pub const KERNEL: [Attempt; 41] = [
    attempt("bpf", &[NULL, ZEROS, number(72)]),
    attempt("perf_event_open", &[ZEROS, number(0), NONE, NONE]),
    // KEYCTL_GET_KEYRING_ID, made when there is none.
    attempt("keyctl", &[number(0), SESSION, number(1)]),
    attempt("add_key", &[ROOT, ROOT, ROOT, number(1), SESSION]),
    attempt("request_key", &[ROOT, ROOT, NULL, SESSION]),
    attempt("io_uring_setup", &[number(1), ZEROS]),
    attempt("io_uring_enter", &[NONE]),
    attempt("io_uring_register", &[NONE]),
    attempt("init_module", &[ZEROS, number(64), ROOT]),
    attempt("finit_module", &[NONE, ROOT]),
    attempt("delete_module", &[ROOT]),
    attempt("kexec_load", &[]),
    attempt("kexec_file_load", &[NONE, NONE]),
    // LINUX_REBOOT_CMD_CAD_OFF: the same right as a reboot, and the machine runs on.
    attempt("reboot", &[number(0xfee1_dead), number(672_274_793), NULL]),
    attempt("settimeofday", &[]),
    attempt("clock_settime", &[number(0), ZEROS]),
    attempt("clock_adjtime", &[number(0), FREQUENCY]),
    attempt("sethostname", &[]),
    attempt("setdomainname", &[]),
    // Reads the kernel's messages.
    attempt("syslog", &[number(3), ZEROS, number(0)]),
    attempt("acct", &[ROOT]),
    attempt("swapon", &[ROOT]),
    attempt("swapoff", &[ROOT]),
    attempt("vhangup", &[]),
    attempt("mount", &[TMPFS, ROOT, TMPFS]),
    attempt("umount2", &[ROOT, number(2)]),
    attempt("pivot_root", &[ROOT, ROOT]),
    attempt("chroot", &[ROOT]),
    attempt("fsopen", &[TMPFS]),
    attempt("fsmount", &[NONE]),
    // OPEN_TREE_CLONE.
    attempt("open_tree", &[HERE, ROOT, number(1)]),
    attempt("move_mount", &[HERE, ROOT, HERE, ROOT]),
    attempt("mount_setattr", &[HERE, ROOT, number(0), ZEROS, number(32)]),
    // CLONE_NEWNS, which a filter sees here and not in clone3.
    attempt("unshare", &[number(0x2_0000)]),
    attempt("clone3", &[ZEROS, number(8)]),
    // PTRACE_SEIZE of process 1.
    attempt("ptrace", &[number(0x4206), number(1)]),
    attempt("kcmp", &[number(1), number(1)]),
    attempt("userfaultfd", &[]),
    attempt("fanotify_init", &[]),
    attempt("open_by_handle_at", &[HERE, HANDLE]),
    // SCHED_FIFO.
    attempt("sched_setscheduler", &[number(0), number(1), ONE]),
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
    let [a, b, c, d, e, f] = attempt.words.map(|word| match word {
        Word::Number(number) => number,
        Word::Bytes(bytes) => bytes.as_ptr() as u64,
    });
    // SAFETY: the constants above pass numbers and constant bytes, longer than what each call reads
    // and in memory that nobody, the kernel included, can write. `clone3` has a size with which no
    // kernel makes a process.
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

/// Reads memory of another process.
///
/// # Errors
/// The kernel's answer.
pub fn read_memory_of(pid: i32) -> io::Result<()> {
    let mut byte = 0u8;
    let local = libc::iovec {
        iov_base: (&raw mut byte).cast(),
        iov_len: 1,
    };
    let remote = libc::iovec {
        // The lowest address that a program can have.
        iov_base: 0x1_0000 as *mut libc::c_void,
        iov_len: 1,
    };
    // SAFETY: the kernel writes at most one byte, to `byte`; the other address is another process's.
    answer(
        unsafe { libc::process_vm_readv(pid, &raw const local, 1, &raw const remote, 1, 0) } as _,
    )
}

/// Copies a descriptor out of another process.
///
/// # Errors
/// The kernel's answer.
pub fn take_descriptor_of(pid: i32) -> io::Result<()> {
    // SAFETY: numbers only; the descriptors stay open until the program ends.
    unsafe {
        let process = libc::syscall(libc::SYS_pidfd_open, pid, 0);
        answer(process)?;
        answer(libc::syscall(libc::SYS_pidfd_getfd, process, 0, 0))
    }
}

/// Raises the quota of a project without limit.
///
/// # Errors
/// The kernel's answer.
pub fn raise_quota(directory: BorrowedFd<'_>, project: u32) -> Result<(), crate::SysError> {
    crate::quota::set_limit(directory, project, crate::quota::Limit::default())
}

/// Changes how fast the clock runs (`adjtimex`, which writes its answer, refused or not).
///
/// # Errors
/// The kernel's answer.
pub fn adjust_clock() -> io::Result<()> {
    // SAFETY: `timex` is a plain structure for which all zero is valid.
    let mut change: libc::timex = unsafe { std::mem::zeroed() };
    change.modes = libc::ADJ_FREQUENCY;
    // SAFETY: the kernel reads and writes one `timex`, which outlives the call.
    answer(unsafe { libc::adjtimex(&raw mut change) }.into())
}

/// Gives a file capabilities (`security.capability`).
///
/// # Errors
/// The kernel's answer.
pub fn set_file_capability(path: &Path, value: &[u8]) -> io::Result<()> {
    let flags = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(path, "security.capability", value, flags).map_err(io::Error::from)
}

/// Takes the first network card down.
///
/// # Errors
/// The kernel's answer.
pub fn take_network_down() -> io::Result<()> {
    // SAFETY: `ifreq` is a plain structure for which all zero is valid; its flags are zero then.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (place, byte) in request.ifr_name.iter_mut().zip(b"eth0") {
        *place = *byte as libc::c_char;
    }
    // SAFETY: the request reads one `ifreq`; the socket is closed here.
    unsafe {
        let socket = libc::socket(libc::AF_INET, libc::SOCK_STREAM, 0);
        answer(socket.into())?;
        let result = libc::ioctl(socket, libc::SIOCSIFFLAGS as _, &raw const request);
        let result = answer(result.into());
        libc::close(socket);
        result
    }
}

/// Makes a process in a new user namespace (`clone`, whose flags a filter sees), which ends at once.
///
/// # Errors
/// The kernel's answer.
pub fn clone_into_user_namespace() -> io::Result<()> {
    let flags = libc::CLONE_NEWUSER | libc::SIGCHLD;
    // SAFETY: without CLONE_VM and with no new stack this is a fork; the child does nothing but end,
    // by a call that runs nothing of the parent's. Both architectures have the flags first.
    let pid = unsafe { libc::syscall(libc::SYS_clone, flags as u64, 0u64, 0u64, 0u64, 0u64) };
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
