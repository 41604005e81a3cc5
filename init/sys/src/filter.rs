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
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Calls {
    /// Names of the calls that are allowed; see [`Filter::compile`].
    pub names: Vec<String>,
    /// What a socket of the internet may be, where the names allow one at all.
    pub internet: Internet,
    /// Whether memory may be mapped writable and executable at once.
    pub writable_code: bool,
}

/// Kinds of internet sockets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
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
    pub fn compile(calls: &Calls) -> Result<Self, SysError> {
        let mut allowed: BTreeMap<i64, Allowed> = BTreeMap::new();
        for name in &calls.names {
            let Some((number, when)) = rule(name, calls)? else {
                continue;
            };
            allow(&mut allowed, number, when);
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

    /// The filter as numbers, to be handed to another process.
    pub fn to_words(&self) -> Vec<u64> {
        let word = |step: &sock_filter| {
            u64::from(step.code)
                | u64::from(step.jt) << 16
                | u64::from(step.jf) << 24
                | u64::from(step.k) << 32
        };
        self.program.iter().map(word).collect()
    }

    /// The filter that [`Filter::to_words`] made numbers of.
    ///
    /// # Errors
    /// It is shorter than any filter, or longer than the kernel takes.
    pub fn from_words(words: &[u64]) -> Result<Self, SysError> {
        if !(ARCHITECTURE_CHECK + 1..=LONGEST).contains(&words.len()) {
            let found = format!("found {} steps, allowed: up to {LONGEST}", words.len());
            return Err(refused("take over", "a system-call filter", found));
        }
        let step = |word: &u64| {
            let [code_low, code_high, jt, jf, k @ ..] = word.to_le_bytes();
            sock_filter {
                code: u16::from_le_bytes([code_low, code_high]),
                jt,
                jf,
                k: u32::from_le_bytes(k),
            }
        };
        Ok(Filter {
            program: words.iter().map(step).collect(),
        })
    }

    /// Allows, beside all else, the one `execve` of this program, with exactly its three addresses: a
    /// launcher's last call. The addresses mean nothing to the program after it.
    pub fn allow_exec(&mut self, program: &Program) {
        let load = |offset| statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, offset);
        let mut values = vec![(0, Sysno::execve.id() as u32)];
        for (place, address) in (0u32..).zip(program.addresses()) {
            let offset = ARGUMENTS + 8 * place;
            // A filter sees an argument's halves one by one; both architectures put the lower first.
            values.push((offset, address as u32));
            values.push((offset + 4, (address >> 32) as u32));
        }
        let steps = 2 * values.len();
        let mut rule = Vec::with_capacity(steps + 1);
        for (offset, value) in values {
            rule.push(load(offset));
            rule.push(sock_filter {
                jt: 0,
                // To behind the rule's answer, which stands at `steps`.
                jf: (steps - rule.len()) as u8,
                ..statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, value)
            });
        }
        rule.push(statement(
            libc::BPF_RET | libc::BPF_K,
            SeccompAction::Allow.into(),
        ));
        // Whatever comes after loads what it looks at by itself.
        self.program
            .splice(ARCHITECTURE_CHECK..ARCHITECTURE_CHECK, rule);
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

/// The most instructions that the kernel takes (`BPF_MAXINSNS`).
const LONGEST: usize = 4096;

/// Where the arguments begin in what a filter looks at (`struct seccomp_data`).
const ARGUMENTS: u32 = 16;

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
fn rule(name: &str, calls: &Calls) -> Result<Option<(i64, Allowed)>, SysError> {
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
fn conditions(call: &str, calls: &Calls) -> Result<Allowed, SysError> {
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
mod tests;
