//! Factory reset: an empty data partition and nothing else, by whichever door it is asked for.

use anyhow::Result;
use kos_qemu::Attachment;
use kos_tests::box_disk::{BOOT, DATA};
use kos_tests::{Boot, BoxDisk, Guest, Image};
use serde_json::json;

use crate::disk_boot::{bytes_of_data, leaves_a_whole_disk};

const RESET: &str = "/api/v1/system/factory-reset";

#[test]
fn asked_for_over_the_api() -> Result<()> {
    let disk = used()?;
    let before = disk.snapshot()?;
    let mut guest = Boot::uefi("reset-api", disk.attached(Attachment::Virtio))?
        .end_on_reboot(false)
        .start()?;
    let session = guest.pair()?;
    assert_eq!(guest.model_count()?, 1);

    let wrong = json!({ "confirm": "another box" });
    let refused = guest.api().request("POST", RESET, Some(wrong))?;
    assert_eq!(refused.status, 400, "{refused}");
    let system = guest.api().get("/api/v1/system")?;
    let confirmed = json!({ "confirm": system["hostname"] });
    guest.send_down(RESET, Some(confirmed))?;
    guest.wait_reboot()?;
    assert!(!guest.knows(&session)?, "the session is still known");
    is_as_new(guest, &disk)?;
    assert_eq!(disk.changed_since(&before)?, [DATA]);
    Ok(())
}

#[test]
fn asked_for_by_a_kernel_argument() -> Result<()> {
    let disk = used()?;
    let before = disk.snapshot()?;
    let guest = reset_by_argument("reset-argument", &disk)?;
    is_as_new(guest, &disk)?;
    assert_eq!(disk.changed_since(&before)?, [DATA]);
    Ok(())
}

#[test]
fn asked_for_by_a_file_beside_the_firmwares() -> Result<()> {
    let disk = used()?;
    let files = disk.boot_files()?.files()?;
    let before = disk.snapshot()?;
    disk.boot_files()?.write("kos-reset", b"")?;
    let guest = Boot::uefi("reset-file", disk.attached(Attachment::Virtio))?.start()?;
    is_as_new(guest, &disk)?;
    assert_eq!(disk.changed_since(&before)?, [BOOT, DATA]);
    assert_eq!(disk.boot_files()?.files()?, files, "the others stay");

    // It was asked for once: what is there now stays.
    let guest = Boot::uefi("reset-file-again", disk.attached(Attachment::Virtio))?.start()?;
    let session = guest.pair()?;
    guest.power_off()?;
    let guest = Boot::uefi("reset-file-third", disk.attached(Attachment::Virtio))?.start()?;
    assert!(guest.knows(&session)?);
    Ok(())
}

#[test]
fn a_data_partition_that_was_lost_is_made_anew() -> Result<()> {
    let disk = BoxDisk::create()?;
    let number = disk.table()?.partition(DATA)?.number;
    disk.sgdisk(&[&format!("--delete={number}")])?;
    let guest = reset_by_argument("reset-missing", &disk)?;
    is_as_new(guest, &disk)
}

/// A box with a model on it.
fn used() -> Result<BoxDisk> {
    let disk = BoxDisk::create()?;
    disk.make_data()?;
    Ok(disk)
}

/// A guest that is told by the kernel's arguments to reset its data.
fn reset_by_argument(name: &str, disk: &BoxDisk) -> Result<Guest> {
    let guid = disk.table()?.guid;
    Boot::new(name, Image::Normal)
        .append(&format!("kos.disk={guid} kos.reset=data"))
        .attach(disk.attached(Attachment::Virtio))
        .start()
}

/// Sees that nothing is left of what was on the box, and shuts it down.
fn is_as_new(guest: Guest, disk: &BoxDisk) -> Result<()> {
    bytes_of_data(&guest)?;
    assert_eq!(guest.model_count()?, 0);
    leaves_a_whole_disk(guest, disk)
}
