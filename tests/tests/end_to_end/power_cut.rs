//! Power that goes in the first boot, while the data partition is made and grown: at whichever
//! moment, the next boot is well.

use anyhow::{Context, Result};
use kos_qemu::Attachment;
use kos_tests::box_disk::DATA;
use kos_tests::chance::Chance;
use kos_tests::write_log::WriteLog;
use kos_tests::{Boot, BoxDisk, environment, step_limit};

use crate::disk_boot::{has_grown, leaves_a_whole_disk};

/// Moments after which the box is booted: under TCG half a minute each. `cargo xtask soak` has more.
const BOOTED: u64 = 4;
/// So many more moments of which only the disk is looked at: on a busy host two seconds each.
const LOOKED_AT: usize = 6;
const SEED: u64 = 20_261_124;
/// What stands in a data partition whose file system is still to be made.
const MARKER: &[u8] = b"kos-data: make\n\0";

#[test]
fn the_first_boot_can_be_cut_off_after_any_write() -> Result<()> {
    let fresh = BoxDisk::create()?.grow(1 << 30)?;
    let first = fresh.duplicate()?;
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("writes.log");
    let disk = first.attached(Attachment::Virtio).write_log(&path);
    Boot::uefi("power-cut-recorded", disk)?
        .start()?
        .power_off()?;
    let log = WriteLog::read(&path)?;
    assert!(log.len() > 20, "the first boot made {} requests", log.len());

    let booted = usize::try_from(environment::number("KOS_POWER_CUTS", BOOTED)?)?;
    let seed = environment::number("KOS_SEED", SEED)?;
    let mut chance = Chance::new(seed);
    for round in 0..booted * LOOKED_AT {
        let count = chance.within(0..log.len() + 1);
        let cut = fresh.duplicate()?;
        log.replay(&cut.path(), count, &mut chance)?;
        let moment = format!(
            "seed {seed}, round {round}, after {count} of {} requests",
            log.len()
        );
        can_be_made_or_mended(&cut).context(moment.clone())?;
        if round < booted {
            let name = format!("power-cut-{round}");
            comes_up(&name, &cut).context(moment)?;
        }
    }
    Ok(())
}

#[test]
fn the_plug_can_be_pulled_as_soon_as_the_file_system_is_made() -> Result<()> {
    for (name, line) in [
        ("power-cut-made", "kos: data made"),
        ("power-cut-grown", "kos: data grown"),
    ] {
        let disk = BoxDisk::create()?.grow(1 << 30)?;
        let guest = Boot::uefi(name, disk.attached(Attachment::Virtio))?.start_unready()?;
        guest.wait_line(line, |seen| seen.starts_with(line), step_limit())?;
        guest.pull_the_plug()?;
        comes_up(&format!("{name}-again"), &disk)?;
    }
    Ok(())
}

/// Boots, with a whole `/data` that has the disk's size, and leaves it clean.
fn comes_up(name: &str, disk: &BoxDisk) -> Result<()> {
    let guest = Boot::uefi(name, disk.attached(Attachment::Virtio))?.start()?;
    has_grown(&guest)?;
    leaves_a_whole_disk(guest, disk)
}

/// The data partition is one that the next boot makes, or one that its journal makes whole.
fn can_be_made_or_mended(disk: &BoxDisk) -> Result<()> {
    // Cut off between its two tables the disk has one that is whole, which is enough.
    disk.sgdisk(&["--backup=/dev/null"])?;
    let Ok(table) = disk.table() else {
        return Ok(());
    };
    let data = table.partition(DATA)?;
    let mut start = vec![0; MARKER.len()];
    disk.read(data, &mut start)?;
    if start == MARKER {
        return Ok(());
    }
    disk.data()?.check_mendable()
}
