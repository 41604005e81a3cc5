//! Which disk is the box's: the one that it booted from, by identity. No other is written to.

use anyhow::Result;
use kos_qemu::{Attachment, Disk};
use kos_tests::{Boot, BoxDisk, Guest, Image};

use crate::disk_boot::{bytes_of_data, leaves_a_whole_disk};

#[test]
fn a_second_disk_with_the_same_labels_is_never_written() -> Result<()> {
    let (disk, other) = (BoxDisk::create()?, stranger()?);
    let boot = Boot::uefi("identity-second", disk.attached(Attachment::Virtio))?
        .attach(other.attached(Attachment::Virtio));
    takes_its_own(boot, &disk, &other)
}

#[test]
fn the_order_of_disks_means_nothing() -> Result<()> {
    let (disk, other) = (BoxDisk::create()?, stranger()?);
    let boot = named("identity-order", &disk)?
        .attach(other.attached(Attachment::Virtio))
        .attach(disk.attached(Attachment::Virtio));
    takes_its_own(boot, &disk, &other)
}

#[test]
fn of_a_disk_and_its_clone_neither_is_written() -> Result<()> {
    let disk = BoxDisk::create()?.grow(1 << 30)?;
    let (before, clone) = (disk.snapshot()?, disk.duplicate()?);
    let attached = |disk: &BoxDisk| -> Disk { disk.attached(Attachment::Virtio) };
    let by_firmware = Boot::uefi("identity-clone", attached(&disk))?.attach(attached(&clone));
    let by_argument = named("identity-clone-direct", &disk)?
        .attach(attached(&disk))
        .attach(attached(&clone));
    for boot in [by_firmware, by_argument] {
        let guest = boot.start()?;
        assert_eq!(guest.data()?["problem"], "ambiguous");
        power_off_without_a_disk(guest)?;
        assert_eq!(disk.changed_since(&before)?, NOTHING);
        assert_eq!(clone.changed_since(&before)?, NOTHING);
    }
    Ok(())
}

#[test]
fn a_box_whose_disk_is_away_says_so_and_takes_no_other() -> Result<()> {
    let (disk, other) = (BoxDisk::create()?, stranger()?);
    let before = other.snapshot()?;
    let guest = named("identity-away", &disk)?
        .attach(other.attached(Attachment::Virtio))
        .start()?;
    assert_eq!(guest.data()?["problem"], "missing");
    power_off_without_a_disk(guest)?;
    assert_eq!(other.changed_since(&before)?, NOTHING);
    Ok(())
}

const NOTHING: [&str; 0] = [];

/// A disk as the same `flash` would have made it for another box: it would like to be grown.
fn stranger() -> Result<BoxDisk> {
    let other = BoxDisk::create()?;
    other.sgdisk(&["--randomize-guids"])?;
    other.grow(1 << 30)
}

/// Boots and uses the one disk without a byte of the other changed.
fn takes_its_own(boot: Boot, disk: &BoxDisk, other: &BoxDisk) -> Result<()> {
    let before = other.snapshot()?;
    let guest = boot.start()?;
    bytes_of_data(&guest)?;
    leaves_a_whole_disk(guest, disk)?;
    assert_eq!(other.changed_since(&before)?, NOTHING);
    Ok(())
}

/// A guest that is told by the kernel's arguments which disk is its own.
fn named<'a>(name: &'a str, disk: &BoxDisk) -> Result<Boot<'a>> {
    let guid = disk.table()?.guid;
    Ok(Boot::new(name, Image::Normal).append(&format!("kos.disk={guid}")))
}

fn power_off_without_a_disk(guest: Guest) -> Result<()> {
    assert_eq!(guest.data()?["kind"], "tmpfs");
    guest.power_off()
}
