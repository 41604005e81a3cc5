//! kos-launch: builds one sandbox from a spec, drops every right, and executes the program in it.
//!
//! PID 1 starts it as process 1 of fresh pid, mount, ipc, uts and (usually) net namespaces, in the
//! service's cgroup, still with every right. It puts the sandbox's file system together, forks, and
//! the child becomes the program. The parent stays as the sandbox's init: it forwards signals,
//! collects orphans, and says how the program ended.
//!
//! It works between fork and exec: no runtime, no threads, no network, and nothing here is policy.
//! What the sandbox contains and may do is the spec's business.

mod descriptors;
mod program;
mod report;
mod root;
mod supervise;

use std::os::fd::AsFd;
use std::process::ExitCode;

use anyhow::{Context, anyhow, ensure};
use kos_manifest::launch::{LAUNCH_FAILED, LaunchSpec, MAX_SPEC_BYTES, SPEC_FD, Step};
use kos_sys::exec::{Fork, fork_single_threaded};
use kos_sys::filter::Filter;
use kos_sys::signals::Waited;
use kos_sys::{hostname, loopback, process, sockets};

use crate::report::{At, Failure, Reports};

fn main() -> ExitCode {
    let reports = match Reports::take() {
        Ok(reports) => reports,
        Err(error) => {
            // Nobody asked for a report, so a person is at the other end.
            eprintln!("kos-launch is started by kOS's init, not by hand: {error:#}");
            return failed();
        }
    };
    match launch(&reports) {
        Ok(code) => code,
        Err(failure) => {
            reports.failed(&failure);
            failed()
        }
    }
}

fn launch(reports: &Reports) -> Result<ExitCode, Failure> {
    let spec = read_spec().at(Step::Spec)?;
    hostname::set(&spec.name).at(Step::Hostname)?;
    let contents = root::build(&spec).at(Step::Mounts)?;
    if spec.loopback {
        loopback::bring_up().at(Step::Network)?;
    }
    // PID 1 starts it with all signals blocked, so that one that came meanwhile is not lost.
    let signals = Waited::block(&supervise::SIGNALS);
    match fork_single_threaded().at(Step::Fork)? {
        Fork::Child => Err(program::become_program(&spec, &contents, reports)),
        Fork::Parent(program, before_exec) => {
            let identity = (spec.uid, spec.gid);
            let filter = Filter::from_words(&spec.own_filter).at(Step::Seccomp)?;
            drop((spec, contents));
            supervise::give_up_rights(identity)?;
            supervise::supervise(program, before_exec, &filter, &signals, reports)
        }
    }
}

/// Reads the spec, and refuses to go on outside of a fresh pid namespace: there this program would
/// rename and remount the machine itself.
fn read_spec() -> anyhow::Result<LaunchSpec> {
    ensure!(
        process::own_pid() == 1,
        "this is not the first process of a pid namespace"
    );
    let file = sockets::take_inherited(SPEC_FD)?;
    let text = sockets::read_whole(file.as_fd(), MAX_SPEC_BYTES)?;
    let spec: LaunchSpec =
        serde_json::from_slice(&text).context("the spec is not what it should be")?;
    if !spec.program.is_absolute() {
        return Err(anyhow!(
            "the program's path {} is not absolute",
            spec.program.display()
        ));
    }
    Ok(spec)
}

fn failed() -> ExitCode {
    ExitCode::from(u8::try_from(LAUNCH_FAILED).unwrap_or(u8::MAX))
}
