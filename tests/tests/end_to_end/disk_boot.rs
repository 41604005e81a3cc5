//! The disk that users get: it boots by the machine's firmware, becomes as large as the disk that
//! it was written to, and keeps what is put on it.

use anyhow::{Context, Result};
use kos_qemu::Attachment;
use kos_tests::{Boot, BoxDisk, Guest};
use serde_json::Value;

#[test]
fn the_image_boots_grows_to_its_disk_and_keeps_its_data() -> Result<()> {
    let (disk, guest) = first_boot("disk-first", Attachment::Virtio, "/dev/vda")?;
    let first = bytes_of_data(&guest)?;
    let session = guest.pair()?;
    leaves_a_whole_disk(guest, &disk)?;

    disk.resize(3 << 30)?;
    let guest = Boot::uefi("disk-again", disk.attached(Attachment::Virtio))?.start()?;
    grows_beyond(&guest, first + (1900 << 20))?;
    assert!(guest.knows(&session)?, "the session is gone");
    leaves_a_whole_disk(guest, &disk)
}

#[test]
fn two_boxes_from_one_image_have_file_systems_of_their_own() -> Result<()> {
    let mut names = Vec::new();
    for name in ["disk-one", "disk-other"] {
        let disk = BoxDisk::create()?;
        Boot::uefi(name, disk.attached(Attachment::Virtio))?
            .start()?
            .power_off()?;
        names.push(disk.data()?.superblock()?.uuid);
    }
    assert_ne!(names[0], names[1]);
    Ok(())
}

/// Boots a fresh disk of 1 GiB for the first time: it is the one whose device this is, and `/data`
/// takes what is left of it.
pub fn first_boot(name: &str, attachment: Attachment, device: &str) -> Result<(BoxDisk, Guest)> {
    let disk = BoxDisk::create()?.grow(1 << 30)?;
    let guest = Boot::uefi(name, disk.attached(attachment))?.start()?;
    has_grown(&guest)?;
    let system = guest.api().get("/api/v1/system")?;
    let shown = system["boot_disk"].as_str().unwrap_or_default();
    assert!(shown.starts_with(device), "{system}");
    Ok((disk, guest))
}

/// Sees that `/data` grows to a disk of 1 GiB; large growth goes on while the services run.
pub fn has_grown(guest: &Guest) -> Result<()> {
    grows_beyond(guest, 600 << 20).map(drop)
}

/// Waits until `/data` has more bytes than these, and returns how many it has.
fn grows_beyond(guest: &Guest, bytes: u64) -> Result<u64> {
    bytes_of_data(guest)?;
    let size = |system: &Value| system["data"]["bytes"].as_u64().unwrap_or(0);
    let system = guest.wait_system(|system| size(system) > bytes)?;
    Ok(size(&system))
}

/// Shuts the guest down, and has the host's tools judge what it left.
pub fn leaves_a_whole_disk(guest: Guest, disk: &BoxDisk) -> Result<()> {
    guest.power_off()?;
    disk.check_table()?;
    disk.data()?.check_left_clean()
}

/// The size of `/data`, which must be on the disk and well.
pub fn bytes_of_data(guest: &Guest) -> Result<u64> {
    let data = guest.data()?;
    assert_eq!(data["kind"], "disk", "{data}");
    assert_eq!(data["problem"], "", "{data}");
    data["bytes"].as_u64().context("no size")
}
