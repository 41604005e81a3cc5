//! How much each service may keep on the disk: its state and cache directories belong to a project
//! of the file system, numbered as its user, which is limited as a whole.

use std::os::fd::AsFd;
use std::path::Path;

use anyhow::{Context, Result};
use kos_manifest::service::Service;
use kos_sys::SysError;
use kos_sys::quota::{self, Limit};
use kos_sys::tree::open_directory;

use crate::spec::{cache_directory, state_directory};

/// Puts a service's directories into its project and limits it. What is in them already, from
/// before there were quotas, is counted from now on. On a file system without quotas (memory, an
/// older disk; the boot has said so) nothing is limited, and that is no error.
///
/// # Errors
/// When a directory cannot be opened, or the kernel refuses.
pub fn put_in_place(service: &Service) -> Result<()> {
    let sandbox = &service.sandbox;
    let name = &service.name;
    let directories = [
        (sandbox.state, state_directory(name)),
        (sandbox.cache, cache_directory(name)),
    ];
    for (_, path) in directories.iter().filter(|(wanted, _)| *wanted) {
        match limit(path, service) {
            Err(error) if quota::is_unsupported(&error) => return Ok(()),
            other => other
                .map_err(|error| anyhow::anyhow!("{}", error.full()))
                .with_context(|| format!("cannot limit what {name} keeps in {}", path.display()))?,
        }
    }
    Ok(())
}

fn limit(path: &Path, service: &Service) -> Result<(), SysError> {
    let directory = open_directory(path)?;
    let limit = Limit {
        bytes: service.limits.disk.unwrap_or(0),
        files: service
            .limits
            .disk
            .map_or(0, |_| u64::from(service.limits.disk_files)),
    };
    // First the limit, so that nothing is counted without one.
    quota::set_limit(directory.as_fd(), service.uid, limit)?;
    quota::adopt(directory.as_fd(), service.uid)
}

#[cfg(test)]
mod tests {
    use kos_manifest::seccomp::SyscallSets;
    use kos_manifest::service::ServiceSet;

    use super::*;

    /// What the limits do is tested in a guest; here, that a service without directories has none.
    #[test]
    fn a_service_that_keeps_nothing_has_no_project() {
        let set = "name = \"default\"\ndescription = \"d\"\nsyscalls = [\"read\"]\n";
        let sets = SyscallSets::parse([("default.toml".to_owned(), set.to_owned())]).unwrap();
        let text = "name = \"echo\"\ndescription = \"d\"\nprogram = \"/bin/echo\"\nuid = 1001\n";
        let parse = |text: String| ServiceSet::parse([("echo.toml".to_owned(), text)], &sets);
        let services = parse(text.to_owned()).unwrap();
        put_in_place(services.get("echo").unwrap()).unwrap();
        let services = parse(format!("{text}[sandbox]\nstate = true\n")).unwrap();
        let error = put_in_place(services.get("echo").unwrap()).unwrap_err();
        assert!(format!("{error:#}").contains("/data/echo"), "{error:#}");
    }
}
