//! What PCs have and virtual ARM machines need not: other ways to attach the disk, and a firmware
//! whose variables keep a panic.

use anyhow::Result;
use kos_qemu::Attachment;
use kos_tests::{Boot, BoxDisk};

use crate::disk_boot::{first_boot, leaves_a_whole_disk};
use crate::records;

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

/// The same image, started by a boot loader entry that lets the test panic the kernel.
#[test]
fn a_panic_is_kept_in_the_firmwares_variables() -> Result<()> {
    let disk = BoxDisk::create()?;
    let files = disk.boot_files()?;
    let entry = "title kOS\nefi /EFI/Linux/kos-a.efi\n\
                 options console=ttyS0 quiet panic=1 no_timer_check pstore.backend=efi_pstore \
                 sysrq_always_enabled\n";
    files.make_directory("loader/entries")?;
    files.write("loader/entries/panic.conf", entry.as_bytes())?;
    files.write("loader/loader.conf", b"timeout 0\ndefault panic.conf\n")?;
    let mut guest = Boot::uefi("uefi-panic", disk.attached(Attachment::Virtio))?
        .end_on_reboot(false)
        .start()?;
    let crash = |guest: &kos_tests::Guest| Ok(guest.machine().magic_sysrq('c')?);
    let (cause, boot) = records::after(&mut guest, crash)?;
    assert_eq!(cause, "kernel-panic", "{boot}");
    let panic = boot["down"]["panic"].as_str().unwrap_or_default();
    assert!(panic.contains("sysrq triggered crash"), "{boot}");
    // Told once: the next boot finds the variables empty.
    let (cause, boot) = records::after(&mut guest, |guest| Ok(guest.machine().reset()?))?;
    assert_eq!(cause, "power-loss", "{boot}");
    guest.power_off()
}
