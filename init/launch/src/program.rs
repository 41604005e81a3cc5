//! The child's way to the program: limits, identity, Landlock, the system-call filter, exec.
//!
//! Each step takes away rights that the steps after it do not need, so the order is fixed.

use kos_manifest::launch::{Access, LaunchReport, LaunchSpec, Step};
use kos_sys::exec::{Program, close_on_exec_from};
use kos_sys::filter::Filter;
use kos_sys::landlock::{self, Right, Rules};
use kos_sys::{SysError, identity, process, signals};

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
    identity::limit_open_files(spec.limits.open_files).at(Step::Limits)?;
    identity::forbid_core_files().at(Step::Limits)?;
    let capabilities = identity::capabilities_by_name(&spec.capabilities).at(Step::Identity)?;
    identity::assume(spec.uid, spec.gid, capabilities).at(Step::Identity)?;
    identity::no_new_privileges().at(Step::Identity)?;
    landlock::restrict(&rules(spec, contents)).at(Step::Landlock)?;
    let program = Program::new(&spec.program, &spec.args, &spec.environment).at(Step::Exec)?;
    let filter = Filter::compile(&spec.syscalls, Some(&program)).at(Step::Seccomp)?;
    // Before the filter, which may well forbid sending.
    reports.send(&LaunchReport::Executing);
    filter.install().at(Step::Seccomp)?;
    Ok(program)
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
