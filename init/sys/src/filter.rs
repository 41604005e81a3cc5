//! System-call filters: names in, a seccomp program out, installed for good.
//!
//! What is not named fails with `EPERM`. Calls that programs try first and do without when the
//! kernel is too old (`clone3`, io_uring) fail with `ENOSYS` instead, so that they take the old
//! way, whose arguments a filter can see. Some calls are allowed only with harmless arguments,
//! whatever the list says; see `conditions`. Which names are allowed is data (`image/seccomp`).

use std::collections::BTreeMap;
use std::io;
use std::str::FromStr;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch, sock_filter,
};
use syscalls::Sysno;

use crate::error::SysError;
use crate::exec::Program;

/// Answered with `ENOSYS`. `clone3` has its flags behind a pointer that no filter can follow.
const NOT_IMPLEMENTED: [&str; 4] = [
    "clone3",
    "io_uring_setup",
    "io_uring_enter",
    "io_uring_register",
];

/// `CLONE_NEW*` in the flags of `clone`: user, pid, net, uts, ipc, cgroup and mount namespaces.
const NEW_NAMESPACES: u64 = (libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET) as u64;

/// `MFD_EXEC`: a memory file that can be executed.
const MEMORY_FILE_EXECUTABLE: u64 = 0x10;

/// ioctl requests that nobody gets: those that put words into a terminal's mouth or change what it
/// is, and those with which a file's owner takes it out of its quota (`FS_IOC_SETFLAGS`,
/// `FS_IOC_FSSETXATTR`).
const FORBIDDEN_REQUESTS: [u64; 5] = [
    libc::TIOCSTI,
    libc::TIOCLINUX,
    libc::TIOCSETD,
    0x4008_6602,
    0x401c_5820,
];

/// The part of a socket's type that is its type; the rest is flags (`SOCK_TYPE_MASK`).
const SOCKET_TYPE: u64 = 0xf;

/// In the flags of what sends: opens a TCP connection on the way, past Landlock's ports.
const FAST_OPEN: u64 = libc::MSG_FASTOPEN as u64;

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Calls<'a> {
    /// Names of the calls that are allowed; see [`Filter::compile`].
    pub names: &'a [String],
    /// Whose one `execve`, with exactly its three addresses, is allowed as well: a launcher's last
    /// call. Its addresses mean nothing to the program after it.
    pub program: Option<&'a Program>,
    /// What a socket of the internet may be, where the names allow one at all.
    pub internet: Internet,
    /// Whether memory may be mapped writable and executable at once.
    pub writable_code: bool,
}

/// Kinds of internet sockets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Internet {
    /// TCP: what Landlock's port rules reach. (Multipath TCP and SCTP, which they do not reach, are
    /// streams by type and no TCP by protocol.)
    Streams,
    /// TCP and UDP.
    Datagrams,
    /// All that the kernel has and the process's capabilities allow.
    Any,
}

/// A compiled filter.
pub struct Filter {
    program: BpfProgram,
}

/// When a call is allowed.
enum Allowed {
    Always,
    /// When one of the rules matches.
    When(Vec<SeccompRule>),
}

impl Filter {
    /// Compiles a list of allowed calls.
    ///
    /// Besides the kernel's names there are narrower forms: `socket/unix`, `socket/inet`,
    /// `socket/netlink`, `socket/packet` allow `socket` for one family only, and `clone/thread`
    /// allows `clone` for threads but not for processes.
    ///
    /// # Errors
    /// A name that no architecture of kOS knows; one that only another architecture knows is
    /// passed over.
    pub fn compile(calls: &Calls<'_>) -> Result<Self, SysError> {
        let mut allowed: BTreeMap<i64, Allowed> = BTreeMap::new();
        for name in calls.names {
            let Some((number, when)) = rule(name, calls)? else {
                continue;
            };
            allow(&mut allowed, number, when);
        }
        if let Some(program) = calls.program {
            let mut conditions = Vec::new();
            for (index, address) in (0u8..).zip(program.addresses()) {
                conditions.push(condition(index, Width::Whole, SeccompCmpOp::Eq, address)?);
            }
            allow(
                &mut allowed,
                Sysno::execve.id().into(),
                Allowed::When(vec![all_of(conditions)?]),
            );
        }
        let mut decided = BTreeMap::new();
        let mut narrowed = BTreeMap::new();
        for (number, when) in allowed {
            match when {
                Allowed::Always => {
                    decided.insert(number, Verdict::Answer(SeccompAction::Allow.into()));
                }
                Allowed::When(rules) => {
                    decided.insert(number, Verdict::Arguments);
                    narrowed.insert(number, rules);
                }
            }
        }
        for call in NOT_IMPLEMENTED
            .iter()
            .filter_map(|name| Sysno::from_str(name).ok())
        {
            let answer = SeccompAction::Errno(libc::ENOSYS as u32);
            decided.insert(call.id().into(), Verdict::Answer(answer.into()));
        }
        let arguments = assemble(
            narrowed,
            SeccompAction::Errno(libc::EPERM as u32),
            SeccompAction::Allow,
        )?;
        Ok(Filter {
            program: with_decided_calls(&decided, arguments)?,
        })
    }

