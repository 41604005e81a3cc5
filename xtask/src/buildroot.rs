//! `cargo xtask buildroot`: the same appliance with everything from source, by Buildroot.
//!
//! Buildroot makes compiler, C library, kernel and programs as image/buildroot tells it; what it
//! leaves goes into the same disk image as `cargo xtask image` writes. Its sources come from
//! outside: from a checkout that the caller has, or as the pinned release (see tree.rs).

mod checks;
mod defconfig;
mod external;
mod outcome;
mod rootfs;
mod tree;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};

use crate::board::{Board, BoardArgs};
use crate::hostpackages;
use crate::stage::Stages;
use crate::userland::PACKAGES;
use crate::workspace::Workspace;
use tree::Tree;

/// Builds a board's image with Buildroot instead of Debian's compiler and kernel source.
///
/// docs/buildroot.md says what this takes. `check` needs no network and builds nothing.
#[derive(Debug, Args)]
pub struct BuildrootArgs {
    /// Which board's; `check` looks at every board.
    #[command(flatten)]
    pub board: BoardArgs,
    /// Use this Buildroot tree instead of the pinned release.
    #[arg(long, value_name = "DIR")]
    pub tree: Option<PathBuf>,
    /// How far to go.
    #[arg(value_enum, default_value_t = Act::Build)]
    pub act: Act,
}

/// What Buildroot is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Act {
    /// Configure the board in target/kos/buildroot/BOARD.
    Defconfig,
    /// Configure, and download everything that a build needs.
    Source,
    /// Configure and build, and write the board's image.
    Build,
    /// Check image/buildroot against boards, fragments and packages, and with Buildroot itself.
    Check,
}

/// The `buildroot` command.
pub fn run(
    workspace: &Workspace,
    stages: &mut Stages,
    board: &Board,
    args: &BuildrootArgs,
) -> Result<()> {
    hostpackages::ensure(stages, &[hostpackages::BUILDROOT])?;
    let tree = stages.run("buildroot tree", |stage| {
        let tree = Tree::find(workspace, stage, args.tree.as_deref())?;
        stage.summary(format!("Buildroot {}", tree.version()));
        Ok(tree)
    })?;
    if args.act == Act::Check {
        return checks::run(workspace, stages, &tree);
    }
    let output = output(workspace, board)?;
    let make = |goals: &[&str]| tree.make(workspace, &output, goals);
    stages.run("buildroot defconfig", |stage| {
        stage.run(&mut make(&[&defconfig::name(board)])?)
    })?;
    if args.act == Act::Defconfig {
        println!("{}", output.join(".config").display());
        return Ok(());
    }
    stages.run("buildroot source", |stage| {
        stage.run(&mut make(&["source"])?)
    })?;
    if args.act == Act::Source {
        return Ok(());
    }
    stages.run("buildroot build", |stage| {
        stage.run(&mut make(&[tree::BUILD])?)
    })?;
    hostpackages::ensure(stages, &[hostpackages::FILE_SYSTEM])?;
    let written = stages.run("buildroot image", |stage| {
        outcome::take(workspace, stage, board, &tree, &output)
    })?;
    for path in written {
        println!("{}", path.display());
    }
    Ok(())
}

/// Where a board is built: one directory each, as Buildroot wants it.
fn output(workspace: &Workspace, board: &Board) -> Result<PathBuf> {
    let output = workspace.out()?.join("buildroot").join(&board.name);
    std::fs::create_dir_all(&output)?;
    Ok(output)
}

/// The packages that Buildroot has from us, in the order of `cargo xtask userland`.
fn packages() -> impl Iterator<Item = &'static str> {
    PACKAGES.iter().copied()
}

/// A text file of the external tree.
fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))
}
