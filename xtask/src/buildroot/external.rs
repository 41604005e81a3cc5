//! Checks of image/buildroot that need no Buildroot: it says what boards and packages say.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::defconfig::{self, Defconfig};
use super::{packages, read};
use crate::board::Board;
use crate::initramfs::MOUNT_POINTS;
use crate::workspace::Workspace;

/// `image/buildroot`: what is given to Buildroot as BR2_EXTERNAL.
pub fn directory(workspace: &Workspace) -> PathBuf {
    workspace.image().join("buildroot")
}

/// Fails with everything that does not fit.
pub fn check(workspace: &Workspace) -> Result<()> {
    let directory = directory(workspace);
    let mut wrong = Vec::new();
    defconfigs(workspace, &directory, &mut wrong)?;
    our_packages(workspace, &directory, &mut wrong)?;
    root(&directory, &mut wrong)?;
    if wrong.is_empty() {
        return Ok(());
    }
    bail!(
        "image/buildroot does not fit the rest of image/:\n  {}",
        wrong.join("\n  ")
    )
}

/// Every board has a defconfig and every defconfig a board; they agree, and what is named exists.
fn defconfigs(workspace: &Workspace, directory: &Path, wrong: &mut Vec<String>) -> Result<()> {
    let configs = directory.join("configs");
    let boards = Board::all(workspace)?;
    let wanted: BTreeSet<String> = boards.iter().map(defconfig::name).collect();
    same("configs", &entries(&configs)?, &wanted, wrong);
    for board in &boards {
        let name = defconfig::name(board);
        if !configs.join(&name).is_file() {
            continue;
        }
        let parsed = Defconfig::parse(&read(&configs.join(&name))?)
            .with_context(|| format!("in image/buildroot/configs/{name}"))?;
        parsed.compare(board, wrong);
        for file in parsed.files().filter(|file| !directory.join(file).exists()) {
            wrong.push(format!("{name}: names {file}, which does not exist"));
        }
        let version = parsed.get("BR2_LINUX_KERNEL_CUSTOM_VERSION_VALUE");
        let tarball = format!("linux-{}.tar.xz", version.unwrap_or("?"));
        for file in ["linux/linux.hash", "linux-headers/linux-headers.hash"] {
            if !read(&directory.join("patches").join(file))?.contains(&tarball) {
                wrong.push(format!(
                    "patches/{file}: has no hash of {tarball}, which {name} wants"
                ));
            }
        }
    }
    Ok(())
}

/// The packages are those of `cargo xtask userland`, wherever they are listed.
fn our_packages(workspace: &Workspace, directory: &Path, wrong: &mut Vec<String>) -> Result<()> {
    let wanted: BTreeSet<String> = packages().map(str::to_owned).collect();
    same(
        "package",
        &entries(&directory.join("package"))?,
        &wanted,
        wrong,
    );
    let menu = read(&directory.join("Config.in"))?;
    let makefile = read(&directory.join("external.mk"))?;
    let listed: BTreeSet<String> = makefile
        .lines()
        .find_map(|line| line.strip_prefix("KOS_PACKAGES = "))
        .unwrap_or_default()
        .split(' ')
        .map(str::to_owned)
        .collect();
    same("external.mk: KOS_PACKAGES", &listed, &wanted, wrong);
    for package in packages() {
        let source = format!("source \"$BR2_EXTERNAL_KOS_PATH/package/{package}/Config.in\"");
        if !menu.lines().any(|line| line == source) {
            wrong.push(format!("Config.in: does not say {source}"));
        }
        let place = directory.join("package").join(package);
        let config = std::fs::read_to_string(place.join("Config.in")).unwrap_or_default();
        if !config.contains(&format!("config {}\n", defconfig::symbol(package))) {
            wrong.push(format!(
                "package/{package}/Config.in: does not define {}",
                defconfig::symbol(package)
            ));
        }
        let makefile = std::fs::read_to_string(place.join(format!("{package}.mk")));
        let makefile = makefile.unwrap_or_default();
        let crate_directory = makefile
            .lines()
            .find_map(|line| line.split_once("_SUBDIR = "))
            .map_or("", |(_, directory)| directory);
        let manifest = workspace.root().join(crate_directory).join("Cargo.toml");
        let name = format!("name = \"{package}\"");
        if !std::fs::read_to_string(manifest).is_ok_and(|text| text.contains(&name)) {
            wrong.push(format!(
                "package/{package}/{package}.mk: SUBDIR is \"{crate_directory}\", and the crate \
                 {package} is not there"
            ));
        }
        let target = format!("$(TARGET_DIR)/{}\n", program(package));
        if !makefile.contains(&target) {
            wrong.push(format!(
                "package/{package}/{package}.mk: does not install {}",
                target.trim_end()
            ));
        }
    }
    Ok(())
}

