//! A Unix socket to serve on.

use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result};
use tokio::net::UnixListener;

/// Binds a Unix socket that every process which can see its path may connect to: who sees it is
/// decided by the sandboxes' views. A socket left by a run before is removed.
///
/// # Errors
/// When the directory is not writable, or another file is in the way.
pub fn unix_listener(path: &Path) -> Result<UnixListener> {
    match std::fs::remove_file(path) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => {
            return Err(error).with_context(|| format!("cannot replace {}", path.display()));
        }
    }
    let listener =
        UnixListener::bind(path).with_context(|| format!("cannot listen on {}", path.display()))?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o666))
        .with_context(|| format!("cannot open {} to others", path.display()))?;
    Ok(listener)
}
