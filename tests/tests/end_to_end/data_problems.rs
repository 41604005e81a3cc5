//! What can be wrong with `/data`: the box boots all the same, says what it is, and what to do.

use anyhow::{Context, Result};
use kos_qemu::{Attachment, Disk};
use kos_tests::box_disk::DATA;
use kos_tests::{Boot, BoxDisk, Guest};

#[test]
fn a_full_data_partition() -> Result<()> {
    let disk = BoxDisk::create()?;
    let data = disk.make_data()?;
    let guest = Boot::uefi("data-before-full", virtio(&disk))?.start()?;
    let session = guest.pair()?;
    guest.power_off()?;
    // Two blocks are left: too little for another session.
    data.fill(8 << 10)?;
    let guest = tells("full", virtio(&disk), "disk")?;
    assert_eq!(guest.model_count()?, 1, "what is there can be used");
    assert!(guest.knows(&session)?, "who was let in is known");
    let another = guest.pair()?;
    assert!(guest.knows(&another)?, "the owner can come in to delete");
    Ok(())
}

#[test]
fn a_corrupt_superblock() -> Result<()> {
    let disk = BoxDisk::create()?;
    disk.make_data()?;
    let data = disk.table()?.partition(DATA)?.clone();
    disk.write(&data, &[0xa5; 4096])?;
    // What a repair could still save is left alone.
    tells_and_writes_nothing("corrupt", &disk)
}

#[test]
fn errors_that_the_file_system_remembers() -> Result<()> {
    let disk = BoxDisk::create()?;
    let state = "set_super_value state 3";
    disk.make_data()?
        .change(&[state, "set_super_value error_count 1"])?;
    let guest = tells("errors", virtio(&disk), "disk")?;
    assert_eq!(guest.model_count()?, 1);
    Ok(())
}

#[test]
fn a_missing_data_partition() -> Result<()> {
    let disk = BoxDisk::create()?;
    let number = disk.table()?.partition(DATA)?.number;
    disk.sgdisk(&[&format!("--delete={number}")])?;
    tells_and_writes_nothing("missing", &disk)
}

#[test]
fn a_disk_that_cannot_be_written_gives_its_models() -> Result<()> {
    let disk = BoxDisk::create()?;
    disk.make_data()?;
    let guest = tells("read-only", virtio(&disk).read_only(true), "tmpfs")?;
    assert_eq!(guest.model_count()?, 1);
    // The rest of /data is memory, and can be used.
    let session = guest.pair()?;
    assert!(guest.knows(&session)?);
    Ok(())
}

#[test]
fn a_new_disk_that_cannot_be_written() -> Result<()> {
    let disk = BoxDisk::create()?;
    let guest = tells("read-only", virtio(&disk).read_only(true), "tmpfs")?;
    assert_eq!(guest.model_count()?, 0);
    Ok(())
}

fn virtio(disk: &BoxDisk) -> Disk {
    disk.attached(Attachment::Virtio)
}

fn tells_and_writes_nothing(problem: &str, disk: &BoxDisk) -> Result<()> {
    let before = disk.snapshot()?;
    tells(problem, virtio(disk), "tmpfs")?.power_off()?;
    assert_eq!(disk.changed_since(&before)?, Vec::<String>::new());
    Ok(())
}

/// Boots, and returns the guest when API and console say this of its data.
fn tells(problem: &str, disk: Disk, kind: &str) -> Result<Guest> {
    let thread = std::thread::current();
    let test = thread.name().and_then(|name| name.rsplit("::").next());
    let name = format!("data-{}", test.unwrap_or(problem).replace('_', "-"));
    let guest = Boot::uefi(&name, disk)?.start()?;
    let data = guest.data()?;
    assert_eq!(data["problem"], problem, "{data}");
    assert_eq!(data["kind"], kind, "{data}");
    for part in ["detail", "advice"] {
        let sentence = data[part].as_str().context("no text")?;
        assert!(sentence.ends_with('.'), "{part}: {data}");
    }
    let console = guest.api().with("accept", "text/html");
    let page = console.request("GET", "/", None)?.success()?;
    let advice = data["advice"].as_str().unwrap_or_default();
    assert!(unescape(&page.text).contains(advice), "{advice}: {page}");
    Ok(guest)
}

/// The page's text without what HTML needs for quotes.
fn unescape(page: &str) -> String {
    page.replace("&#34;", "\"")
        .replace("&quot;", "\"")
        .replace("&#39;", "'")
        .replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&amp;", "&")
}