    /// Installs the filter in this thread, for good; `no_new_privs` comes with it.
    ///
    /// # Errors
    /// The kernel has no seccomp filters.
    pub fn install(&self) -> Result<(), SysError> {
        seccompiler::apply_filter(&self.program)
            .map_err(|error| refused("install", "a system-call filter", error))
    }
}

/// Instructions of the architecture's check, with which the compiler's programs begin.
const ARCHITECTURE_CHECK: usize = 3;

/// What a number alone decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Answer(u32),
    /// The arguments decide.
    Arguments,
}

/// Puts the decisions by number alone before a program that looks at arguments.
///
/// One program, and a search tree over the numbers, because the kernel translates each program in
/// several passes and tries it with every number when it is installed: with a list a launch would
/// spend more on that than on anything else it does to itself.
fn with_decided_calls(
    decided: &BTreeMap<i64, Verdict>,
    arguments: BpfProgram,
) -> Result<BpfProgram, SysError> {
    let (Some(check), Some(arguments)) = (
        arguments.get(..ARCHITECTURE_CHECK),
        arguments.get(ARCHITECTURE_CHECK..),
    ) else {
        return Err(refused("compile", "a system-call filter", "it is empty"));
    };
    let mut program = check.to_vec();
    program.push(statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0));
    let mut tree = search_tree(&segments(decided)?);
    let end = tree.len();
    for (place, step) in tree.iter_mut().enumerate() {
        if is_jump(step) && step.k == TO_ARGUMENTS {
            // The tree has a few hundred steps.
            step.k = (end - place - 1) as u32;
        }
    }
    program.extend(tree);
    program.extend(arguments.iter().cloned());
    Ok(program)
}

/// The numbers from 0 up as stretches of one verdict each: where each begins, rising.
fn segments(decided: &BTreeMap<i64, Verdict>) -> Result<Vec<(u32, Verdict)>, SysError> {
    let refused_call = Verdict::Answer(SeccompAction::Errno(libc::EPERM as u32).into());
    let mut segments = vec![(0, refused_call)];
    let mut put = |start: u32, verdict: Verdict| match segments.last_mut() {
        Some((_, last)) if *last == verdict => {}
        Some((first, last)) if *first == start => *last = verdict,
        _ => segments.push((start, verdict)),
    };
    for (&number, &verdict) in decided {
        let number = u32::try_from(number)
            .map_err(|error| refused("compile", "a system call's number", error))?;
        put(number, verdict);
        if !decided.contains_key(&(i64::from(number) + 1)) {
            put(number.saturating_add(1), refused_call);
        }
    }
    // A first stretch that was written over may now equal its successor.
    segments.dedup_by_key(|(_, verdict)| *verdict);
    Ok(segments)
}

/// Stands for the distance to the program that looks at arguments until it is known.
const TO_ARGUMENTS: u32 = u32::MAX;

fn is_jump(step: &sock_filter) -> bool {
    u32::from(step.code) == libc::BPF_JMP | libc::BPF_JA
}

