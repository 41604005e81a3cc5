//! The architectures that kOS is built for, and what each is called by whom.

use clap::ValueEnum;
use serde::Deserialize;

/// A processor architecture, named as Rust names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize, ValueEnum)]
pub enum Arch {
    /// 64-bit PCs.
    #[serde(rename = "x86_64")]
    #[value(name = "x86_64")]
    X86_64,
    /// 64-bit ARM.
    #[serde(rename = "aarch64")]
    #[value(name = "aarch64")]
    Aarch64,
}

impl Arch {
    /// Both of them.
    pub const ALL: [Arch; 2] = [Arch::X86_64, Arch::Aarch64];

    /// The architecture that xtask itself runs on.
    pub fn host() -> Option<Arch> {
        Arch::ALL
            .into_iter()
            .find(|arch| arch.name() == std::env::consts::ARCH)
    }

    /// As Rust and `uname -m` call it.
    pub fn name(self) -> &'static str {
        match self {
            Arch::X86_64 => "x86_64",
            Arch::Aarch64 => "aarch64",
        }
    }

    /// As Debian calls it.
    pub fn debian_name(self) -> &'static str {
        match self {
            Arch::X86_64 => "amd64",
            Arch::Aarch64 => "arm64",
        }
    }

    /// As UEFI's file names call it: `BOOTX64.EFI`, `linuxaa64.efi.stub`.
    pub fn efi_name(self) -> &'static str {
        match self {
            Arch::X86_64 => "x64",
            Arch::Aarch64 => "aa64",
        }
    }

    /// Rust's target of the userland.
    pub fn target(self) -> &'static str {
        match self {
            Arch::X86_64 => "x86_64-unknown-linux-gnu",
            Arch::Aarch64 => "aarch64-unknown-linux-gnu",
        }
    }

    /// As the kernel's `ARCH=` calls it.
    pub fn kernel_name(self) -> &'static str {
        match self {
            Arch::X86_64 => "x86",
            Arch::Aarch64 => "arm64",
        }
    }

    /// What the kernel's build is asked for, and the files that it leaves below the object tree's
    /// `boot` directory: the image for boot loaders, and the one by whose size an image is judged. A
    /// 64-bit ARM kernel unpacks itself only under UEFI, and emulated, that costs a third of a
    /// second more than reading the larger one: so no image carries `vmlinuz.efi`.
    pub fn kernel_images(self) -> (&'static str, &'static str) {
        match self {
            Arch::X86_64 => ("bzImage", "bzImage"),
            Arch::Aarch64 => ("Image", "vmlinuz.efi"),
        }
    }

    /// What stands before the names of the compiler's programs: nothing for the host's own.
    pub fn tool_prefix(self) -> &'static str {
        match self {
            _ if Arch::host() == Some(self) => "",
            Arch::X86_64 => "x86_64-linux-gnu-",
            Arch::Aarch64 => "aarch64-linux-gnu-",
        }
    }
}
