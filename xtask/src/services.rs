//! `cargo xtask check-services`: manifests validated as the set that they will be in an image.
//!
//! The image build calls the same function, and PID 1 the same library.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use clap::Args;
use kos_manifest::seccomp::SyscallSets;
use kos_manifest::service::ServiceSet;

use crate::workspace::Workspace;

/// Validates the service manifests of one or more directories as one set.
///
/// Says the file, line, key and what is allowed for the first thing that is wrong, and exits 1.
#[derive(Debug, Args)]
pub struct CheckServicesArgs {
    /// Directories of `*.toml` service manifests.
    #[arg(required = true, value_name = "DIR")]
    pub directories: Vec<PathBuf>,
    /// The directory of named system-call sets [default: image/seccomp].
    #[arg(long, value_name = "DIR")]
    pub seccomp: Option<PathBuf>,
}

/// The `check-services` command.
pub fn run(workspace: &Workspace, args: &CheckServicesArgs) -> Result<()> {
    let seccomp = args
        .seccomp
        .clone()
        .unwrap_or_else(|| workspace.image().join("seccomp"));
    let set = check(&args.directories, &seccomp)?;
    println!("{} services are valid", set.len());
    Ok(())
}

/// Validates all manifests of `directories` as one set, with the system-call sets of `seccomp`.
pub fn check(directories: &[PathBuf], seccomp: &Path) -> Result<ServiceSet> {
    let sets = SyscallSets::parse(read_texts(seccomp)?)?;
    let mut files = Vec::new();
    for directory in directories {
        let texts = read_texts(directory)?;
        ensure!(
            !texts.is_empty(),
            "{} has no *.toml file",
            directory.display()
        );
        files.extend(texts);
    }
    Ok(ServiceSet::parse(files, &sets)?)
}

/// Every `*.toml` file of a directory, by name: its path and text.
pub fn read_texts(directory: &Path) -> Result<Vec<(String, String)>> {
    let mut paths = std::fs::read_dir(directory)
        .and_then(|entries| {
            entries
                .map(|entry| Ok(entry?.path()))
                .collect::<std::io::Result<Vec<_>>>()
        })
        .with_context(|| format!("read the directory {}", directory.display()))?;
    paths.retain(|path| {
        path.extension()
            .is_some_and(|extension| extension == "toml")
    });
    paths.sort();
    paths
        .into_iter()
        .map(|path| {
            let text = std::fs::read_to_string(&path)
                .with_context(|| format!("read {}", path.display()))?;
            Ok((path.display().to_string(), text))
        })
        .collect()
}
