//! What outlives a boot, and the ways down: API, power button, reboot. Each leaves a clean disk.

use anyhow::{Context, Result};
use kos_tests::{Boot, DataDisk, Guest, Image, step_limit};
use serde_json::json;

const INFER: &str = "/api/v1/services/infer";

#[test]
fn a_session_outlives_a_reboot_and_a_power_cycle() -> Result<()> {
    let disk = DataDisk::create()?;
    let mut guest = Boot::new("persistence-reboot", Image::Normal)
        .disk(&disk)
        .end_on_reboot(false)
        .start()?;
    let session = guest.pair()?;
    let first_code = guest.code().to_string();
    assert!(guest.knows(&session)?);

    guest.send_down("/api/v1/system/reboot", None)?;
    guest.wait_reboot()?;
    assert_ne!(guest.code(), first_code, "each boot has a code of its own");
    let old = guest
        .stranger()
        .paired(&first_code)
        .request("GET", "/api/v1/system", None)?;
    assert_eq!(old.status, 401, "the old code opens nothing: {old}");
    assert!(guest.knows(&session)?);
    guest.power_off()?;
    disk.file_system().check_left_clean()?;

    let guest = Boot::new("persistence-again", Image::Normal)
        .disk(&disk)
        .start()?;
    assert!(guest.knows(&session)?);
    guest.machine().power_button()?;
    assert_eq!(guest.wait_power_off()?, "kos: power off");
    disk.file_system().check_left_clean()
}

#[test]
fn a_box_that_lost_its_power_comes_back() -> Result<()> {
    let disk = DataDisk::create()?;
    let guest = Boot::new("persistence-plug", Image::Normal)
        .disk(&disk)
        .start()?;
    guest.pair()?;
    // The last thing that happens: what was answered is on the disk.
    describe_infer(&guest, "Mine")?;
    guest.pull_the_plug()?;
    let left = disk.file_system().superblock()?;
    assert!(left.needs_recovery, "{left:?}");

    let guest = Boot::new("persistence-plug-again", Image::Normal)
        .disk(&disk)
        .start()?;
    assert_eq!(guest.data()?["kind"], "disk");
    assert_eq!(guest.model_count()?, 1);
    assert_eq!(guest.api().get(INFER)?["description"], "Mine");
    // The last second's sessions may be lost with the power; new ones must be possible.
    let session = guest.pair()?;
    assert!(guest.knows(&session)?);
    // The third way down: what `kill 1` is elsewhere.
    let signal = json!({ "signal": "SIGTERM" });
    guest.send_down("/api/v1/services/init/kill", Some(signal))?;
    assert_eq!(guest.wait_power_off()?, "kos: power off");
    disk.file_system().check_left_clean()
}

/// Puts a manifest of the owner's over the image's: the same but for its description.
fn describe_infer(guest: &Guest, description: &str) -> Result<()> {
    let path = format!("{INFER}/manifest");
    let text = guest.api().request("GET", &path, None)?.success()?.text;
    let line = text.lines().find(|line| line.starts_with("description ="));
    let line = line.context("a manifest has a description")?;
    let mine = text.replace(line, &format!("description = \"{description}\""));
    guest.api().put_text(&path, &mine)?.success().map(drop)
}

#[test]
fn without_a_disk_the_box_works_and_says_so() -> Result<()> {
    let guest = Boot::new("persistence-tmpfs", Image::Normal).start()?;
    assert_eq!(guest.data()?["kind"], "tmpfs");
    assert_eq!(guest.model_count()?, 0);
    guest.send_down("/api/v1/system/reboot", None)?;
    // This guest ends where another would boot again.
    let event = guest.machine().wait_event("SHUTDOWN", step_limit())?;
    assert_eq!(event.data["reason"], "guest-reset");
    assert_eq!(guest.wait_power_off()?, "kos: reboot");
    Ok(())
}
