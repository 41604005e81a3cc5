//! A Buildroot tree: the one that was named, or the pinned release, fetched once and kept.
//!
//! The release is pinned by its commit, which names every file's contents by hash, and not by the
//! SHA-256 of its tarball: git checks each object that it receives, and afterwards a glance tells
//! that nothing was changed.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use super::external;
use crate::stage::Stage;
use crate::workspace::Workspace;

/// Buildroot's own repository.
const REPOSITORY: &str = "https://gitlab.com/buildroot.org/buildroot.git";
/// The release: the newest stable one whose Rust is new enough (the long-term release 2026.02
/// has Rust 1.88).
const TAG: &str = "2026.05.1";
/// What the release's signed tag points to.
const COMMIT: &str = "cb857ba4c87a93e5265a9e4a3f32071abf39e14a";
/// The oldest Rust that compiles the userland, `rust-version` in Cargo.toml.
const LEAST_RUST: &str = env!("CARGO_PKG_RUST_VERSION");
/// Of xtask's own start by cargo, what would reach the cargo and the make that Buildroot starts.
const PRIVATE_VARIABLES: &[&str] = &["CARGO", "RUST", "MAKEFLAGS", "MAKELEVEL", "LD_LIBRARY_PATH"];

/// The goal that builds everything.
pub const BUILD: &str = "all";

/// A tree that can build kOS.
#[derive(Debug)]
pub struct Tree {
    directory: PathBuf,
    version: String,
}

impl Tree {
    /// The tree in `given`, or the pinned release from the cache or from Buildroot's repository.
    pub fn find(workspace: &Workspace, stage: &Stage, given: Option<&Path>) -> Result<Tree> {
        match given {
            Some(directory) => Tree::at(directory),
            None => {
                let cache = workspace.cache()?.join("buildroot");
                Tree::at(&fetched(stage, &cache, &Release::PINNED)?)
            }
        }
    }

    fn at(directory: &Path) -> Result<Tree> {
        let directory = directory
            .canonicalize()
            .with_context(|| format!("find the Buildroot tree {}", directory.display()))?;
        let value = |file: &str, key: &str| {
            let text = std::fs::read_to_string(directory.join(file)).unwrap_or_default();
            assignment(&text, key).with_context(|| {
                format!(
                    "{} is not a Buildroot tree: its {file} does not set {key}",
                    directory.display()
                )
            })
        };
        let version = value("Makefile", "BR2_VERSION")?;
        let rust = value("package/rust/rust.mk", "RUST_VERSION")?;
        ensure!(
            numbers(&rust) >= numbers(LEAST_RUST),
            "Buildroot {version} has Rust {rust}, and kOS needs {LEAST_RUST}; {TAG} is new enough"
        );
        Ok(Tree { directory, version })
    }

    /// Its version, as it says itself.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// A file of the tree.
    pub fn file(&self, path: &str) -> PathBuf {
        self.directory.join(path)
    }

    /// `make` with our external tree, into `output`. Downloads are shared by all boards and trees.
    pub fn make(&self, workspace: &Workspace, output: &Path, goals: &[&str]) -> Result<Command> {
        // A build lasts and gives way to whoever works here; everything else is waited for.
        let niceness = if goals.contains(&BUILD) { "10" } else { "0" };
        let mut make = Command::new("nice");
        make.args(["-n", niceness, "make", "-C"])
            .arg(&self.directory)
            .arg(format!("O={}", output.display()))
            .arg(format!(
                "BR2_EXTERNAL={}",
                external::directory(workspace).display()
            ))
            .args(goals);
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if PRIVATE_VARIABLES
                .iter()
                .any(|private| text.starts_with(private))
            {
                make.env_remove(&name);
            }
        }
        if std::env::var_os("BR2_DL_DIR").is_none() {
            make.env("BR2_DL_DIR", workspace.cache()?.join("buildroot/downloads"));
        }
        Ok(make)
    }
}

/// A release, and what it must be.
#[derive(Debug, Clone, Copy)]
struct Release<'a> {
    repository: &'a str,
    tag: &'a str,
    commit: &'a str,
}

impl Release<'_> {
    const PINNED: Release<'static> = Release {
        repository: REPOSITORY,
        tag: TAG,
        commit: COMMIT,
    };
}

/// The release's directory in the cache; it appears there by one rename, after it was verified.
fn fetched(stage: &Stage, cache: &Path, release: &Release) -> Result<PathBuf> {
    let ready = cache.join(release.tag);
    if !ready.is_dir() {
        let partial = cache.join(format!(".{}.{}", release.tag, std::process::id()));
        std::fs::create_dir_all(cache)?;
        let mut clone = Command::new("git");
        clone
            .args(["-c", "advice.detachedHead=false", "clone", "--depth", "1"])
            .args(["--branch", release.tag, release.repository])
            .arg(&partial);
        let outcome = stage
            .run(&mut clone)
            .and_then(|()| verify(&partial, release))
            .and_then(|()| std::fs::rename(&partial, &ready).context("keep the tree"));
        if let Err(error) = outcome {
            // What could not be verified is of no use; the error above says more than a failure here.
            let _ = std::fs::remove_dir_all(&partial);
            return Err(error.context(format!(
                "fetch Buildroot {} (with --tree DIR a tree that is there already is used)",
                release.tag
            )));
        }
    }
    verify(&ready, release)?;
    Ok(ready)
}

