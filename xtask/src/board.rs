//! A board: which kernel, which firmware and which disk an image is made of.
//!
//! Read from `image/boards/NAME.toml`; docs/boards.md says how to add one. What has been read
//! names fragments that exist and keys that fit its firmware.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use serde::Deserialize;

use crate::arch::Arch;
use crate::workspace::Workspace;

/// The board that every command means unless told otherwise.
pub const DEFAULT: &str = "qemu-x86_64";

/// Which board a command is about.
#[derive(Debug, Args)]
pub struct BoardArgs {
    /// The board: a file in image/boards without its `.toml`.
    #[arg(long, value_name = "NAME", default_value = DEFAULT)]
    pub board: String,
}

/// A validated board.
#[derive(Debug, Clone)]
pub struct Board {
    /// The file's name without `.toml`.
    pub name: String,
    /// One line for people.
    pub description: String,
    /// The architecture.
    pub arch: Arch,
    /// The kernel's configuration fragments, in merging order.
    pub fragments: Vec<PathBuf>,
    /// Kernel arguments.
    pub kernel_arguments: String,
    /// Device trees, as paths below the kernel's `dts` directory without their ending.
    pub device_trees: Vec<String>,
    /// What starts the kernel.
    pub firmware: Firmware,
    /// How the disk is divided; nothing for a board without firmware.
    pub disk: Option<Disk>,
    /// The identity of its watchdog, as the kernel spells it.
    pub watchdog: Option<String>,
    /// The LED that shows how the box is, as the kernel names it.
    pub status_led: Option<String>,
}

/// What starts the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Firmware {
    /// QEMU itself: there is no disk to make.
    None,
    /// systemd-boot and a unified kernel image on an EFI system partition.
    Uefi,
    /// The Raspberry Pi's own, with a partition for each slot.
    RaspberryPi {
        /// Files of Debian's raspi-firmware that the slot needs.
        files: Vec<String>,
        /// Lines for `config.txt`.
        config: Vec<String>,
    },
    /// U-Boot of Debian's package for this family of chips, with `extlinux.conf`.
    UBoot {
        /// The directory in the package.
        directory: String,
        /// What is written before the first partition.
        raw: Vec<RawFile>,
    },
}

impl Firmware {
    /// The name in the board's file.
    pub fn name(&self) -> &'static str {
        match self {
            Firmware::None => "none",
            Firmware::Uefi => "uefi",
            Firmware::RaspberryPi { .. } => "raspberry-pi",
            Firmware::UBoot { .. } => "u-boot",
        }
    }
}

/// A file that the chip expects at a fixed place of the disk.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct RawFile {
    /// Its name in the boot loader's directory.
    pub file: String,
    /// The 512-byte sector that it starts at.
    pub sector: u64,
}

