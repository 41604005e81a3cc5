//! The sandbox's init: forwards signals to the program, collects orphans, says how it all ended.
//!
//! It shares the program's user and has nothing else: no capabilities, nobody may look into it,
//! and its filter leaves it waiting, signalling, reporting and ending. When it ends, the kernel
//! ends every other process of the sandbox.

use std::process::ExitCode;

use kos_manifest::launch::{LaunchReport, Step};
use kos_sys::exec::BeforeExec;
use kos_sys::filter::Filter;
use kos_sys::identity;
use kos_sys::process::signal_child;
use kos_sys::reap::{self, Exit};
use kos_sys::signals::{Signal, Waited};

use crate::report::{At, Failure, Reports};

/// The signals that it waits for: a child's end, and those that are meant for the program: all
/// that a manifest's `stop.signal` may be.
pub const SIGNALS: [i32; 7] = [
    Signal::CHILD.as_raw(),
    Signal::TERM.as_raw(),
    Signal::INT.as_raw(),
    Signal::HUP.as_raw(),
    Signal::QUIT.as_raw(),
    Signal::USR1.as_raw(),
    Signal::USR2.as_raw(),
];

/// Keeps nothing of what it could do but its place.
pub fn give_up_rights((uid, gid): (u32, u32)) -> Result<(), Failure> {
    identity::assume(uid, gid, identity::NO_CAPABILITIES).at(Step::Identity)?;
    identity::set_dumpable(false).at(Step::Identity)?;
    identity::no_new_privileges().at(Step::Identity)
}

/// Stays until the program has ended.
pub fn supervise(
    program: i32,
    before_exec: BeforeExec,
    filter: &Filter,
    signals: &Waited,
    reports: &Reports,
) -> Result<ExitCode, Failure> {
    // Until it has the program's user, the child takes no signal from one without rights.
    before_exec.wait();
    filter.install().at(Step::Seccomp)?;
    let exit = wait(program, signals).at(Step::Fork)?;
    let (code, signal) = match exit {
        Exit::Code(code) => (Some(code), None),
        Exit::Signal(signal) => (None, Some(signal)),
    };
    reports.send(&LaunchReport::Exited { code, signal });
    Ok(exit_code(exit))
}

fn wait(program: i32, signals: &Waited) -> anyhow::Result<Exit> {
    loop {
        let signal = signals.wait()?;
        if signal != Signal::CHILD.as_raw() {
            // The program is not collected yet, so the number is its own. That it may not be
            // signalled (it kept the right to change its user, and did) is no reason to end it.
            let _ = signal_child(program, signal);
            continue;
        }
        // One SIGCHLD may stand for many children.
        while let Some((pid, exit)) = reap::next() {
            if pid == program {
                return Ok(exit);
            }
        }
    }
}

/// The program's own code, or 128 and the signal, as shells say it. The report is exact.
fn exit_code(exit: Exit) -> ExitCode {
    let code = match exit {
        Exit::Code(code) => code,
        Exit::Signal(signal) => 128 + signal,
    };
    ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX))
}
