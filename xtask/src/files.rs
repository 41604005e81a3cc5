//! Files that others read while they are written anew.

use std::path::Path;

use anyhow::{Context, Result};

/// Writes a file so that a reader sees the old or the new one, never half of it.
pub fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let new = path.with_file_name(format!(".{name}.{}", std::process::id()));
    std::fs::write(&new, bytes)
        .and_then(|()| std::fs::rename(&new, path))
        .with_context(|| format!("write {}", path.display()))
}
