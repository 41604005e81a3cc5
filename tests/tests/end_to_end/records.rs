//! Why the box went down, told by the boot after it: by a disk, or by memory alone.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use kos_tests::{Boot, DataDisk, Guest, Image, boot_limit, step_limit};
use serde_json::Value;

const BOOTS: &str = "/api/v1/boots";
const REBOOT: &str = "/api/v1/system/reboot";

#[test]
fn each_way_down_is_told_with_a_disk() -> Result<()> {
    let disk = DataDisk::create()?;
    let mut guest = Boot::new("records-disk", Image::Test)
        .disk(&disk)
        .last_words()
        .watchdog()
        .end_on_reboot(false)
        .start()?;
    ensure!(
        boots(&guest)?.len() == 1,
        "a new disk knows of a boot before"
    );

    let (cause, boot) = after(&mut guest, |guest| Ok(guest.machine().magic_sysrq('c')?))?;
    assert_eq!(cause, "kernel-panic", "{boot}");
    let detail = boot["down"]["detail"].as_str().unwrap_or_default();
    assert!(detail.contains("sysrq triggered crash"), "{boot}");
    let panic = boot["down"]["panic"].as_str().unwrap_or_default();
    assert!(panic.contains("Kernel panic"), "{boot}");

    let (cause, boot) = after(&mut guest, |guest| Ok(guest.machine().reset()?))?;
    assert_eq!(cause, "power-loss", "{boot}");
    assert_eq!(boot["down"]["panic"], "", "the panic is told again: {boot}");

    let start = "/api/v1/services/ignore-sigterm/start";
    guest.api().request("POST", start, None)?.success()?;
    guest.wait_service("ignore-sigterm", |service| service.state == "ready")?;
    let (cause, boot) = after(&mut guest, |guest| guest.send_down(REBOOT, None))?;
    assert_eq!(
        (cause.as_str(), &boot["down"]["by"]),
        ("operator", &"api".into()),
        "{boot}"
    );
    let killed = &boot["down"]["killed"];
    assert_eq!(killed[0]["name"], "ignore-sigterm", "{boot}");
    let phases = boot["down"]["phases"].as_array().context("no phases")?;
    assert_eq!(phases[0]["name"], "services");
    let took = phases[0]["took_usec"].as_u64().unwrap_or(0);
    assert!(took >= 2_000_000, "it was given its two seconds: {boot}");

    // Over the end of QEMU, and of all memory with it.
    guest.machine().power_button()?;
    guest.wait_power_off()?;
    let guest = Boot::new("records-disk-again", Image::Test)
        .disk(&disk)
        .start()?;
    let boot = ended(&guest)?;
    assert_eq!(boot["down"]["by"], "power button", "{boot}");
    let causes: Vec<_> = boots(&guest)?
        .iter()
        .map(|boot| {
            boot["down"]["cause"]
                .as_str()
                .unwrap_or_default()
                .to_string()
        })
        .collect();
    assert_eq!(
        causes,
        ["", "operator", "operator", "power-loss", "kernel-panic"]
    );
    Ok(())
}

#[test]
fn without_a_disk_memory_tells() -> Result<()> {
    let mut guest = Boot::new("records-memory", Image::Normal)
        .last_words()
        .end_on_reboot(false)
        .start()?;
    let (cause, boot) = after(&mut guest, |guest| guest.send_down(REBOOT, None))?;
    assert_eq!(
        (cause.as_str(), &boot["down"]["by"]),
        ("operator", &"api".into()),
        "{boot}"
    );
    let (cause, boot) = after(&mut guest, |guest| Ok(guest.machine().reset()?))?;
    assert_eq!(cause, "power-loss", "{boot}");
    Ok(())
}

#[test]
fn a_pid_1_that_hangs_is_reset_by_the_watchdog() -> Result<()> {
    let disk = DataDisk::create()?;
    // Longer than the next boot takes to tell why it is there.
    let mut guest = Boot::new("records-hang", Image::Normal)
        .disk(&disk)
        .last_words()
        .append("kos.break=hang-init:60")
        .watchdog()
        .end_on_reboot(false)
        .start()?;
    let system = guest.api().get("/api/v1/system")?;
    assert_eq!(system["watchdog"]["identity"], "i6300ESB timer", "{system}");
    assert_eq!(system["watchdog"]["timeout_ms"], 30_000, "{system}");
    let id = boots(&guest)?[0]["boot_id"].clone();
    let hangs = |line: &str| line.contains("PID 1 hangs now");
    guest.wait_line("PID 1 hangs", hangs, boot_limit())?;
    guest.machine().wait_event("WATCHDOG", step_limit())?;
    guest.take_up()?;
    let boot = ended(&guest)?;
    assert_eq!(boot["down"]["cause"], "watchdog", "{boot}");
    assert_eq!(boot["boot_id"], id);
    Ok(())
}

/// Takes the box down, and returns what the next boot says of it.
pub fn after(guest: &mut Guest, act: impl FnOnce(&Guest) -> Result<()>) -> Result<(String, Value)> {
    let id = boots(guest)?[0]["boot_id"].clone();
    act(guest)?;
    guest.take_up()?;
    let boot = ended(guest)?;
    assert_eq!(boot["boot_id"], id, "{boot}");
    let cause = boot["down"]["cause"].as_str().unwrap_or_default();
    Ok((cause.to_string(), boot))
}

/// The last boot, once its end has been found out.
fn ended(guest: &Guest) -> Result<Value> {
    let deadline = Instant::now() + step_limit();
    loop {
        let boots = boots(guest)?;
        if let Some(last) = boots.get(1).filter(|boot| boot["down"]["cause"] != "") {
            return Ok(last.clone());
        }
        ensure!(
            Instant::now() < deadline,
            "the last boot has no end: {boots:?}"
        );
        std::thread::sleep(Duration::from_millis(500));
    }
}

fn boots(guest: &Guest) -> Result<Vec<Value>> {
    let answer = guest.explain(guest.api().get(BOOTS))?;
    Ok(answer.as_array().context("no list of boots")?.clone())
}
