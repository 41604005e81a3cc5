//! What the program is told about the descriptors that it starts with: sockets as systemd's services
//! find them, then its secrets.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use kos_manifest::launch::{CREDENTIALS_DIRECTORY, FIRST_PROGRAM_FD, LaunchSpec};

/// The environment with what only the launcher knows; `pid` is the program's own number.
pub fn environment(spec: &LaunchSpec, pid: i32) -> BTreeMap<String, String> {
    let mut environment = spec.environment.clone();
    let mut tell = |name: &str, value: String| environment.insert(name.to_owned(), value);
    if !spec.sockets.is_empty() {
        tell("LISTEN_PID", pid.to_string());
        tell("LISTEN_FDS", spec.sockets.len().to_string());
        tell("LISTEN_FDNAMES", spec.sockets.join(":"));
    }
    if !spec.credentials.is_empty() {
        let told: Vec<String> = credentials(spec)
            .map(|(name, number)| format!("{name}={number}"))
            .collect();
        tell("CREDENTIALS_FDS", told.join(":"));
        tell("CREDENTIALS_DIRECTORY", CREDENTIALS_DIRECTORY.to_owned());
    }
    environment
}

/// A name in the sandbox for each secret, and where it leads: to the descriptor, so that there is no
/// second copy of it in any file system.
pub fn credential_links(spec: &LaunchSpec) -> impl Iterator<Item = (PathBuf, String)> + '_ {
    credentials(spec).map(|(name, number)| {
        let path = Path::new(CREDENTIALS_DIRECTORY).join(name);
        (path, format!("/proc/self/fd/{number}"))
    })
}

fn credentials(spec: &LaunchSpec) -> impl Iterator<Item = (&str, i32)> + '_ {
    spec.credentials
        .iter()
        .map(String::as_str)
        .zip(FIRST_PROGRAM_FD..)
        .map(|(name, number)| (name, number + spec.sockets.len() as i32))
}
