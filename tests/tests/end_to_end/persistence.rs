//! What outlives a boot, and the ways down: API, power button, reboot. Each leaves a clean disk.

use anyhow::{Context, Result};
use kos_tests::{Boot, DataDisk, Guest, Image, STEP_LIMIT};
use serde_json::json;

#[test]
fn a_session_outlives_a_reboot_and_a_power_cycle() -> Result<()> {
    let disk = DataDisk::create()?;
    let mut guest = Boot::new("persistence-reboot", Image::Normal)
        .disk(&disk)
        .end_on_reboot(false)
        .start()?;
    let session = guest.pair()?;
    let first_code = guest.code().to_string();
    guest
        .stranger()
        .with("cookie", &session)
        .get("/api/v1/system")?;

    guest.api().post("/api/v1/system/reboot")?;
    guest.wait_reboot()?;
    assert_ne!(guest.code(), first_code, "each boot has a code of its own");
    let old = guest
        .stranger()
        .paired(&first_code)
        .request("GET", "/api/v1/system", None)?;
    assert_eq!(
        old.status, 401,
        "the old code opens nothing any more: {old}"
    );
    guest
        .stranger()
        .with("cookie", &session)
        .get("/api/v1/system")?;

    guest.api().post("/api/v1/system/poweroff")?;
    assert_eq!(guest.wait_power_off()?, "kos: power off");
    drop(guest);
    assert!(
        disk.file_system()?.was_left_clean(),
        "{:?}",
        disk.file_system()?
    );

    let guest = Boot::new("persistence-again", Image::Normal)
        .disk(&disk)
        .start()?;
    guest
        .stranger()
        .with("cookie", &session)
        .get("/api/v1/system")?;
    guest.machine().power_button()?;
    assert_eq!(guest.wait_power_off()?, "kos: power off");
    assert!(
        disk.file_system()?.was_left_clean(),
        "{:?}",
        disk.file_system()?
    );
    Ok(())
}

#[test]
fn a_box_that_lost_its_power_comes_back() -> Result<()> {
    let disk = DataDisk::create()?;
    let guest = Boot::new("persistence-plug", Image::Normal)
        .disk(&disk)
        .start()?;
    guest.pair()?;
    guest.machine().quit()?;
    drop(guest);
    assert!(
        disk.file_system()?.needs_recovery,
        "{:?}",
        disk.file_system()?
    );
    let guest = Boot::new("persistence-plug-again", Image::Normal)
        .disk(&disk)
        .start()?;
    let system = guest.api().get("/api/v1/system")?;
    assert_eq!(system["data"]["kind"], "disk", "{system}");
    let tags = guest.models().get("/api/tags")?;
    assert_eq!(tags["models"].as_array().map_or(0, Vec::len), 1, "{tags}");
    // The last second's sessions may be lost with the power; new ones must be possible.
    let session = guest.pair()?;
    guest
        .stranger()
        .with("cookie", &session)
        .get("/api/v1/system")?;
    // The third way down: what `kill 1` is elsewhere.
    let signal = json!({ "signal": "SIGTERM" });
    guest
        .api()
        .post_json("/api/v1/services/init/kill", signal)?;
    assert_eq!(guest.wait_power_off()?, "kos: power off");
    assert!(
        disk.file_system()?.was_left_clean(),
        "{:?}",
        disk.file_system()?
    );
    Ok(())
}

#[test]
fn without_a_disk_the_box_works_and_says_so() -> Result<()> {
    let guest = Boot::new("persistence-tmpfs", Image::Normal).start()?;
    let system = guest.api().get("/api/v1/system")?;
    assert_eq!(system["data"]["kind"], "tmpfs", "{system}");
    let tags = guest.models().get("/api/tags")?;
    assert_eq!(tags["models"], json!([]));
    guest.api().post("/api/v1/system/reboot")?;
    // This guest ends where another would boot again.
    let event = guest.machine().wait_event("SHUTDOWN", STEP_LIMIT)?;
    assert_eq!(event.data["reason"], "guest-reset");
    assert_eq!(guest.wait_power_off()?, "kos: reboot");
    Ok(())
}

/// Pairs as a browser does, and returns its cookie.
trait Pair {
    fn pair(&self) -> Result<String>;
}

impl Pair for Guest {
    fn pair(&self) -> Result<String> {
        let form = format!("code={}", self.code());
        let answer = self.stranger().post_form("/pair", &form)?;
        assert!(answer.status < 400, "{answer}");
        let cookie = answer.header("set-cookie").context("no cookie")?;
        Ok(cookie.split(';').next().unwrap_or_default().to_string())
    }
}
