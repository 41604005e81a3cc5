//! `cargo xtask buildroot check`: what a Buildroot tree itself can say of image/buildroot, without
//! the network and without building anything.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use super::tree::Tree;
use super::{defconfig, external, packages};
use crate::board::Board;
use crate::hostpackages;
use crate::stage::{Stage, Stages};
use crate::workspace::Workspace;

/// Debian's Python, which has the modules that check-package imports.
const PYTHON: &str = "/usr/bin/python3";

/// A package as `make show-info` tells of it.
#[derive(Deserialize)]
struct Package {
    #[serde(default)]
    version: String,
    #[serde(default)]
    licenses: String,
    #[serde(default)]
    install_target: bool,
}

/// All of them.
pub fn run(workspace: &Workspace, stages: &mut Stages, tree: &Tree) -> Result<()> {
    hostpackages::ensure(stages, &[hostpackages::BUILDROOT_CHECK])?;
    stages.run("buildroot check: boards and packages", |_| {
        external::check(workspace)
    })?;
    stages.run("buildroot check: check-package", |stage| {
        check_package(workspace, stage, tree)
    })?;
    let boards = Board::all(workspace)?;
    stages.run("buildroot check: defconfigs", |stage| {
        let place = tempfile::tempdir().context("make a temporary directory")?;
        // One for all of them: Buildroot compiles its configurator once for each.
        let output = place.path();
        for board in &boards {
            load(workspace, stage, tree, board, output)?;
            show_info(workspace, stage, tree, board, output)?;
        }
        stage.summary(format!(
            "{} load, keep every symbol and have our {} packages",
            boards.len(),
            packages().count()
        ));
        Ok(())
    })
}

/// The defconfig loads, and `savedefconfig` gives the same file back: no symbol is unknown,
/// unreachable, or said for nothing.
fn load(
    workspace: &Workspace,
    stage: &Stage,
    tree: &Tree,
    board: &Board,
    output: &Path,
) -> Result<()> {
    let name = defconfig::name(board);
    let saved = output.join("saved");
    stage.run(&mut tree.make(workspace, output, &[&name])?)?;
    let variable = format!("BR2_DEFCONFIG={}", saved.display());
    stage.run(&mut tree.make(workspace, output, &["savedefconfig", &variable])?)?;
    let path = external::directory(workspace).join("configs").join(&name);
    let (ours, theirs) = (super::read(&path)?, super::read(&saved)?);
    let differences = differences(&ours, &theirs);
    ensure!(
        differences.is_empty() && ours == theirs,
        "image/buildroot/configs/{name} is not what savedefconfig makes of it:\n{differences}"
    );
    Ok(())
}

/// Lines that only one of two defconfigs has.
fn differences(ours: &str, theirs: &str) -> String {
    let only = |sign: char, some: &str, others: &str| -> String {
        some.lines()
            .filter(|line| !others.lines().any(|other| other == *line))
            .map(|line| format!("  {sign}{line}\n"))
            .collect()
    };
    only('-', ours, theirs) + &only('+', theirs, ours)
}

/// Buildroot knows our packages with version and licence, and would install them.
fn show_info(
    workspace: &Workspace,
    stage: &Stage,
    tree: &Tree,
    board: &Board,
    output: &Path,
) -> Result<()> {
    let mut text = String::new();
    let mut make = tree.make(
        workspace,
        output,
        &["--silent", "--no-print-directory", "show-info"],
    )?;
    stage.run_lines(&mut make, |line| text.push_str(line))?;
    // What make itself says stands before the one JSON object.
    let json = text.find('{').map_or("", |start| &text[start..]);
    let known: BTreeMap<String, Package> =
        serde_json::from_str(json).context("read what make show-info says")?;
    for name in packages() {
        let package = known
            .get(name)
            .with_context(|| format!("{}: make show-info does not list {name}", board.name))?;
        let said = package.version == workspace.version()
            && package.licenses.starts_with("MIT or Apache-2.0")
            && package.install_target;
        ensure!(
            said,
            "{}: make show-info says of {name}: version \"{}\", licence \"{}\", installed: {}",
            board.name,
            package.version,
            package.licenses,
            package.install_target
        );
    }
    Ok(())
}

/// Buildroot's own checker of style, over every file of the tree.
fn check_package(workspace: &Workspace, stage: &Stage, tree: &Tree) -> Result<()> {
    let files = files(&external::directory(workspace))?;
    let mut said = String::new();
    let mut checker = Command::new(PYTHON);
    checker
        .arg(tree.file("utils/check-package"))
        .arg("--br2-external")
        .args(&files);
    let outcome = stage.run_lines(&mut checker, |line| {
        said.push_str("\n  ");
        said.push_str(line);
    });
    if let Err(error) = outcome {
        bail!("{error}{said}");
    }
    stage.summary(format!("{} files, no complaint", files.len()));
    Ok(())
}

fn files(directory: &Path) -> Result<Vec<std::path::PathBuf>> {
    let mut files = Vec::new();
    let mut directories = vec![directory.to_path_buf()];
    while let Some(next) = directories.pop() {
        let entries = std::fs::read_dir(&next)
            .with_context(|| format!("list {}", next.display()))?
            .collect::<std::io::Result<Vec<_>>>()?;
        for entry in entries {
            match entry.file_type()?.is_dir() {
                true => directories.push(entry.path()),
                false => files.push(entry.path()),
            }
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Needs a Buildroot tree, named by KOS_BUILDROOT_TREE; CI has none.
    #[test]
    fn buildroot_itself_has_no_complaint() {
        let Some(directory) = std::env::var_os("KOS_BUILDROOT_TREE") else {
            return;
        };
        let workspace = Workspace::find().unwrap();
        let logs = tempfile::tempdir().unwrap();
        let mut stages = Stages::new(logs.path().to_owned());
        let tree = stages
            .run("tree", |stage| {
                Tree::find(&workspace, stage, Some(Path::new(&directory)))
            })
            .unwrap();
        run(&workspace, &mut stages, &tree).unwrap();
    }

    #[test]
    fn lines_of_one_defconfig_only_are_shown() {
        assert_eq!(differences("A=y\nB=y\n", "B=y\nC=y\n"), "  -A=y\n  +C=y\n");
        assert_eq!(differences("A=y\n", "A=y\n"), "");
    }
}
