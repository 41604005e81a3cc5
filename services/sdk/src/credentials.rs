//! Secrets that PID 1 hands to a service, as files below `$CREDENTIALS_DIRECTORY`.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};

/// Largest credential, in bytes: a key or a token, never a document.
const MAX_BYTES: u64 = 64 * 1024;

/// Reads a credential by name, without the white space around it.
///
/// # Errors
/// When the service was given none of that name, or one that is too large or not UTF-8.
pub fn read(name: &str) -> Result<String> {
    let directory = std::env::var_os("CREDENTIALS_DIRECTORY")
        .context("the service was given no credentials ($CREDENTIALS_DIRECTORY is not set)")?;
    let path = PathBuf::from(directory).join(name);
    let size = std::fs::metadata(&path)
        .with_context(|| format!("cannot find the credential '{name}'"))?
        .len();
    ensure!(
        size <= MAX_BYTES,
        "the credential '{name}' has {size} bytes, allowed: {MAX_BYTES}"
    );
    let text = std::fs::read_to_string(&path)
        .with_context(|| format!("cannot read the credential '{name}'"))?;
    Ok(text.trim().to_owned())
}
