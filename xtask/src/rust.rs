//! The Rust compiler for an architecture's programs: rustup's where it has the target, otherwise
//! Debian's, unpacked beside it.
//!
//! Debian's compiler and standard library of one version carry each other's host and target; they
//! need no installation. The C compiler and the linker are the cross compiler's.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::arch::Arch;
use crate::debian::{self, Wanted};
use crate::stage::Stage;
use crate::workspace::Workspace;

/// Debian's compiler, as it is spelled in its packages' names.
const LIBRARY: &str = "libstd-rust-web-1.96";

/// A compiler for one architecture.
#[derive(Debug, Clone)]
pub struct Rust {
    arch: Arch,
    /// Debian's compiler, where rustup's lacks the target.
    debian: Option<PathBuf>,
}

impl Rust {
    /// The toolchain's own target: no cross-compilation, nothing to look for.
    pub fn native(arch: Arch) -> Rust {
        Rust { arch, debian: None }
    }

    /// Finds a compiler, or downloads one.
    pub fn find(workspace: &Workspace, stage: &Stage, arch: Arch) -> Result<Rust> {
        if Arch::host() == Some(arch) || rustup_has(workspace, arch) {
            return Ok(Rust::native(arch));
        }
        let host = Arch::host().context("xtask runs on x86_64 and on aarch64 only")?;
        let package = |name, arch| Wanted {
            name,
            arch: Some(arch),
        };
        let unpacked = debian::unpacked(
            workspace,
            stage,
            &format!("rust-{}-on-{}", arch.name(), host.name()),
            &[
                package("rustc-web", host),
                package("libllvm22", host),
                package(LIBRARY, host),
                package("libstd-rust-web-dev", host),
                package("libstd-rust-web-dev", arch),
            ],
        )?;
        let wrapper = unpacked.root.join("rustc");
        if !wrapper.exists() {
            let root = unpacked.root.display();
            let text = format!(
                "#!/bin/sh\nLD_LIBRARY_PATH='{root}/usr/lib/{}-linux-gnu' exec '{root}/usr/bin/rustc' \"$@\"\n",
                host.name()
            );
            std::fs::write(&wrapper, text).context("write the wrapper of Debian's rustc")?;
            std::fs::set_permissions(&wrapper, std::fs::Permissions::from_mode(0o755))?;
        }
        Ok(Rust {
            arch,
            debian: Some(wrapper),
        })
    }

    /// The architecture of the programs.
    pub fn arch(&self) -> Arch {
        self.arch
    }

    /// Tells cargo which programs to use.
    pub fn configure(&self, cargo: &mut Command) {
        let prefix = self.arch.tool_prefix();
        if prefix.is_empty() {
            return;
        }
        let target = self.arch.target();
        let name = target.replace('-', "_");
        cargo
            .env(
                format!("CARGO_TARGET_{}_LINKER", name.to_uppercase()),
                format!("{prefix}gcc"),
            )
            .env(format!("CC_{name}"), format!("{prefix}gcc"))
            .env(format!("AR_{name}"), format!("{prefix}ar"));
        if let Some(rustc) = &self.debian {
            cargo.env("RUSTC", rustc);
        }
    }
}

/// Whether the toolchain that runs us has the target's standard library.
fn rustup_has(workspace: &Workspace, arch: Arch) -> bool {
    let output = Command::new("rustc")
        .args(["--print", "target-libdir", "--target", arch.target()])
        .current_dir(workspace.root())
        .output();
    output.is_ok_and(|output| {
        output.status.success()
            && PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()).is_dir()
    })
}
