//! Landlock: what a process may reach in the file system and over TCP, whoever it is.
//!
//! It stands behind the mounts of a sandbox: should something come into view that was not meant
//! to, the rules still do not name it.

use std::io;
use std::path::{Path, PathBuf};

use kos_manifest::launch::Access;
use landlock::{
    ABI, Access as _, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, NetPort, PathBeneath,
    PathFd, RestrictionStatus, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetStatus, Scope,
};

use crate::error::{SysError, Told};

/// The newest rights that are asked for (Linux 6.12, the kernel of kOS). An older kernel enforces
/// those that it knows; the first version is the least.
const NEWEST: ABI = ABI::V6;

/// What may be done below a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Right {
    /// What a view's access says.
    View(Access),
    /// Open for reading and writing; no making, no removing (a device node).
    Device,
}

/// Everything that stays allowed. All else that Landlock knows is refused.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    /// Paths with what may be done at and below them.
    pub paths: Vec<(PathBuf, Right)>,
    /// TCP ports that may be bound; `None` is no restriction.
    pub listen: Option<Vec<u16>>,
    /// TCP ports that may be connected to; `None` is no restriction.
    pub connect: Option<Vec<u16>>,
}

/// How much of what was asked for the kernel enforces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Enforcement {
    /// All of it.
    Full,
    /// What its version knows, and at least all rights of the first version.
    Partial,
}

/// Restricts this thread and its children, for good. Signals and abstract Unix sockets do not
/// leave the restricted processes either. Wants `no_new_privs` set before.
///
/// # Errors
/// The kernel has no Landlock, cannot restrict TCP although rules for it are given, or a path
/// cannot be opened.
pub fn restrict(rules: &Rules) -> Result<Enforcement, SysError> {
    let status = build(rules)?;
    match status.ruleset {
        RulesetStatus::FullyEnforced => Ok(Enforcement::Full),
        RulesetStatus::PartiallyEnforced => Ok(Enforcement::Partial),
        RulesetStatus::NotEnforced => Err(SysError::refused(
            "restrict",
            "file access",
            "the kernel has no Landlock",
        )),
    }
}

fn build(rules: &Rules) -> Result<RestrictionStatus, SysError> {
    let failed = |error: landlock::RulesetError| refused("restrict", "file access", error);
    // `handle_access` takes each version's rights under the level set before it: the file rights of
    // the first version must be there, and TCP where rules name ports; later ones may be missing.
    let mut ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(ABI::V1))
        .map_err(failed)?;
    if rules.listen.is_some() {
        ruleset = ruleset.handle_access(AccessNet::BindTcp).map_err(failed)?;
    }
    if rules.connect.is_some() {
        ruleset = ruleset
            .handle_access(AccessNet::ConnectTcp)
            .map_err(failed)?;
    }
    let mut created = ruleset
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(NEWEST))
        .map_err(failed)?
        .scope(Scope::from_all(NEWEST))
        .map_err(failed)?
        .create()
        .map_err(failed)?;
    for (path, right) in &rules.paths {
        let told = |error: landlock::RulesetError| refused("allow", path.display(), error);
        created = created.add_rule(beneath(path, *right)?).map_err(told)?;
    }
    let ports = |ports: &Option<Vec<u16>>| ports.clone().unwrap_or_default();
    for port in ports(&rules.listen) {
        created = created
            .add_rule(NetPort::new(port, AccessNet::BindTcp))
            .map_err(failed)?;
    }
    for port in ports(&rules.connect) {
        created = created
            .add_rule(NetPort::new(port, AccessNet::ConnectTcp))
            .map_err(failed)?;
    }
    created.restrict_self().map_err(failed)
}

fn beneath(path: &Path, right: Right) -> Result<PathBeneath<PathFd>, SysError> {
    let descriptor = PathFd::new(path).map_err(|error| refused("open", path.display(), error))?;
    let directory = std::fs::metadata(path)
        .told("look at", path.display())?
        .is_dir();
    let mut access = rights(right);
    if !directory {
        // The kernel refuses rights that only directories have.
        access &= AccessFs::from_file(NEWEST);
    }
    Ok(PathBeneath::new(descriptor, access))
}

fn rights(right: Right) -> BitFlags<AccessFs> {
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    match right {
        Right::View(Access::Read) => read,
        Right::View(Access::Execute) => read | AccessFs::Execute,
        // Everything but executing, device nodes and their private requests.
        Right::View(Access::Write) => {
            AccessFs::from_all(NEWEST)
                & !(AccessFs::Execute
                    | AccessFs::MakeChar
                    | AccessFs::MakeBlock
                    | AccessFs::IoctlDev)
        }
        Right::Device => AccessFs::ReadFile | AccessFs::WriteFile,
    }
}

fn refused(
    act: &'static str,
    subject: impl std::fmt::Display,
    error: impl std::fmt::Display,
) -> SysError {
    SysError::new(act, subject, io::Error::other(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A domain is a thread's and its children's, so the test's own thread is restricted.
    #[test]
    fn what_is_not_named_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let (inside, outside) = (directory.path().join("in"), directory.path().join("out"));
        for path in [&inside, &outside] {
            std::fs::create_dir(path).unwrap();
            std::fs::write(path.join("file"), "x").unwrap();
        }
        let rules = Rules {
            paths: vec![(inside.clone(), Right::View(Access::Write))],
            listen: Some(vec![]),
            connect: None,
        };
        let result = std::thread::spawn(move || {
            crate::identity::no_new_privileges().unwrap();
            match restrict(&rules) {
                Err(error) if error.full().contains("Landlock") => {
                    eprintln!("skipped: {}", error.full());
                    return;
                }
                other => other.unwrap(),
            };
            std::fs::write(inside.join("new"), "y").unwrap();
            let read = std::fs::read(outside.join("file")).unwrap_err();
            assert_eq!(read.kind(), io::ErrorKind::PermissionDenied);
            let bound = std::net::TcpListener::bind("127.0.0.1:0").unwrap_err();
            assert_eq!(bound.kind(), io::ErrorKind::PermissionDenied);
        })
        .join();
        assert!(result.is_ok());
    }
}
