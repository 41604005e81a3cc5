//! `cargo xtask userland`: the image's programs, static and free of this machine's paths.
//!
//! One set of flags for all of them, for any processor of the architecture: what computes chooses
//! its instructions when it runs. Compilers that differ have target directories of their own: cargo
//! leaves flags out of its file names, and in one directory they would compile everything anew by
//! turns.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use clap::Args;

use crate::arch::Arch;
use crate::board::BoardArgs;
use crate::hostpackages;
use crate::rust::Rust;
use crate::stage::{Stage, Stages};
use crate::workspace::Workspace;

/// Packages whose program of the same name goes into every image.
pub const PACKAGES: &[&str] = &["kos-init", "kos-launch", "kos-api", "kos-net", "kos-infer"];
/// Programs of the test image only.
pub const TEST_PROGRAMS: &str = "kos-test-programs";

/// Compiles the image's programs.
#[derive(Debug, Args)]
pub struct UserlandArgs {
    /// Which board's programs.
    #[command(flatten)]
    pub board: BoardArgs,
}

/// The `userland` command.
pub fn run(workspace: &Workspace, stages: &mut Stages, arch: Arch) -> Result<()> {
    build(workspace, stages, arch, false)?;
    for name in PACKAGES {
        println!("{}", program(workspace, arch, name).display());
    }
    Ok(())
}

/// Compiles the programs, those of the test image too if asked.
pub fn build(
    workspace: &Workspace,
    stages: &mut Stages,
    arch: Arch,
    tests_too: bool,
) -> Result<()> {
    hostpackages::ensure(
        stages,
        &[hostpackages::USERLAND, hostpackages::compiler(arch)],
    )?;
    let name = match Arch::host() == Some(arch) {
        true => "userland".to_owned(),
        false => format!("userland for {}", arch.name()),
    };
    stages.run(&name, |stage| {
        let rust = Rust::find(workspace, stage, arch)?;
        let mut programs = cargo(workspace, &rust, "build");
        for package in PACKAGES {
            programs.args(["--package", package]);
        }
        stage.run(&mut programs)?;
        if tests_too {
            // A call of its own: in one, cargo would give the features that the tests ask of a
            // crate to the image's programs as well, and those would be others than a user's.
            let mut tests = cargo(workspace, &rust, "build");
            stage.run(tests.args(["--package", TEST_PROGRAMS]))?;
        }
        check(workspace, stage, arch)
    })
}

/// Where a program is, once it is built.
pub fn program(workspace: &Workspace, arch: Arch, name: &str) -> PathBuf {
    target_directory(workspace, arch)
        .join(arch.target())
        .join("release")
        .join(name)
}

fn target_directory(workspace: &Workspace, arch: Arch) -> PathBuf {
    match Arch::host() == Some(arch) {
        true => workspace.target().to_path_buf(),
        // Perhaps of another compiler.
        false => workspace.target().join("cross"),
    }
}

/// Cargo with the target and the flags of the image's programs, so that tests and lints meet the
/// same compiled dependencies.
pub fn cargo(workspace: &Workspace, rust: &Rust, subcommand: &str) -> Command {
    let arch = rust.arch();
    let mut words = vec!["-Ctarget-feature=+crt-static".to_owned()];
    for (from, to) in private_paths(workspace) {
        words.push(format!("--remap-path-prefix={}={to}", from.display()));
    }
    let mut cargo = workspace.cargo();
    // Encoded: a path may hold a space. The plain variables would add to it or replace it.
    cargo.env("CARGO_ENCODED_RUSTFLAGS", words.join("\u{1f}"));
    cargo
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_BUILD_RUSTFLAGS");
    rust.configure(&mut cargo);
    cargo.args([
        subcommand,
        "--release",
        "--locked",
        "--target",
        arch.target(),
    ]);
    cargo
        .arg("--target-dir")
        .arg(target_directory(workspace, arch));
    cargo
}

/// Directories of this machine, and what stands for them in a program.
fn private_paths(workspace: &Workspace) -> Vec<(PathBuf, &'static str)> {
    let home = std::env::home_dir().unwrap_or_default();
    let cargo_home =
        std::env::var_os("CARGO_HOME").map_or_else(|| home.join(".cargo"), PathBuf::from);
    // The longer path last: the compiler takes the last prefix that fits.
    vec![
        (cargo_home, "/cargo"),
        (workspace.root().to_path_buf(), "/kos"),
    ]
}

/// Every program is there, static, and names no directory of this machine.
fn check(workspace: &Workspace, stage: &Stage, arch: Arch) -> Result<()> {
    for name in PACKAGES {
        stage.note(format!("checking {name}"));
        let path = program(workspace, arch, name);
        let bytes =
            std::fs::read(&path).with_context(|| format!("read the program {}", path.display()))?;
        ensure!(
            !names_an_interpreter(&bytes),
            "{name} is not static: it asks for a dynamic loader"
        );
        for (private, _) in private_paths(workspace) {
            let text = private.to_string_lossy().into_owned() + "/";
            ensure!(
                !contains(&bytes, text.as_bytes()),
                "{name} holds the path of this machine {text}: the image would not be reproducible"
            );
        }
    }
    Ok(())
}

/// Whether an ELF file has a program header of type PT_INTERP (elf(5)).
fn names_an_interpreter(elf: &[u8]) -> bool {
    const PT_INTERP: u32 = 3;
    let number = |offset: usize, size: usize| -> usize {
        let mut bytes = [0; 8];
        if let Some(part) = elf.get(offset..offset + size) {
            bytes[..size].copy_from_slice(part);
        }
        u64::from_le_bytes(bytes) as usize
    };
    let (headers, size, count) = (number(32, 8), number(54, 2), number(56, 2));
    (0..count).any(|index| number(headers + index * size, 4) == PT_INTERP as usize)
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    let Some((first, rest)) = part.split_first() else {
        return true;
    };
    let mut left = bytes;
    while let Some(index) = left.iter().position(|byte| byte == first) {
        left = &left[index + 1..];
        if left.starts_with(rest) {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contains_finds_a_part_after_a_false_start() {
        assert!(contains(b"//home/x/", b"/home/x/"));
        assert!(!contains(b"/home/", b"/home/x/"));
    }

    #[test]
    fn the_dynamic_loader_of_this_test_is_seen() {
        let own = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        assert_eq!(
            names_an_interpreter(&own),
            cfg!(not(target_feature = "crt-static"))
        );
        assert!(!names_an_interpreter(b"\x7fELF"));
    }
}
