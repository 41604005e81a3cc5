//! The child's way to the program: limits, identity, user namespace, Landlock, descriptors, the
//! system-call filter, exec.
//!
//! Each step takes away rights that the steps after it do not need, so the order is fixed.

use std::os::fd::AsFd;

use kos_manifest::launch::{
    Access, FIRST_PASSED_FD, FIRST_PROGRAM_FD, LaunchReport, LaunchSpec, Step,
};
use kos_sys::exec::{Program, close_on_exec_from, pass_on};
use kos_sys::filter::Filter;
use kos_sys::landlock::{self, Right, Rules};
use kos_sys::{SysError, identity, process, signals, user_namespace};

use crate::descriptors;
use crate::report::{At, Failure, Reports};
use crate::root::Contents;

/// Becomes the program, or returns what stood in the way.
pub fn become_program(spec: &LaunchSpec, contents: &Contents, reports: &Reports) -> Failure {
    match prepare(spec, contents, reports) {
        Ok(program) => {
            let error: Result<(), SysError> = Err(program.exec());
            match error.at(Step::Exec) {
                Err(failure) => failure,
                Ok(()) => unreachable!("exec returns only errors"),
            }
        }
        Err(failure) => failure,
    }
}

fn prepare(spec: &LaunchSpec, contents: &Contents, reports: &Reports) -> Result<Program, Failure> {
    signals::reset();
    process::new_session().at(Step::Fork)?;
    close_on_exec_from(3).at(Step::Fork)?;
    identity::limit_resources(&spec.limits).at(Step::Limits)?;
    become_user(spec, contents).at(Step::Identity)?;
    if !spec.writable_code {
        refuse_new_code().at(Step::Limits)?;
    }
    landlock::restrict(&rules(spec, contents)).at(Step::Landlock)?;
    let environment = descriptors::environment(spec, process::own_pid());
    let program = Program::new(&spec.program, &spec.args, &environment).at(Step::Exec)?;
    let mut filter = Filter::from_words(&spec.filter).at(Step::Seccomp)?;
    filter.allow_exec(&program);
    // Before the filter, which may well forbid sending.
    reports.send(&LaunchReport::Executing);
    let count = spec.sockets.len() + spec.credentials.len();
    pass_on(FIRST_PASSED_FD, count, FIRST_PROGRAM_FD).at(Step::Descriptors)?;
    filter.install().at(Step::Seccomp)?;
    Ok(program)
}

fn become_user(spec: &LaunchSpec, contents: &Contents) -> Result<(), SysError> {
    let capabilities = identity::capabilities_by_name(&spec.capabilities)?;
    identity::assume(spec.uid, spec.gid, capabilities)?;
    if spec.user_namespace {
        user_namespace::enter(contents.outer_proc.as_fd(), spec.uid, spec.gid)?;
        identity::give_up_capabilities(spec.uid, spec.gid)?;
    }
    identity::no_new_privileges()
}

/// A kernel that cannot (before 6.3) still has the filter, which sees writable and executable at
/// once.
fn refuse_new_code() -> Result<(), SysError> {
    match identity::refuse_new_code() {
        Err(error) if error.source.kind() == std::io::ErrorKind::InvalidInput => Ok(()),
        other => other,
    }
}

/// Landlock says again, by path, what the mounts show.
fn rules(spec: &LaunchSpec, contents: &Contents) -> Rules {
    let view = |(path, access): &(std::path::PathBuf, Access)| (path.clone(), Right::View(*access));
    let mut paths: Vec<_> = contents.views.iter().map(view).collect();
    paths.extend(
        contents
            .devices
            .iter()
            .map(|path| (path.clone(), Right::Device)),
    );
    Rules {
        paths,
        listen: spec.listen.clone(),
        connect: spec.connect.clone(),
    }
}
