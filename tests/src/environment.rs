//! What `cargo xtask test` tells the tests, by environment variables.

use std::path::PathBuf;

use anyhow::{Context, Result};

/// Which image to boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Image {
    /// The image that users get.
    Normal,
    /// The same with the services of `tests/services` and their programs in it.
    Test,
}

impl Image {
    /// The image's initial file system.
    pub fn initrd(self) -> Result<PathBuf> {
        match self {
            Image::Normal => path("KOS_INITRD"),
            Image::Test => path("KOS_TEST_INITRD"),
        }
    }
}

/// The kernel that every image boots with.
pub fn kernel() -> Result<PathBuf> {
    path("KOS_KERNEL")
}

/// The tiny model, a GGUF file.
pub fn model() -> Result<PathBuf> {
    path("KOS_TEST_MODEL")
}

/// The built xtask, for tests of its commands.
pub fn xtask() -> Result<PathBuf> {
    path("KOS_XTASK")
}

/// Where serial logs are kept.
pub fn logs() -> Result<PathBuf> {
    let directory = path("KOS_LOGS")?;
    std::fs::create_dir_all(&directory)
        .with_context(|| format!("cannot create {}", directory.display()))?;
    Ok(directory)
}

fn path(name: &str) -> Result<PathBuf> {
    std::env::var_os(name)
        .filter(|value| !value.is_empty())
        .map(PathBuf::from)
        .with_context(|| {
            format!("{name} is not set: run the end-to-end tests by `cargo xtask test`")
        })
}