/// The tree is at the release's commit, and none of its files differs from it.
fn verify(directory: &Path, release: &Release) -> Result<()> {
    let git = |arguments: &[&str]| -> Result<String> {
        let output = Command::new("git")
            .arg("-C")
            .arg(directory)
            .args(arguments)
            .output()
            .context("run git")?;
        if !output.status.success() {
            bail!(
                "git {}: {}",
                arguments.join(" "),
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let found = git(&["rev-parse", "HEAD"])?;
    ensure!(
        found == release.commit,
        "{}: {} is commit {found}, allowed: {}",
        directory.display(),
        release.tag,
        release.commit
    );
    let changed = git(&["status", "--porcelain", "--untracked-files=no"])?;
    ensure!(
        changed.is_empty(),
        "{}: files differ from {}:\n{changed}",
        directory.display(),
        release.tag
    );
    Ok(())
}

/// The value of `KEY = value` or `export KEY := value` in a makefile.
fn assignment(text: &str, key: &str) -> Option<String> {
    text.lines().find_map(|line| {
        let (name, value) = line.split_once('=')?;
        let name = name.trim_end_matches(':').trim();
        (name.strip_prefix("export ").unwrap_or(name).trim() == key)
            .then(|| value.trim().to_owned())
    })
}

fn numbers(version: &str) -> Vec<u32> {
    version
        .split('.')
        .map_while(|part| part.parse().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stage::Stages;

    /// A tree as small as one can be, in a git repository with one tag.
    fn repository(directory: &Path, rust: &str) -> String {
        std::fs::create_dir_all(directory.join("package/rust")).unwrap();
        std::fs::write(
            directory.join("Makefile"),
            "export BR2_VERSION := 2026.05.1\n",
        )
        .unwrap();
        std::fs::write(
            directory.join("package/rust/rust.mk"),
            format!("RUST_VERSION = {rust}\n"),
        )
        .unwrap();
        let git = |arguments: &[&str]| {
            let output = Command::new("git")
                .arg("-C")
                .arg(directory)
                .args(["-c", "user.name=t", "-c", "user.email=t@example.org"])
                .args(arguments)
                .output()
                .unwrap();
            assert!(output.status.success(), "{output:?}");
            String::from_utf8(output.stdout).unwrap().trim().to_owned()
        };
        git(&["init", "--quiet"]);
        git(&["add", "."]);
        git(&["commit", "--quiet", "-m", "release"]);
        git(&["tag", "2026.05.1"]);
        git(&["rev-parse", "HEAD"])
    }

    #[test]
    fn only_the_pinned_commit_is_kept_and_only_unchanged() {
        let place = tempfile::tempdir().unwrap();
        let upstream = place.path().join("upstream");
        let commit = repository(&upstream, "1.96.1");
        let url = format!("file://{}", upstream.display());
        let cache = place.path().join("cache");
        let mut stages = Stages::new(place.path().to_owned());
        let mut fetch = |commit: &str| {
            let release = Release {
                repository: &url,
                tag: "2026.05.1",
                commit,
            };
            stages.run("fetch", |stage| fetched(stage, &cache, &release))
        };

        let error = format!("{:#}", fetch(&"0".repeat(40)).unwrap_err());
        assert!(error.contains(&format!("is commit {commit}, allowed: 000")));
        assert_eq!(std::fs::read_dir(&cache).unwrap().count(), 0);

        let tree = fetch(&commit).unwrap();
        assert_eq!(Tree::at(&tree).unwrap().version(), "2026.05.1");
        fetch(&commit).unwrap();

        std::fs::write(tree.join("Makefile"), "all:\n").unwrap();
        let error = format!("{:#}", fetch(&commit).unwrap_err());
        assert!(error.contains("files differ"), "{error}");
    }

    #[test]
    fn a_tree_that_cannot_build_kos_is_refused() {
        let place = tempfile::tempdir().unwrap();
        let error = Tree::at(place.path()).unwrap_err().to_string();
        assert!(error.contains("its Makefile does not set"), "{error}");
        repository(place.path(), "1.88.0");
        let error = Tree::at(place.path()).unwrap_err().to_string();
        assert!(error.contains("has Rust 1.88.0, and kOS needs"), "{error}");
    }

    #[test]
    fn versions_are_compared_by_their_numbers() {
        assert!(numbers("1.100.0") >= numbers("1.95"));
        assert!(numbers("1.95.0") >= numbers("1.95"));
        assert!(numbers("1.94.9") < numbers("1.95"));
    }
}
