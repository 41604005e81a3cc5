//! What `cargo xtask test` tells the tests, by environment variables: one run of the tests is
//! about one architecture.
//!
//! | variable | what it is |
//! |---|---|
//! | `KOS_ARCH` | `x86_64` or `aarch64`: what the guests are |
//! | `KOS_KERNEL`, `KOS_INITRD`, `KOS_TEST_INITRD` | for guests that QEMU starts without firmware |
//! | `KOS_DISK_IMAGE` | the whole disk of the UEFI board, unpacked |
//! | `KOS_RPI_IMAGE` | the Raspberry Pi's whole disk, unpacked (aarch64) |
//! | `KOS_UBOOT_IMAGE` | the Rockchip board's whole disk, unpacked (aarch64) |
//! | `KOS_UBOOT` | U-Boot for QEMU's `virt` (aarch64) |
//! | `KOS_TEST_MODEL` | the tiny model, a GGUF file |
//! | `KOS_XTASK` | the built xtask, for tests of its commands |
//! | `KOS_LOGS` | the directory for serial logs |
//! | `KOS_CHAOS_ACTS`, `KOS_POWER_CUTS` | how much is broken by chance, when not the usual little |
//! | `KOS_SEED` | where chance begins, when not where it usually does |
//!
//! A test whose file is not named fails. Tests below a module named `on_aarch64` or `on_x86_64`
//! have a meaning on that architecture alone: runs for the other one leave them out by `--skip`.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use kos_qemu::{Accelerator, Arch};

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

/// The architecture of this run's guests.
pub fn arch() -> Result<Arch> {
    let name = variable("KOS_ARCH")?;
    let name = name.to_string_lossy();
    Arch::from_name(&name).with_context(|| {
        let allowed = Arch::ALL.map(Arch::name).join(", ");
        format!("KOS_ARCH: found {name}, allowed: {allowed}")
    })
}

/// What executes the guests of this run.
pub fn accelerator() -> Result<Accelerator> {
    let remembered = logs()?.join("accelerator");
    Ok(Accelerator::detect_remembered(arch()?, &remembered))
}

/// Where the kernel's and PID 1's lines are to go so that the fixture sees them.
pub fn console() -> Result<&'static str> {
    Ok(match arch()? {
        Arch::X86_64 => "ttyS0",
        Arch::Aarch64 => "ttyAMA0",
    })
}

/// From QEMU's start to `kos: ready`. Under TCG on a loaded machine of two processors 30 s were
/// seen without a firmware, twice that with one; a guest that hangs is found soon enough.
pub fn boot_limit() -> Duration {
    Duration::from_secs(180) * slowness()
}

/// For one step of a test: a state reached, a line printed.
pub fn step_limit() -> Duration {
    Duration::from_secs(120) * slowness()
}

/// Arm's floating-point and atomic instructions take TCG longer than a PC's.
fn slowness() -> u32 {
    match arch() {
        Ok(Arch::Aarch64) if accelerator().ok() == Some(Accelerator::Tcg) => 2,
        _ => 1,
    }
}

/// The kernel that every image boots with.
pub fn kernel() -> Result<PathBuf> {
    path("KOS_KERNEL")
}

/// The whole disk of the board that starts by UEFI.
pub fn disk_image() -> Result<PathBuf> {
    path("KOS_DISK_IMAGE")
}

/// The whole disk of the Raspberry Pi.
pub fn raspberry_pi_image() -> Result<PathBuf> {
    path("KOS_RPI_IMAGE")
}

/// The whole disk of the board that starts by U-Boot.
pub fn u_boot_image() -> Result<PathBuf> {
    path("KOS_UBOOT_IMAGE")
}

/// U-Boot for QEMU's own machine.
pub fn u_boot() -> Result<PathBuf> {
    path("KOS_UBOOT")
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

/// The number in an environment variable, if it is there.
pub fn number(name: &str, usual: u64) -> Result<u64> {
    match std::env::var(name) {
        Ok(text) => text
            .parse()
            .with_context(|| format!("{name}: found '{text}', allowed: a number")),
        Err(_) => Ok(usual),
    }
}

fn path(name: &str) -> Result<PathBuf> {
    variable(name).map(PathBuf::from)
}

fn variable(name: &str) -> Result<std::ffi::OsString> {
    std::env::var_os(name)
        .filter(|value| !value.is_empty())
        .with_context(|| {
            format!("{name} is not set: run the end-to-end tests by `cargo xtask test`")
        })
}
