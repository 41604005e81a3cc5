//! A board: which kernel, which userland and which boot arguments an image is made of.
//!
//! Read from `image/boards/NAME.toml`; what has been read names fragments that exist.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::workspace::Workspace;

/// The board that every command means unless told otherwise.
pub const DEFAULT: &str = "qemu-x86_64";

/// A processor architecture that kOS is built for, named as Rust names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Arch {
    /// 64-bit PCs.
    #[serde(rename = "x86_64")]
    X86_64,
}

impl Arch {
    /// As Rust and `uname -m` call it.
    pub fn name(self) -> &'static str {
        match self {
            Arch::X86_64 => "x86_64",
        }
    }

    /// As the kernel's `ARCH=` calls it.
    pub fn kernel_name(self) -> &'static str {
        match self {
            Arch::X86_64 => "x86",
        }
    }

    /// The file that the kernel's build leaves, below the object tree.
    pub fn kernel_image(self) -> &'static str {
        match self {
            Arch::X86_64 => "arch/x86/boot/bzImage",
        }
    }
}

/// A validated board.
#[derive(Debug)]
pub struct Board {
    /// The architecture.
    pub arch: Arch,
    /// The kernel's configuration fragments, in merging order.
    pub fragments: Vec<PathBuf>,
    /// Kernel arguments.
    pub kernel_arguments: String,
    /// Rust's target triple of the userland.
    pub target: String,
    /// `-C target-cpu` of kos-infer.
    pub infer_cpu: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct RawBoard {
    arch: Arch,
    kernel: RawKernel,
    userland: RawUserland,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct RawKernel {
    fragments: Vec<String>,
    arguments: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct RawUserland {
    target: String,
    infer_cpu: String,
}

impl Board {
    /// Reads `image/boards/NAME.toml`.
    pub fn read(workspace: &Workspace, name: &str) -> Result<Board> {
        let path = workspace
            .image()
            .join("boards")
            .join(format!("{name}.toml"));
        let text = std::fs::read_to_string(&path)
            .with_context(|| format!("read {}", workspace.shown(&path)))?;
        let raw: RawBoard =
            toml::from_str(&text).with_context(|| format!("in {}", workspace.shown(&path)))?;
        let mut fragments = Vec::new();
        for fragment in &raw.kernel.fragments {
            let file = workspace
                .image()
                .join("kernel")
                .join(format!("{fragment}.config"));
            if !file.is_file() {
                bail!(
                    "{}: kernel.fragments names \"{fragment}\", and there is no {}",
                    workspace.shown(&path),
                    workspace.shown(&file)
                );
            }
            fragments.push(file);
        }
        if !raw.userland.target.starts_with(raw.arch.name()) {
            bail!(
                "{}: userland.target is \"{}\", and arch is \"{}\"",
                workspace.shown(&path),
                raw.userland.target,
                raw.arch.name()
            );
        }
        Ok(Board {
            arch: raw.arch,
            fragments,
            kernel_arguments: raw.kernel.arguments,
            target: raw.userland.target,
            infer_cpu: raw.userland.infer_cpu,
        })
    }
}
