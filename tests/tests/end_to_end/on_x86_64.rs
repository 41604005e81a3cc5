//! What PCs have and virtual ARM machines need not: other ways to attach the disk.

use anyhow::Result;
use kos_qemu::Attachment;

use crate::disk_boot::{first_boot, leaves_a_whole_disk};

#[test]
fn the_image_boots_from_an_nvme_disk() -> Result<()> {
    let (disk, guest) = first_boot("disk-nvme", Attachment::Nvme, "/dev/nvme0n1")?;
    leaves_a_whole_disk(guest, &disk)
}

#[test]
fn the_image_boots_from_a_sata_disk() -> Result<()> {
    let (disk, guest) = first_boot("disk-sata", Attachment::Ahci, "/dev/sda")?;
    leaves_a_whole_disk(guest, &disk)
}

#[test]
fn the_image_boots_from_a_usb_stick() -> Result<()> {
    let (disk, guest) = first_boot("disk-usb", Attachment::Usb, "/dev/sda")?;
    leaves_a_whole_disk(guest, &disk)
}
