//! A disk of a guest: an image file, and the controller that the guest sees it through.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

/// How a disk is attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attachment {
    /// virtio-blk: `/dev/vda`. The only one, with USB, that can be read-only.
    Virtio,
    /// NVM Express: `/dev/nvme0n1`.
    Nvme,
    /// SATA behind an AHCI controller: `/dev/sda`.
    Ahci,
    /// A USB stick: `/dev/sda`, removable.
    Usb,
    /// An SD card: `/dev/mmcblk0`. Its size must be a power of two.
    SdCard,
}

/// A raw disk image, seen by the guest as a disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk {
    pub(crate) path: PathBuf,
    pub(crate) attachment: Attachment,
    pub(crate) serial: String,
    pub(crate) read_only: bool,
    pub(crate) write_log: Option<PathBuf>,
}

/// What a disk is to the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// The firmware may start from it.
    Boots,
    /// QEMU starts the kernel.
    IsThere,
    /// The same, and an SD card goes into the machine's own slot.
    BuiltInSlot,
}

impl Disk {
    /// This image as a writable virtio disk.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Disk {
            path: path.into(),
            attachment: Attachment::Virtio,
            serial: String::new(),
            read_only: false,
            write_log: None,
        }
    }

    /// How it is attached.
    pub fn attached(mut self, attachment: Attachment) -> Self {
        self.attachment = attachment;
        self
    }

    /// The serial that the guest sees; at most 20 bytes.
    pub fn serial(mut self, serial: impl Into<String>) -> Self {
        self.serial = serial.into();
        self
    }

    /// Whether the guest may only read it.
    pub fn read_only(mut self, read_only: bool) -> Self {
        self.read_only = read_only;
        self
    }

    /// Keeps every write and flush of the guest in this file, in order, in the format of Linux'
    /// `dm-log-writes`: from it the disk can be put together as it was at any moment.
    pub fn write_log(mut self, path: impl Into<PathBuf>) -> Self {
        self.write_log = Some(path.into());
        self
    }

    /// The name by which QMP knows the disk of this index.
    pub(crate) fn node(index: usize) -> String {
        format!("disk{index}")
    }

    /// The options `-drive` and `-device`; `-drive` alone where the card slot is the machine's own.
    pub(crate) fn arguments(&self, index: usize, role: Role) -> Vec<OsString> {
        let node = Self::node(index);
        if self.attachment == Attachment::SdCard && role == Role::BuiltInSlot {
            return self.drive(&node, "sd");
        }
        let mut arguments = self.drive(&node, "none");
        let serial = match self.serial.as_str() {
            "" => String::new(),
            serial => format!(",serial={}", serial.replace(',', ",,")),
        };
        // The firmware tries disks in the order in which they were added. A kernel that QEMU brings
        // has the first place itself, and two devices may not have the same one.
        let boot = match role {
            Role::Boots => format!(",bootindex={index}"),
            Role::IsThere | Role::BuiltInSlot => String::new(),
        };
        let device = match self.attachment {
            Attachment::Virtio => format!("virtio-blk-pci,drive={node}{boot}{serial}"),
            Attachment::Nvme => {
                let serial = if serial.is_empty() {
                    format!(",serial={node}")
                } else {
                    serial
                };
                format!("nvme,drive={node}{boot}{serial}")
            }
            Attachment::Ahci => format!("ide-hd,bus=sata{index}.0,drive={node}{boot}{serial}"),
            Attachment::Usb => {
                format!("usb-storage,bus=usb{index}.0,drive={node},removable=on{boot}{serial}")
            }
            // The slot of the controller has the same name in each of them, so that it cannot be named.
            Attachment::SdCard => format!("sd-card,drive={node}"),
        };
        // A controller for each disk of its own: no two disks share what another test assumes.
        let controller = match self.attachment {
            Attachment::Virtio | Attachment::Nvme => None,
            Attachment::Ahci => Some(format!("ich9-ahci,id=sata{index}")),
            Attachment::Usb => Some(format!("qemu-xhci,id=usb{index}")),
            Attachment::SdCard => Some(format!("sdhci-pci,id=sdhci{index}")),
        };
        for device in controller.into_iter().chain([device]) {
            arguments.extend(["-device".into(), device.into()]);
        }
        arguments
    }

    /// The image as a drive. (`-drive` and not `-blockdev`, which QEMU's `-snapshot` passes over.)
    fn drive(&self, node: &str, interface: &str) -> Vec<OsString> {
        let mut drive = OsString::from(format!("if={interface},id={node},"));
        drive.push(format!("read-only={},", on_off(self.read_only)));
        if !self.read_only {
            drive.push("discard=unmap,detect-zeroes=unmap,");
        }
        match &self.write_log {
            None => drive.push("format=raw,file="),
            Some(log) => {
                drive.push("driver=blklogwrites,log-sector-size=512,log.driver=file,log.filename=");
                drive.push(escape_commas(log.as_os_str()));
                drive.push(",file.driver=raw,file.file.driver=file,file.file.filename=");
            }
        }
        drive.push(escape_commas(self.path.as_os_str()));
        vec!["-drive".into(), drive]
    }
}

fn on_off(value: bool) -> &'static str {
    if value { "on" } else { "off" }
}

/// QEMU ends an option's value at a comma unless it is doubled.
pub(crate) fn escape_commas(text: &OsStr) -> OsString {
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    let mut escaped = Vec::with_capacity(text.len());
    for &byte in text.as_bytes() {
        escaped.push(byte);
        if byte == b',' {
            escaped.push(b',');
        }
    }
    OsString::from_vec(escaped)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(disk: &Disk, role: Role) -> String {
        let arguments = disk.arguments(1, role);
        arguments
            .iter()
            .map(|part| part.to_string_lossy())
            .collect::<Vec<_>>()
            .join(" ")
    }

    #[test]
    fn each_attachment_has_its_controller() {
        let disk = Disk::new("/d,1").serial("a");
        for (attachment, expected) in [
            (
                Attachment::Virtio,
                "virtio-blk-pci,drive=disk1,bootindex=1,serial=a",
            ),
            (Attachment::Nvme, "nvme,drive=disk1,bootindex=1,serial=a"),
            (
                Attachment::Ahci,
                "-device ich9-ahci,id=sata1 -device ide-hd,bus=sata1.0",
            ),
            (
                Attachment::Usb,
                "-device qemu-xhci,id=usb1 -device usb-storage,bus=usb1.0",
            ),
            (
                Attachment::SdCard,
                "-device sdhci-pci,id=sdhci1 -device sd-card",
            ),
        ] {
            let line = line(&disk.clone().attached(attachment), Role::Boots);
            assert!(line.contains(expected), "{expected} is not in {line}");
            assert!(line.contains("format=raw,file=/d,,1 "), "{line}");
        }
        let card = line(&disk.attached(Attachment::SdCard), Role::BuiltInSlot);
        assert_eq!(
            card,
            "-drive if=sd,id=disk1,read-only=off,discard=unmap,detect-zeroes=unmap,format=raw,\
             file=/d,,1"
        );
    }

    #[test]
    fn writes_are_logged_above_the_image() {
        let line = line(&Disk::new("/d").write_log("/log"), Role::IsThere);
        for part in [
            "id=disk1,",
            "driver=blklogwrites,",
            "log.filename=/log,",
            "file.file.filename=/d ",
        ] {
            assert!(line.contains(part), "{part} is not in {line}");
        }
    }
}
