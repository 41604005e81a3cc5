//! Where things are: the checkout, cargo's target directory, what xtask makes and what it caches.
//!
//! Nothing here creates or changes a file, except the directories that it names.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

/// The checkout that this xtask was compiled in, and the directories derived from it.
#[derive(Debug, Clone)]
pub struct Workspace {
    root: PathBuf,
    target: PathBuf,
}

impl Workspace {
    /// The checkout is known at compile time: cargo rebuilds xtask when it moves, and the tests,
    /// which call this program with another crate's environment, must not mislead it.
    pub fn find() -> Result<Workspace> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"))
            .parent()
            .context("xtask is not inside a workspace")?
            .to_path_buf();
        let target = match std::env::var_os("CARGO_TARGET_DIR") {
            Some(directory) => root.join(directory),
            None => root.join("target"),
        };
        Ok(Workspace { root, target })
    }

    /// The repository's top directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A path inside the repository, shown to people without the part that is this machine's.
    pub fn shown<'a>(&self, path: &'a Path) -> std::path::Display<'a> {
        path.strip_prefix(&self.root).unwrap_or(path).display()
    }

    /// `image/`: what an image is made of, as data.
    pub fn image(&self) -> PathBuf {
        self.root.join("image")
    }

    /// Cargo's target directory.
    pub fn target(&self) -> &Path {
        &self.target
    }

    /// `target/kos`: everything that xtask makes.
    pub fn out(&self) -> Result<PathBuf> {
        directory(self.target.join("kos"))
    }

    /// `target/kos/logs`: the output of every program that a stage ran.
    pub fn logs(&self) -> Result<PathBuf> {
        directory(self.out()?.join("logs"))
    }

    /// `$XDG_CACHE_HOME/kos`: what several checkouts share.
    pub fn cache(&self) -> Result<PathBuf> {
        let base = match std::env::var_os("XDG_CACHE_HOME") {
            Some(base) if Path::new(&base).is_absolute() => PathBuf::from(base),
            _ => std::env::home_dir()
                .context("no home directory")?
                .join(".cache"),
        };
        directory(base.join("kos"))
    }

    /// The cargo that runs us, started in the checkout and without what `cargo run` left in the
    /// environment for us alone: it would make a build script think that its input changed.
    pub fn cargo(&self) -> Command {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut command = Command::new(cargo);
        command.current_dir(&self.root);
        for (name, _) in std::env::vars_os() {
            let name_text = name.to_string_lossy();
            let ours = [
                "CARGO_PKG_",
                "CARGO_MANIFEST_",
                "CARGO_BIN_",
                "CARGO_CRATE_",
            ]
            .iter()
            .any(|prefix| name_text.starts_with(prefix))
                || matches!(
                    &*name_text,
                    "CARGO_PRIMARY_PACKAGE" | "OUT_DIR" | "LD_LIBRARY_PATH"
                );
            if ours {
                command.env_remove(&name);
            }
        }
        command
    }

    /// The version of everything that is built here.
    pub fn version(&self) -> String {
        env!("CARGO_PKG_VERSION").to_owned()
    }

    /// The commit that is checked out, if this is a git checkout.
    pub fn commit(&self) -> Option<String> {
        let output = Command::new("git")
            .args(["rev-parse", "--verify", "HEAD"])
            .current_dir(&self.root)
            .output()
            .ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        (output.status.success() && !text.trim().is_empty()).then(|| text.trim().to_owned())
    }
}

fn directory(path: PathBuf) -> Result<PathBuf> {
    std::fs::create_dir_all(&path).with_context(|| format!("create {}", path.display()))?;
    Ok(path)
}