/// Steps that find the accumulator's stretch by halving.
fn search_tree(segments: &[(u32, Verdict)]) -> BpfProgram {
    let always = |distance| statement(libc::BPF_JMP | libc::BPF_JA, distance);
    match segments {
        [] => Vec::new(),
        [(_, Verdict::Answer(answer))] => vec![statement(libc::BPF_RET | libc::BPF_K, *answer)],
        [(_, Verdict::Arguments)] => vec![always(TO_ARGUMENTS)],
        _ => {
            let (below, above) = segments.split_at(segments.len() / 2);
            let compare = |met, missed| sock_filter {
                jt: met,
                jf: missed,
                ..statement(libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K, above[0].0)
            };
            let below = search_tree(below);
            let mut steps = match u8::try_from(below.len()) {
                Ok(distance) => vec![compare(distance, 0)],
                // Too far for a comparison's own jump; a tree of a few hundred steps.
                Err(_) => vec![compare(0, 1), always(below.len() as u32)],
            };
            steps.extend(below);
            steps.extend(search_tree(above));
            steps
        }
    }
}

fn statement(code: u32, k: u32) -> sock_filter {
    sock_filter {
        // The codes are bits below 256.
        code: code as u16,
        jt: 0,
        jf: 0,
        k,
    }
}

fn allow(allowed: &mut BTreeMap<i64, Allowed>, number: i64, when: Allowed) {
    match (allowed.get_mut(&number), when) {
        (None, when) => {
            allowed.insert(number, when);
        }
        (Some(Allowed::Always), _) => {}
        (Some(former), Allowed::Always) => *former = Allowed::Always,
        (Some(Allowed::When(rules)), Allowed::When(more)) => rules.extend(more),
    }
}

/// The number of a name here, and when it is allowed.
fn rule(name: &str, calls: &Calls<'_>) -> Result<Option<(i64, Allowed)>, SysError> {
    let unknown = || SysError::refused("find system call", name, "no architecture has it");
    let (call, form) = match name.split_once('/') {
        Some((call, form)) => (call, Some(form)),
        None => (name, None),
    };
    let number = match Sysno::from_str(call) {
        Ok(number) => i64::from(number.id()),
        Err(()) => {
            let elsewhere = syscalls::x86_64::Sysno::from_str(call).is_ok()
                || syscalls::aarch64::Sysno::from_str(call).is_ok();
            return if elsewhere { Ok(None) } else { Err(unknown()) };
        }
    };
    let when = match form {
        None => conditions(call, calls)?,
        Some("thread") if call == "clone" => Allowed::When(vec![new_thread()?]),
        Some("inet") if call == "socket" => Allowed::When(internet_sockets(calls.internet)?),
        Some(form) => Allowed::When(vec![socket_family(call, form).ok_or_else(unknown)??]),
    };
    Ok(Some((number, when)))
}

/// The arguments with which a call is harmless.
fn conditions(call: &str, calls: &Calls<'_>) -> Result<Allowed, SysError> {
    let rules = match call {
        "clone" => vec![without(0, Width::Whole, NEW_NAMESPACES)?],
        "memfd_create" => vec![without(1, Width::Half, MEMORY_FILE_EXECUTABLE)?],
        // Writable or executable, or neither. That memory becomes executable later is the kernel's
        // to refuse (`identity::refuse_new_code`), which knows what it was before.
        "mmap" | "mprotect" | "pkey_mprotect" if !calls.writable_code => vec![
            without(2, Width::Whole, libc::PROT_WRITE as u64)?,
            without(2, Width::Whole, libc::PROT_EXEC as u64)?,
        ],
        "sendmsg" => vec![without(2, Width::Half, FAST_OPEN)?],
        "sendto" | "sendmmsg" => vec![without(3, Width::Half, FAST_OPEN)?],
        // Asking is harmless, setting turns address randomisation off.
        "personality" => vec![equal(0, 0xffff_ffff)?],
        "ioctl" => {
            let mut requests = Vec::new();
            for request in FORBIDDEN_REQUESTS {
                requests.push(condition(1, Width::Half, SeccompCmpOp::Ne, request)?);
            }
            vec![all_of(requests)?]
        }
        _ => return Ok(Allowed::Always),
    };
    Ok(Allowed::When(rules))
}

/// None of these bits in an argument.
fn without(index: u8, width: Width, bits: u64) -> Result<SeccompRule, SysError> {
    all_of(vec![condition(
        index,
        width,
        SeccompCmpOp::MaskedEq(bits),
        0,
    )?])
}

