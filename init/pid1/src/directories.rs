//! What services keep their files in, and where PID 1 puts what it gives them.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use kos_manifest::service::Service;

use crate::quota;
use crate::spec::{DATA, RUN, cache_directory, notify_socket, runtime_directory, state_directory};

/// Makes what services keep their files in, those in memory first. One that cannot be made is told
/// and keeps none of the others from being made: on a full disk, which takes no new directory but
/// from what ext4 reserves for root, the services that have theirs still start.
pub fn make(services: &[&Service]) -> Result<()> {
    let run = Path::new(RUN);
    let mut wanted: Vec<_> = [("", 0o755), ("notify", 0o700)]
        .into_iter()
        .map(|(name, mode)| (run.join(name), mode, 0))
        .collect();
    let all = || services.iter();
    for service in all().filter(|service| service.sandbox.runtime) {
        wanted.push((runtime_directory(&service.name), 0o755, service.uid));
    }
    let models = Path::new(DATA).join("models");
    // It is there after the first boot; those of a read-only disk cannot even be given rights.
    if !models.exists() {
        wanted.push((models, 0o755, 0));
    }
    for service in all().filter(|service| service.sandbox.state) {
        wanted.push((state_directory(&service.name), 0o700, service.uid));
    }
    for service in all() {
        // Beside its state: the log, which outlives what the service that keeps it has in its own.
        for path in data_directories(&service.sandbox.write) {
            wanted.push((path.to_owned(), 0o700, service.uid));
        }
    }
    if all().any(|service| service.sandbox.cache) {
        wanted.push((Path::new(DATA).join("cache"), 0o755, 0));
    }
    for service in all().filter(|service| service.sandbox.cache) {
        wanted.push((cache_directory(&service.name), 0o700, service.uid));
    }
    let failures: Vec<String> = wanted
        .into_iter()
        .filter_map(|(path, mode, owner)| directory(&path, mode, owner).err())
        .chain(all().filter_map(|service| quota::put_in_place(service).err()))
        .map(|error| format!("{error:#}"))
        .collect();
    match failures.as_slice() {
        [] => Ok(()),
        failures => bail!("{}", failures.join("; ")),
    }
}

/// Removes what a service that is no more had in memory. Its data stays, for the case that it comes
/// back; a person removes that.
///
/// # Errors
/// The first thing that cannot be removed; what is not there is no error.
pub fn remove(name: &str) -> Result<()> {
    let missing_is_gone = |path: &Path, result: std::io::Result<()>| match result {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    };
    let socket = notify_socket(name);
    missing_is_gone(&socket, fs::remove_file(&socket))?;
    let directory = runtime_directory(name);
    missing_is_gone(&directory, fs::remove_dir_all(&directory))
}

/// Those of the paths that lie directly below `/data`: the image's services alone may name them.
fn data_directories(paths: &[PathBuf]) -> impl Iterator<Item = &Path> {
    let data = Path::new(DATA);
    let paths = paths.iter().map(PathBuf::as_path);
    paths.filter(move |path| path.parent() == Some(data))
}

fn directory(path: &Path, mode: u32, owner: u32) -> Result<()> {
    let about = || format!("cannot make {}", path.display());
    match fs::create_dir(path) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => {
            return Err(error).with_context(about);
        }
        _ => {}
    }
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).with_context(about)?;
    chown(path, Some(owner), Some(owner)).with_context(about)
}
