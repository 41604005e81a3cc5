//! Boards of ARM, as far as QEMU can be one: a Raspberry Pi, and a board that starts by U-Boot.

use anyhow::{Context, Result};
use kos_qemu::{Attachment, Firmware};
use kos_tests::{Boot, BoxDisk, boot_limit, environment};

use crate::disk_boot::{has_grown, leaves_a_whole_disk};

/// QEMU has no Pi 4 and nothing of the Pi's firmware: this is its Pi 3, started with what the
/// firmware would have read from the card.
#[test]
fn the_raspberry_pis_card_is_read_grown_and_kept() -> Result<()> {
    // A card's size is a power of two, in QEMU.
    let card = BoxDisk::flashed(&environment::raspberry_pi_image()?, "1G", &[])?;
    let slots: Vec<_> = card.fat("kos-a")?.files()?.into_keys().collect();
    let before = card.snapshot()?;
    let guest = Boot::raspberry_pi("raspberry-pi", &card)?.start()?;
    has_grown(&guest)?;
    leaves_a_whole_disk(guest, &card)?;
    assert_eq!(card.changed_since(&before)?, ["kos-data", "the table"]);
    assert_eq!(
        card.fat("kos-a")?.files()?.into_keys().collect::<Vec<_>>(),
        slots
    );
    Ok(())
}

/// The RockPro64's own disk in QEMU's machine: U-Boot finds it, reads its configuration, and hands
/// over to the kernel, which cannot go on with another board's device tree.
#[test]
fn u_boot_starts_the_kernel_of_the_rockpro64s_disk() -> Result<()> {
    let disk = BoxDisk::copy_of(&environment::u_boot_image()?)?;
    let guest = u_boot("u-boot-rockpro64", &disk)?.start_unready()?;
    for line in ["Retrieving file: /a/Image", "Starting kernel"] {
        guest.wait_line(line, |seen| seen.contains(line), boot_limit())?;
    }
    Ok(())
}

/// The same with QEMU's own device tree and console: the whole way.
#[test]
fn the_rockpro64s_disk_boots_where_its_device_tree_fits() -> Result<()> {
    let disk = BoxDisk::flashed(&environment::u_boot_image()?, "1G", &[])?;
    let files = disk.boot_files()?;
    let configuration = "extlinux/extlinux.conf";
    let text = String::from_utf8(files.read(configuration)?)?;
    let lines = text.lines().filter(|line| !line.contains(" fdt "));
    let mut text = lines.collect::<Vec<_>>().join("\n");
    let console = text
        .split_whitespace()
        .rfind(|word| word.starts_with("console="))
        .context("no console in the configuration")?
        .to_string();
    text = text.replace(&console, &format!("console={}", environment::console()?));
    files.write(configuration, format!("{text}\n").as_bytes())?;

    let guest = u_boot("u-boot-virt", &disk)?.start()?;
    has_grown(&guest)?;
    leaves_a_whole_disk(guest, &disk)
}

/// A guest that starts as a Rockchip board does.
fn u_boot<'a>(name: &'a str, disk: &BoxDisk) -> Result<Boot<'a>> {
    let firmware = Firmware::Image(environment::u_boot()?);
    Ok(Boot::firmware(name, firmware).attach(disk.attached(Attachment::Virtio)))
}
