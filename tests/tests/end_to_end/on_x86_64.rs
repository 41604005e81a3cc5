//! What PCs have and virtual ARM machines need not: other ways to attach the disk.

use anyhow::Result;
use kos_qemu::Attachment;
use kos_tests::{Boot, BoxDisk};

use crate::disk_boot::bytes_of_data;

#[test]
fn the_image_boots_from_an_nvme_disk() -> Result<()> {
    boots_from("nvme", Attachment::Nvme, "/dev/nvme0n1")
}

#[test]
fn the_image_boots_from_a_sata_disk() -> Result<()> {
    boots_from("sata", Attachment::Ahci, "/dev/sda")
}

#[test]
fn the_image_boots_from_a_usb_stick() -> Result<()> {
    boots_from("usb", Attachment::Usb, "/dev/sda")
}

fn boots_from(name: &str, attachment: Attachment, device: &str) -> Result<()> {
    let disk = BoxDisk::create()?.grow(1 << 30)?;
    let guest = Boot::uefi(&format!("disk-{name}"), disk.attached(attachment))?.start()?;
    let bytes = bytes_of_data(&guest)?;
    assert!(bytes > 600 << 20, "{bytes} bytes of a disk of 1 GiB");
    let system = guest.api().get("/api/v1/system")?;
    let shown = system["boot_disk"].as_str().unwrap_or_default();
    assert!(shown.starts_with(device), "{system}");
    guest.power_off()?;
    disk.data()?.check_left_clean()
}