/// An argument of 32 bits with one value.
fn equal(index: u8, value: u64) -> Result<SeccompRule, SysError> {
    all_of(vec![condition(
        index,
        Width::Half,
        SeccompCmpOp::Eq,
        value,
    )?])
}

/// `clone` with `CLONE_THREAD` and no new namespace.
fn new_thread() -> Result<SeccompRule, SysError> {
    let thread = libc::CLONE_THREAD as u64;
    let compare = SeccompCmpOp::MaskedEq(NEW_NAMESPACES | thread);
    all_of(vec![condition(0, Width::Whole, compare, thread)?])
}

fn socket_family(call: &str, form: &str) -> Option<Result<SeccompRule, SysError>> {
    let family = match (call, form) {
        ("socket", "unix") => libc::AF_UNIX,
        ("socket", "netlink") => libc::AF_NETLINK,
        ("socket", "packet") => libc::AF_PACKET,
        _ => return None,
    };
    Some(equal(0, family as u64))
}

fn internet_sockets(internet: Internet) -> Result<Vec<SeccompRule>, SysError> {
    /// Of a type, the kernel's choice (0) or what it names.
    const STREAMS: [(libc::c_int, libc::c_int); 2] = [
        (libc::SOCK_STREAM, 0),
        (libc::SOCK_STREAM, libc::IPPROTO_TCP),
    ];
    const DATAGRAMS: [(libc::c_int, libc::c_int); 2] =
        [(libc::SOCK_DGRAM, 0), (libc::SOCK_DGRAM, libc::IPPROTO_UDP)];
    let mut rules = Vec::new();
    for family in [libc::AF_INET, libc::AF_INET6] {
        let kinds = match internet {
            Internet::Streams => STREAMS.to_vec(),
            Internet::Datagrams => [STREAMS, DATAGRAMS].concat(),
            Internet::Any => {
                rules.push(equal(0, family as u64)?);
                continue;
            }
        };
        for (kind, protocol) in kinds {
            let masked = SeccompCmpOp::MaskedEq(SOCKET_TYPE);
            rules.push(all_of(vec![
                condition(0, Width::Half, SeccompCmpOp::Eq, family as u64)?,
                condition(1, Width::Half, masked, kind as u64)?,
                condition(2, Width::Half, SeccompCmpOp::Eq, protocol as u64)?,
            ])?);
        }
    }
    Ok(rules)
}

/// How much of an argument counts: what the kernel reads as `int` has nothing in its upper half.
enum Width {
    Half,
    Whole,
}

fn condition(
    index: u8,
    width: Width,
    compare: SeccompCmpOp,
    value: u64,
) -> Result<SeccompCondition, SysError> {
    let width = match width {
        Width::Half => SeccompCmpArgLen::Dword,
        Width::Whole => SeccompCmpArgLen::Qword,
    };
    SeccompCondition::new(index, width, compare, value)
        .map_err(|error| refused("compile", "a system-call rule", error))
}

fn all_of(conditions: Vec<SeccompCondition>) -> Result<SeccompRule, SysError> {
    SeccompRule::new(conditions).map_err(|error| refused("compile", "a system-call rule", error))
}

fn assemble(
    rules: BTreeMap<i64, Vec<SeccompRule>>,
    otherwise: SeccompAction,
    matched: SeccompAction,
) -> Result<BpfProgram, SysError> {
    let compile = || -> Result<BpfProgram, seccompiler::BackendError> {
        let arch: TargetArch = std::env::consts::ARCH.try_into()?;
        SeccompFilter::new(rules, otherwise, matched, arch)?.try_into()
    };
    compile().map_err(|error| refused("compile", "a system-call filter", error))
}

