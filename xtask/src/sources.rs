//! The repository's own files: those that git tracks or would track.

use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::workspace::Workspace;

/// One file.
pub struct Source {
    /// Its path from the repository's top.
    pub path: String,
    /// Its size.
    pub bytes: usize,
    /// Its contents, unless they are not text.
    pub text: Option<String>,
}

/// Reads all of them.
pub fn read(workspace: &Workspace) -> Result<Vec<Source>> {
    let output = Command::new("git")
        .args([
            "ls-files",
            "-z",
            "--cached",
            "--others",
            "--exclude-standard",
        ])
        .current_dir(workspace.root())
        .output()
        .context("run git ls-files")?;
    ensure!(
        output.status.success(),
        "git ls-files: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    let mut sources = Vec::new();
    for path in String::from_utf8_lossy(&output.stdout).split_terminator('\0') {
        let full = workspace.root().join(path);
        // Deleted but not yet committed, or a symbolic link.
        if !full
            .symlink_metadata()
            .is_ok_and(|metadata| metadata.is_file())
        {
            continue;
        }
        let bytes = std::fs::read(&full).with_context(|| format!("read {path}"))?;
        sources.push(Source {
            path: path.to_owned(),
            bytes: bytes.len(),
            text: String::from_utf8(bytes)
                .ok()
                .filter(|text| !text.contains('\0')),
        });
    }
    Ok(sources)
}