/// How the disk is divided, in bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk {
    /// Where the first partition starts.
    pub first_partition: u64,
    /// The partition that the firmware starts from and the owner's settings are on.
    pub boot_partition: u64,
    /// Each of the two slots' own partitions, where the firmware wants them.
    pub slot_partitions: Option<u64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct RawBoard {
    description: String,
    arch: Arch,
    kernel: RawKernel,
    boot: RawBoot,
    disk: Option<RawDisk>,
    #[serde(default)]
    hardware: RawHardware,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct RawKernel {
    fragments: Vec<String>,
    arguments: String,
    #[serde(default)]
    device_trees: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct RawBoot {
    firmware: FirmwareKind,
    #[serde(default)]
    files: Vec<String>,
    #[serde(default)]
    config: Vec<String>,
    u_boot: Option<String>,
    #[serde(default)]
    raw: Vec<RawFile>,
}

#[derive(Deserialize, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
enum FirmwareKind {
    None,
    Uefi,
    RaspberryPi,
    UBoot,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct RawDisk {
    first_partition: Option<String>,
    boot_partition: String,
    slot_partitions: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct RawHardware {
    watchdog: Option<String>,
    status_led: Option<String>,
}

impl Board {
    /// Reads `image/boards/NAME.toml`.
    pub fn read(workspace: &Workspace, name: &str) -> Result<Board> {
        let path = directory(workspace).join(format!("{name}.toml"));
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => bail!(
                "there is no board \"{name}\", allowed: {}",
                names(workspace)?.join(", ")
            ),
            Err(error) => {
                return Err(error).with_context(|| format!("read {}", workspace.shown(&path)));
            }
        };
        Board::parse(name, &text, &workspace.image().join("kernel"))
            .with_context(|| format!("in {}", workspace.shown(&path)))
    }

    /// Every board, by name.
    pub fn all(workspace: &Workspace) -> Result<Vec<Board>> {
        names(workspace)?
            .iter()
            .map(|name| Board::read(workspace, name))
            .collect()
    }

    fn parse(name: &str, text: &str, fragments: &Path) -> Result<Board> {
        let raw: RawBoard = toml::from_str(text)?;
        let mut files = Vec::new();
        for fragment in &raw.kernel.fragments {
            let file = fragments.join(format!("{fragment}.config"));
            ensure!(
                file.is_file(),
                "kernel.fragments: found \"{fragment}\", and there is no image/kernel/{fragment}.config"
            );
            files.push(file);
        }
        let disk = raw.disk.as_ref().map(RawDisk::validate).transpose()?;
        let firmware = raw.boot.validate()?;
        match (&firmware, &disk) {
            (Firmware::None, Some(_)) => {
                bail!("[disk]: allowed only where boot.firmware is not \"none\"");
            }
            (Firmware::None, None) => {}
            (_, None) => bail!(
                "[disk]: missing, and boot.firmware is \"{}\"",
                firmware.name()
            ),
            (Firmware::RaspberryPi { .. }, Some(disk)) => ensure!(
                disk.slot_partitions.is_some(),
                "disk.slot-partitions: missing, and boot.firmware is \"raspberry-pi\""
            ),
            (_, Some(disk)) => ensure!(
                disk.slot_partitions.is_none(),
                "disk.slot-partitions: allowed only where boot.firmware is \"raspberry-pi\""
            ),
        }
        Ok(Board {
            name: name.to_owned(),
            description: raw.description,
            arch: raw.arch,
            fragments: files,
            kernel_arguments: raw.kernel.arguments,
            device_trees: raw.kernel.device_trees,
            firmware,
            disk,
            watchdog: raw.hardware.watchdog,
            status_led: raw.hardware.status_led,
        })
    }
}

impl RawBoot {
    fn validate(self) -> Result<Firmware> {
        let only = |key: &str, given: bool, kind: FirmwareKind, word: &str| {
            ensure!(
                !given || self.firmware == kind,
                "boot.{key}: allowed only where boot.firmware is \"{word}\""
            );
            Ok(())
        };
        let pi = FirmwareKind::RaspberryPi;
        only("files", !self.files.is_empty(), pi, "raspberry-pi")?;
        only("config", !self.config.is_empty(), pi, "raspberry-pi")?;
        only(
            "u-boot",
            self.u_boot.is_some(),
            FirmwareKind::UBoot,
            "u-boot",
        )?;
        only("raw", !self.raw.is_empty(), FirmwareKind::UBoot, "u-boot")?;
        Ok(match self.firmware {
            FirmwareKind::None => Firmware::None,
            FirmwareKind::Uefi => Firmware::Uefi,
            FirmwareKind::RaspberryPi => Firmware::RaspberryPi {
                files: self.files,
                config: self.config,
            },
            FirmwareKind::UBoot => Firmware::UBoot {
                directory: self
                    .u_boot
                    .context("boot.u-boot: missing, and boot.firmware is \"u-boot\"")?,
                raw: self.raw,
            },
        })
    }
}

impl RawDisk {
    fn validate(&self) -> Result<Disk> {
        /// The table and its copy of the partitions' names take the first 34 sectors.
        const LEAST_START: u64 = 1 << 20;
        let size = |key: &str, text: &str| {
            let bytes = crate::datadisk::size_in_bytes(text)
                .map_err(|error| anyhow::anyhow!("disk.{key}: {error}"))?;
            ensure!(
                bytes.is_multiple_of(1 << 20) && bytes > 0,
                "disk.{key}: found \"{text}\", allowed: whole mebibytes, such as 128M"
            );
            Ok(bytes)
        };
        Ok(Disk {
            first_partition: match &self.first_partition {
                Some(text) => size("first-partition", text)?,
                None => LEAST_START,
            },
            boot_partition: size("boot-partition", &self.boot_partition)?,
            slot_partitions: self
                .slot_partitions
                .as_deref()
                .map(|text| size("slot-partitions", text))
                .transpose()?,
        })
    }
}

/// The names of all boards, sorted.
pub fn names(workspace: &Workspace) -> Result<Vec<String>> {
    let directory = directory(workspace);
    let mut names: Vec<String> = std::fs::read_dir(&directory)
        .with_context(|| format!("list {}", workspace.shown(&directory)))?
        .filter_map(|entry| {
            let name = entry.ok()?.file_name().into_string().ok()?;
            Some(name.strip_suffix(".toml")?.to_owned())
        })
        .collect();
    names.sort();
    Ok(names)
}

/// Every device tree that a board with the same kernel wants, so that the kernel's cache does not
/// depend on which of them is asked for first.
pub fn device_trees_beside(workspace: &Workspace, board: &Board) -> Result<Vec<String>> {
    let mut trees: Vec<String> = Board::all(workspace)?
        .into_iter()
        .filter(|other| other.arch == board.arch && other.fragments == board.fragments)
        .flat_map(|other| other.device_trees)
        .collect();
    trees.sort();
    trees.dedup();
    Ok(trees)
}

fn directory(workspace: &Workspace) -> PathBuf {
    workspace.image().join("boards")
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINIMAL: &str = "description = \"x\"\narch = \"aarch64\"\n\
        [kernel]\nfragments = []\narguments = \"quiet\"\n";

    fn parse(rest: &str) -> Result<Board> {
        Board::parse("x", &format!("{MINIMAL}{rest}"), Path::new("/nowhere"))
    }

    #[test]
    fn every_board_of_the_repository_is_valid() {
        let workspace = Workspace::find().unwrap();
        let boards = Board::all(&workspace).unwrap();
        assert!(boards.iter().any(|board| board.name == DEFAULT));
        for board in boards {
            let trees = device_trees_beside(&workspace, &board).unwrap();
            assert!(board.device_trees.iter().all(|tree| trees.contains(tree)));
        }
    }

    #[test]
    fn keys_that_do_not_fit_the_firmware_are_refused() {
        for (rest, part) in [
            ("[boot]\nfirmware = \"bios\"\n", "raspberry-pi"),
            ("[boot]\nfirmware = \"uefi\"\n", "[disk]: missing"),
            (
                "[boot]\nfirmware = \"none\"\n[disk]\nboot-partition = \"1M\"\n",
                "[disk]: allowed only",
            ),
            (
                "[boot]\nfirmware = \"uefi\"\nfiles = [\"x\"]\n[disk]\nboot-partition = \"1M\"\n",
                "boot.files: allowed only",
            ),
            (
                "[boot]\nfirmware = \"u-boot\"\n[disk]\nboot-partition = \"1M\"\n",
                "boot.u-boot: missing",
            ),
            (
                "[boot]\nfirmware = \"raspberry-pi\"\n[disk]\nboot-partition = \"1M\"\n",
                "disk.slot-partitions: missing",
            ),
            (
                "[boot]\nfirmware = \"uefi\"\n[disk]\nboot-partition = \"1000\"\n",
                "whole mebibytes",
            ),
        ] {
            let error = format!("{:#}", parse(rest).unwrap_err());
            assert!(error.contains(part), "{error}");
        }
        let board = parse("[boot]\nfirmware = \"uefi\"\n[disk]\nboot-partition = \"96M\"\n");
        assert_eq!(board.unwrap().disk.unwrap().boot_partition, 96 << 20);
    }

    #[test]
    fn an_unknown_board_is_answered_with_those_that_exist() {
        let workspace = Workspace::find().unwrap();
        let error = Board::read(&workspace, "toaster").unwrap_err().to_string();
        assert!(error.contains("qemu-x86_64"), "{error}");
    }
}