fn refused(act: &'static str, subject: &str, error: impl std::fmt::Display) -> SysError {
    SysError::new(act, subject, io::Error::other(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compile(names: &[&str]) -> Result<Filter, SysError> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        Filter::compile(&Calls {
            names: &names,
            program: None,
            internet: Internet::Streams,
            writable_code: false,
        })
    }

    #[test]
    fn names_of_other_architectures_are_passed_over_and_typos_are_not() {
        compile(&[
            "read",
            "open",
            "arch_prctl",
            "clone",
            "socket/unix",
            "socket/inet",
        ])
        .unwrap();
        for wrong in [
            "raed",
            "socket/ipx",
            "read/unix",
            "read/thread",
            "socket/thread",
        ] {
            let error = compile(&[wrong]).err().unwrap();
            assert!(error.full().contains(wrong), "{}", error.full());
        }
    }

    /// Runs `act` in a thread under a filter: a filter is a thread's, and stays until it ends.
    fn under<T: Send>(names: &[&str], act: impl FnOnce() -> T + Send) -> T {
        // What a thread needs to end, and the assertion's text to be made.
        let mut all = vec![
            "futex", "munmap", "mmap", "brk", "mprotect", "madvise", "exit",
        ];
        all.extend(["rt_sigprocmask", "sigaltstack", "write"]);
        all.extend(names);
        let filter = compile(&all).unwrap();
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                filter.install().unwrap();
                act()
            });
            thread.join().unwrap()
        })
    }

    #[test]
    fn neighbours_with_one_verdict_are_one_stretch() {
        let allow = Verdict::Answer(SeccompAction::Allow.into());
        let other = Verdict::Answer(SeccompAction::Errno(libc::EPERM as u32).into());
        let stretches =
            |calls: &[(i64, Verdict)]| segments(&calls.iter().copied().collect()).unwrap();
        assert_eq!(stretches(&[]), [(0, other)]);
        assert_eq!(
            stretches(&[(0, allow), (1, allow), (5, Verdict::Arguments)]),
            [(0, allow), (2, other), (5, Verdict::Arguments), (6, other)]
        );
        assert_eq!(
            stretches(&[(3, allow), (4, Verdict::Arguments)]),
            [(0, other), (3, allow), (4, Verdict::Arguments), (5, other)]
        );
    }

    #[test]
    fn the_tree_is_right_where_its_jumps_are_long() {
        let answer = |number: u32| Verdict::Answer(0x7fff_0000 | number);
        let all: Vec<_> = (0..1000).map(|number| (number, answer(number))).collect();
        let mut program = vec![statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0)];
        program.extend(search_tree(&all));
        for number in 0..1000 {
            assert_eq!(verdict(&program, 0, number), 0x7fff_0000 | number);
        }
        assert_eq!(verdict(&program, 0, u32::MAX), 0x7fff_0000 | 999);
    }

    /// Walks through a program as the kernel does, without arguments: what it answers for a number.
    fn verdict(program: &BpfProgram, arch: u32, number: u32) -> u32 {
        let mut accumulator = 0;
        let mut place = 0;
        loop {
            let step = program.get(place).unwrap();
            place += 1;
            let code = u32::from(step.code);
            if code == libc::BPF_LD | libc::BPF_W | libc::BPF_ABS {
                accumulator = match step.k {
                    0 => number,
                    4 => arch,
                    _ => 0,
                };
                continue;
            }
            if code == libc::BPF_RET | libc::BPF_K {
                return step.k;
            }
            if code == libc::BPF_JMP | libc::BPF_JA {
                place += step.k as usize;
                continue;
            }
            if code == libc::BPF_ALU | libc::BPF_AND | libc::BPF_K {
                accumulator &= step.k;
                continue;
            }
            let met = match code & !libc::BPF_JMP {
                libc::BPF_JEQ => accumulator == step.k,
                libc::BPF_JGT => accumulator > step.k,
                libc::BPF_JGE => accumulator >= step.k,
                other => panic!("found the instruction {other:#x}"),
            };
            place += usize::from(if met { step.jt } else { step.jf });
        }
    }

    #[test]
    fn each_number_gets_the_verdict_of_the_list() {
        let names = [
            "read",
            "write",
            "exit",
            "exit_group",
            "close",
            "getpid",
            "ioctl",
        ];
        let program = compile(&names).unwrap().program;
        let arch = program.get(1).unwrap().k;
        let allow = u32::from(SeccompAction::Allow);
        let kill = u32::from(SeccompAction::KillProcess);
        let errno = |number: i32| u32::from(SeccompAction::Errno(number as u32));
        for number in (0..2048).chain([1 << 30, u32::MAX]) {
            let name = Sysno::new(number as usize).map(|call| call.name());
            let expected = match name {
                Some(name) if names.contains(&name) => allow,
                Some(name) if NOT_IMPLEMENTED.contains(&name) => errno(libc::ENOSYS),
                _ => errno(libc::EPERM),
            };
            assert_eq!(
                verdict(&program, arch, number),
                expected,
                "{number} {name:?}"
            );
            assert_eq!(verdict(&program, arch ^ 1, number), kill, "{number}");
        }
    }

    fn errno_of(result: libc::c_long) -> i32 {
        if result < 0 {
            io::Error::last_os_error().raw_os_error().unwrap()
        } else {
            0
        }
    }

    #[test]
    fn the_named_work_and_the_rest_is_refused() {
        let (own, uname, clone3) = under(&["getpid"], || {
            let mut name = [0u8; 400];
            // SAFETY: getpid has no arguments, uname writes at most 390 bytes, and the null
            // pointer with length 0 is refused before it is read.
            unsafe {
                (
                    errno_of(libc::syscall(libc::SYS_getpid)),
                    errno_of(libc::syscall(libc::SYS_uname, name.as_mut_ptr())),
                    errno_of(libc::syscall(libc::SYS_clone3, std::ptr::null::<u8>(), 0)),
                )
            }
        });
        assert_eq!((own, uname, clone3), (0, libc::EPERM, libc::ENOSYS));
    }

    #[test]
    fn arguments_narrow_a_call() {
        let result = under(&["socket/unix", "ioctl", "memfd_create", "close"], || {
            // SAFETY: no pointer but a C string; the ioctl's is null and refused or unread, and
            // the descriptors stay open until the test's end.
            unsafe {
                let socket = |family: libc::c_int| {
                    errno_of(libc::socket(family, libc::SOCK_DGRAM, 0).into())
                };
                let memory = |flags| errno_of(libc::memfd_create(c"a".as_ptr(), flags).into());
                [
                    socket(libc::AF_UNIX),
                    socket(libc::AF_INET),
                    errno_of(libc::ioctl(-1, libc::TIOCSTI, 0).into()),
                    errno_of(libc::ioctl(-1, libc::FIONREAD, 0).into()),
                    memory(MEMORY_FILE_EXECUTABLE as u32),
                    memory(0),
                ]
            }
        });
        let denied = libc::EPERM;
        assert_eq!(result, [0, denied, denied, libc::EBADF, denied, 0]);
    }

    #[test]
    fn of_the_internet_only_tcp_is_left() {
        let kinds = [
            (libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0),
            (libc::SOCK_STREAM, libc::IPPROTO_TCP),
            (libc::SOCK_STREAM, libc::IPPROTO_MPTCP),
            (libc::SOCK_STREAM, libc::IPPROTO_SCTP),
            (libc::SOCK_DGRAM, 0),
            (libc::SOCK_RAW, libc::IPPROTO_TCP),
        ];
        let result = under(&["socket/inet", "sendto"], || {
            let mut errors = kinds.map(|(kind, protocol)| {
                // SAFETY: numbers only; the descriptors stay open until the test's end.
                errno_of(unsafe { libc::socket(libc::AF_INET, kind, protocol) }.into())
            });
            for (place, flags) in [(3, libc::MSG_FASTOPEN), (5, 0)] {
                // SAFETY: no memory is passed; the descriptor is none.
                let sent =
                    unsafe { libc::sendto(-1, std::ptr::null(), 0, flags, std::ptr::null(), 0) };
                // Two of the kinds make way for two ways of sending.
                errors[place] = 1000 * errors[place] + errno_of(sent as libc::c_long);
            }
            errors
        });
        let denied = libc::EPERM;
        let sent = [1000 * denied + denied, 1000 * denied + libc::EBADF];
        assert_eq!(result, [0, 0, denied, sent[0], denied, sent[1]]);
    }

    #[test]
    fn memory_is_not_writable_and_executable() {
        let result = under(&["pkey_mprotect"], || {
            [
                libc::PROT_READ | libc::PROT_WRITE,
                libc::PROT_READ | libc::PROT_EXEC,
                libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC,
            ]
            .map(|protection| {
                let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
                // SAFETY: new memory at a place of the kernel's choice.
                let memory =
                    unsafe { libc::mmap(std::ptr::null_mut(), 4096, protection, flags, -1, 0) };
                if memory == libc::MAP_FAILED {
                    return errno_of(-1);
                }
                0
            })
        });
        assert_eq!(result, [0, 0, libc::EPERM]);
    }
}
