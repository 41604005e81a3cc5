//! What a board's firmware finds on the disk: boot loader, kernel and initramfs in the form and
//! place that it expects, and the packages that they came from.
//!
//! A slot is what an update will write: one file for UEFI, a partition for a Raspberry Pi, a
//! directory for U-Boot.

use std::io::Write;

use anyhow::{Context, Result, bail};
use uuid::Uuid;

use crate::arch::Arch;
use crate::board::{self, Board, Firmware};
use crate::debian::{self, PackageRecord, Unpacked, Wanted};
use crate::disk::fat::Files;
use crate::disk::layout::{Layout, Raw};
use crate::disk::uki::{self, UkiSections};
use crate::disk::{DATE, fat, guid};
use crate::kernel::Kernel;
use crate::stage::Stage;
use crate::workspace::Workspace;

/// The first slot's name; the second is `b`.
const SLOT: &str = "a";
/// Where the Raspberry Pi's firmware is in its package.
const RASPI_DIRECTORY: &str = "usr/lib/raspi-firmware";

/// A bootable disk in parts.
pub struct Bootable {
    /// The whole disk.
    pub layout: Layout,
    /// What an update writes: the file's ending, and its bytes.
    pub slot: (&'static str, Vec<u8>),
    /// Files of other people's that are in it.
    pub firmware: Vec<FirmwareFiles>,
}

/// A package's share in an image.
#[derive(Debug, Clone)]
pub struct FirmwareFiles {
    /// The package.
    pub package: PackageRecord,
    /// Its licence, as SPDX spells it, or a reference to a licence of its own.
    pub licence: &'static str,
    /// The files that were taken, by their path in the package.
    pub files: Vec<String>,
}

/// What goes onto the disk.
pub struct Parts<'a> {
    /// The checkout.
    pub workspace: &'a Workspace,
    /// The board.
    pub board: &'a Board,
    /// The kernel.
    pub kernel: &'a Kernel,
    /// The board's whole initramfs.
    pub initramfs: &'a [u8],
    /// The image's version.
    pub version: &'a str,
}

