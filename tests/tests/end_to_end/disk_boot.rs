//! The disk that users get: it boots by the machine's firmware, becomes as large as the disk that
//! it was written to, and keeps what is put on it.

use anyhow::{Context, Result};
use kos_qemu::Attachment;
use kos_tests::{Boot, BoxDisk, Guest};

#[test]
fn the_image_boots_grows_to_its_disk_and_keeps_its_data() -> Result<()> {
    let disk = BoxDisk::create()?.grow(1 << 30)?;
    let guest = Boot::uefi("disk-first", disk.attached(Attachment::Virtio))?.start()?;
    let first = bytes_of_data(&guest)?;
    assert!(first > 600 << 20, "{first} bytes of a disk of 1 GiB");
    let system = guest.api().get("/api/v1/system")?;
    let shown = system["boot_disk"].as_str().unwrap_or_default();
    assert!(shown.starts_with("/dev/vda"), "{system}");
    let session = guest.pair()?;
    guest.power_off()?;
    disk.check_table()?;
    disk.data()?.check_left_clean()?;

    disk.resize(3 << 30)?;
    let guest = Boot::uefi("disk-again", disk.attached(Attachment::Virtio))?.start()?;
    let again = bytes_of_data(&guest)?;
    assert!(again > first + (1900 << 20), "{first} bytes became {again}");
    assert!(guest.knows(&session)?, "the session is gone");
    guest.power_off()?;
    disk.check_table()?;
    disk.data()?.check_left_clean()
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

/// The size of `/data`, which must be on the disk and well.
pub fn bytes_of_data(guest: &Guest) -> Result<u64> {
    let data = guest.data()?;
    assert_eq!(data["kind"], "disk", "{data}");
    assert_eq!(data["problem"], "", "{data}");
    data["bytes"].as_u64().context("no size")
}
