//! Filters walked through as the kernel does, and installed in threads that then try what they may.

use super::*;

fn compile(names: &[&str]) -> Result<Filter, SysError> {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    Filter::compile(&Calls {
        names,
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
    let stretches = |calls: &[(i64, Verdict)]| segments(&calls.iter().copied().collect()).unwrap();
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

fn verdict(program: &BpfProgram, arch: u32, number: u32) -> u32 {
    answer(program, arch, number, [0; 3])
}

/// Walks through a program as the kernel does: what it answers for a number and arguments.
fn answer(program: &BpfProgram, arch: u32, number: u32, arguments: [u64; 3]) -> u32 {
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
                place => {
                    let place = place.checked_sub(ARGUMENTS).unwrap();
                    let argument = arguments.get(place as usize / 8).copied();
                    (argument.unwrap_or(0) >> (place % 8 * 8)) as u32
                }
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

#[test]
fn one_execution_is_allowed_and_the_rest_stays_as_it_was() {
    let names = ["read", "ioctl"];
    let without = compile(&names).unwrap();
    let mut filter = Filter::from_words(&without.to_words()).unwrap();
    assert_eq!(filter.program, without.program);
    let program = Program::new("/bin/x".as_ref(), &[], &BTreeMap::new()).unwrap();
    filter.allow_exec(&program);
    let arch = filter.program.get(1).unwrap().k;
    let execve = Sysno::execve.id() as u32;
    let ask = |arguments| answer(&filter.program, arch, execve, arguments);
    let (allow, deny) = (
        u32::from(SeccompAction::Allow),
        u32::from(SeccompAction::Errno(libc::EPERM as u32)),
    );
    let addresses = program.addresses();
    assert_eq!(ask(addresses), allow);
    for place in 0..3 {
        for bit in [1, 1 << 32] {
            let mut other = addresses;
            other[place] ^= bit;
            assert_eq!(ask(other), deny, "{place} {bit:#x}");
        }
    }
    let kill = u32::from(SeccompAction::KillProcess);
    assert_eq!(answer(&filter.program, arch ^ 1, execve, addresses), kill);
    for number in (0..512).filter(|number| *number != execve) {
        let expected = answer(&without.program, arch, number, addresses);
        let found = answer(&filter.program, arch, number, addresses);
        assert_eq!(found, expected, "{number}");
    }
}

#[test]
fn what_is_no_filter_is_not_taken_over() {
    for length in [0, ARCHITECTURE_CHECK, LONGEST + 1] {
        let error = Filter::from_words(&vec![6; length]).err().unwrap();
        assert!(error.full().contains(&format!("found {length} steps")));
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
            let socket =
                |family: libc::c_int| errno_of(libc::socket(family, libc::SOCK_DGRAM, 0).into());
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
            let sent = unsafe { libc::sendto(-1, std::ptr::null(), 0, flags, std::ptr::null(), 0) };
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