impl Parts<'_> {
    /// The disk; nothing for a board without firmware.
    pub fn bootable(&self, stage: &Stage) -> Result<Option<Bootable>> {
        let Some(disk) = &self.board.disk else {
            return Ok(None);
        };
        // Derived, so that an image built twice is the same; `flash` gives each box its own.
        let disk_guid = guid::derived(&["disk", &self.board.name, self.version]);
        match &self.board.firmware {
            Firmware::None => Ok(None),
            Firmware::Uefi => self.uefi(stage, disk, disk_guid).map(Some),
            Firmware::RaspberryPi { files, config } => self
                .raspberry_pi(stage, disk, disk_guid, files, config)
                .map(Some),
            Firmware::UBoot { directory, raw } => self
                .u_boot(stage, disk, disk_guid, directory, raw)
                .map(Some),
        }
    }

    /// systemd-boot, which finds unified kernel images by itself, and one of those.
    fn uefi(&self, stage: &Stage, disk: &board::Disk, disk_guid: Uuid) -> Result<Bootable> {
        let arch = self.board.arch;
        let package = self.package(stage, "systemd-boot", "systemd-boot-efi", Some(arch))?;
        let efi = arch.efi_name();
        let stub = format!("usr/lib/systemd/boot/efi/linux{efi}.efi.stub");
        let loader = format!("usr/lib/systemd/boot/efi/systemd-boot{efi}.efi");
        let kernel = self.read(&self.kernel.image)?;
        let unified = uki::build(
            &package.read(&stub)?,
            UkiSections {
                os_release: &self.os_release(),
                cmdline: &self.board.kernel_arguments,
                uname: &self.kernel.record.release,
                kernel: &kernel,
                initrd: self.initramfs,
                dtb: None,
            },
        )?;
        let files: Files = vec![
            (
                format!("EFI/BOOT/BOOT{}.EFI", efi.to_uppercase()),
                package.read(&loader)?,
            ),
            // The menu is there for who holds a key down, and costs nobody else a second.
            (
                "loader/loader.conf".to_owned(),
                b"timeout 0\nconsole-mode keep\nauto-entries no\nauto-firmware no\n".to_vec(),
            ),
            (format!("EFI/Linux/kos-{SLOT}.efi"), unified.clone()),
        ];
        Ok(Bootable {
            layout: Layout::uefi(disk_guid, disk, files),
            slot: ("efi", unified),
            firmware: vec![FirmwareFiles {
                package: only(&package)?,
                licence: "LGPL-2.1-or-later",
                files: vec![stub, loader],
            }],
        })
    }

    /// The Pi's boot loader reads `autoboot.txt` of the first partition and starts the slot that
    /// it names; after `reboot "0 tryboot"` the other one, once.
    fn raspberry_pi(
        &self,
        stage: &Stage,
        disk: &board::Disk,
        disk_guid: Uuid,
        names: &[String],
        config: &[String],
    ) -> Result<Bootable> {
        let autoboot = "[all]\ntryboot_a_b=1\nboot_partition=2\n[tryboot]\nboot_partition=3\n";
        let boot: Files = vec![("autoboot.txt".to_owned(), autoboot.into())];
        let mut slot: Files = vec![
            (
                "kernel8.img".to_owned(),
                gzip(&self.read(&self.kernel.image)?)?,
            ),
            ("initramfs8".to_owned(), self.initramfs.to_vec()),
            (
                "cmdline.txt".to_owned(),
                self.arguments_for(disk_guid).into(),
            ),
            ("config.txt".to_owned(), config_txt(config).into()),
        ];
        let mut firmware = Vec::new();
        if !names.is_empty() {
            let package = self.package(stage, "raspi-firmware-forky", "raspi-firmware", None)?;
            let mut files = Vec::new();
            for name in names {
                let path = format!("{RASPI_DIRECTORY}/{name}");
                slot.push((name.clone(), package.read(&path)?));
                files.push(path);
            }
            firmware.push(FirmwareFiles {
                package: only(&package)?,
                licence: "LicenseRef-raspi-firmware",
                files,
            });
        }
        for tree in &self.board.device_trees {
            // The firmware looks for its board's device tree by name, beside the kernel.
            let name = tree.rsplit('/').next().unwrap_or(tree);
            slot.push((format!("{name}.dtb"), self.device_tree(tree)?));
        }
        let slot_bytes = disk
            .slot_partitions
            .context("a Raspberry Pi's disk without slots")?;
        let identity = guid::derived(&["slot", &self.board.name, self.version])
            .as_fields()
            .0;
        let image = fat::image(slot_bytes, "KOS-A", identity, &slot)?;
        Ok(Bootable {
            layout: Layout::raspberry_pi(disk_guid, disk, boot, slot)?,
            slot: ("slot.img.zst", zstd::encode_all(image.as_slice(), 9)?),
            firmware,
        })
    }

    /// U-Boot where the chip looks for it, and the configuration that it reads from the first
    /// partition.
    fn u_boot(
        &self,
        stage: &Stage,
        disk: &board::Disk,
        disk_guid: Uuid,
        directory: &str,
        raw: &[board::RawFile],
    ) -> Result<Bootable> {
        let package = self.package(
            stage,
            "u-boot-rockchip",
            "u-boot-rockchip",
            Some(self.board.arch),
        )?;
        let mut taken = Vec::new();
        let mut pieces = Vec::new();
        for piece in raw {
            let path = format!("usr/lib/u-boot/{directory}/{}", piece.file);
            pieces.push(Raw {
                name: piece.file.clone(),
                sector: piece.sector,
                bytes: package.read(&path)?,
            });
            taken.push(path);
        }
        let mut slot: Files = vec![
            ("Image".to_owned(), self.read(&self.kernel.image)?),
            ("initramfs".to_owned(), self.initramfs.to_vec()),
        ];
        for tree in &self.board.device_trees {
            slot.push((format!("{tree}.dtb"), self.device_tree(tree)?));
        }
        let archive = tar(&slot)?;
        let mut boot: Files = vec![(
            "extlinux/extlinux.conf".to_owned(),
            self.extlinux(disk_guid)?.into(),
        )];
        boot.extend(
            slot.into_iter()
                .map(|(name, bytes)| (format!("{SLOT}/{name}"), bytes)),
        );
        Ok(Bootable {
            layout: Layout::u_boot(disk_guid, disk, boot, pieces),
            slot: ("slot.tar.zst", zstd::encode_all(archive.as_slice(), 9)?),
            firmware: vec![FirmwareFiles {
                package: only(&package)?,
                licence: "GPL-2.0-or-later AND BSD-3-Clause",
                files: taken,
            }],
        })
    }

    fn extlinux(&self, disk_guid: Uuid) -> Result<String> {
        let [tree] = self.board.device_trees.as_slice() else {
            bail!(
                "board {}: kernel.device-trees: found {}, allowed where U-Boot starts it: one",
                self.board.name,
                self.board.device_trees.len()
            );
        };
        Ok(format!(
            "default {SLOT}\ntimeout 1\n\nlabel {SLOT}\n  linux /{SLOT}/Image\n  initrd \
             /{SLOT}/initramfs\n  fdt /{SLOT}/{tree}.dtb\n  append {}\n",
            self.arguments_for(disk_guid)
        ))
    }

    /// The kernel's arguments with the identity of the disk that they are written on.
    fn arguments_for(&self, disk_guid: Uuid) -> String {
        format!("{} kos.disk={disk_guid}", self.board.kernel_arguments)
    }

    /// What systemd-boot shows in its menu (os-release(5)).
    fn os_release(&self) -> String {
        format!(
            "ID=kos\nNAME=kOS\nPRETTY_NAME=\"kOS {version} (slot {SLOT})\"\nVERSION_ID={version}\n",
            version = self.version
        )
    }

    fn device_tree(&self, tree: &str) -> Result<Vec<u8>> {
        self.read(&self.kernel.device_trees.join(format!("{tree}.dtb")))
    }

    fn read(&self, path: &std::path::Path) -> Result<Vec<u8>> {
        std::fs::read(path).with_context(|| format!("read {}", path.display()))
    }

    fn package(
        &self,
        stage: &Stage,
        what: &str,
        name: &'static str,
        arch: Option<Arch>,
    ) -> Result<Unpacked> {
        let cached = match arch {
            Some(arch) => format!("{what}-{}", arch.name()),
            None => what.to_owned(),
        };
        debian::unpacked(self.workspace, stage, &cached, &[Wanted { name, arch }])
    }
}

fn only(unpacked: &Unpacked) -> Result<PackageRecord> {
    let [package] = unpacked.packages.as_slice() else {
        bail!(
            "{} packages where one was asked for",
            unpacked.packages.len()
        );
    };
    Ok(package.clone())
}

fn config_txt(lines: &[String]) -> String {
    let mut text = "# Written by cargo xtask image; see image/boards.\narm_64bit=1\n\
                    kernel=kernel8.img\ninitramfs initramfs8 followkernel\n\
                    disable_overscan=1\n"
        .to_owned();
    for line in lines {
        text.push_str(line);
        text.push('\n');
    }
    text
}

/// The Pi's firmware unpacks a kernel that is compressed so.
fn gzip(bytes: &[u8]) -> Result<Vec<u8>> {
    // Without a file's name and time: the same kernel gives the same bytes.
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes)?;
    Ok(encoder.finish()?)
}

fn tar(files: &Files) -> Result<Vec<u8>> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        header.set_mtime(DATE);
        archive.append_data(&mut header, name, bytes.as_slice())?;
    }
    Ok(archive.into_inner()?)
}