/// The root file system has every program and every place that PID 1 mounts on.
fn root(directory: &Path, wrong: &mut Vec<String>) -> Result<()> {
    let script = read(&directory.join("board/post-fakeroot.sh"))?;
    for place in MOUNT_POINTS {
        if !directory.join("board/skeleton").join(place).is_dir() {
            wrong.push(format!("board/skeleton: has no {place}"));
        }
        if !script.contains(&format!("! -path ./{place} ")) {
            wrong.push(format!("board/post-fakeroot.sh: would remove /{place}"));
        }
    }
    let programs = script
        .lines()
        .find_map(|line| line.strip_prefix("for program in ")?.strip_suffix("; do"))
        .unwrap_or_default()
        .split(' ')
        .map(str::to_owned)
        .collect();
    let wanted = packages().map(program).collect();
    same(
        "board/post-fakeroot.sh: programs",
        &programs,
        &wanted,
        wrong,
    );
    Ok(())
}

/// Where a package's program is in the root file system.
pub fn program(package: &str) -> String {
    match package {
        "kos-init" => "init".to_owned(),
        other => format!("bin/{other}"),
    }
}

fn same(place: &str, found: &BTreeSet<String>, wanted: &BTreeSet<String>, wrong: &mut Vec<String>) {
    for extra in found.difference(wanted) {
        wrong.push(format!("{place}: found {extra}, which nothing else knows"));
    }
    for missing in wanted.difference(found) {
        wrong.push(format!("{place}: {missing} is missing"));
    }
}

fn entries(directory: &Path) -> Result<BTreeSet<String>> {
    std::fs::read_dir(directory)
        .and_then(|entries| {
            entries
                .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
                .collect()
        })
        .with_context(|| format!("list {}", directory.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tree_fits_boards_fragments_and_packages() {
        check(&Workspace::find().unwrap()).unwrap();
    }

    #[test]
    fn what_is_too_much_and_what_is_missing_is_named() {
        let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let mut wrong = Vec::new();
        same("x", &set(&["a", "b"]), &set(&["b", "c"]), &mut wrong);
        assert_eq!(wrong.len(), 2, "{wrong:?}");
        assert!(wrong[0].contains("found a") && wrong[1].contains("c is missing"));
    }

    #[test]
    fn a_skeleton_without_a_mount_point_is_seen() {
        let place = tempfile::tempdir().unwrap();
        let board = place.path().join("board");
        std::fs::create_dir_all(board.join("skeleton/proc")).unwrap();
        std::fs::write(
            board.join("post-fakeroot.sh"),
            "find . ! -path ./proc -delete\nfor program in init; do\n",
        )
        .unwrap();
        let mut wrong = Vec::new();
        root(place.path(), &mut wrong).unwrap();
        assert!(!wrong.iter().any(|line| line.contains("proc")), "{wrong:?}");
        for part in ["no data", "remove /data", "bin/kos-api is missing"] {
            assert!(
                wrong.iter().any(|line| line.contains(part)),
                "{part}: {wrong:?}"
            );
        }
    }
}
