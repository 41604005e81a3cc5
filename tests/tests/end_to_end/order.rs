//! Order: a service starts after what it requires is ready, and stops before it.

use anyhow::{Context, Result};
use kos_tests::{Boot, DataDisk, Guest, Image};

#[test]
fn a_dependent_starts_after_what_it_requires_is_ready() -> Result<()> {
    let lines = Guest::shared()?.machine().serial_lines();
    let base = position(&lines, "kos: service order-base ready")?;
    let dependent = position(&lines, "kos: service order-dependent ready")?;
    assert!(base < dependent, "{lines:#?}");
    // Its program was not even started before: its own first line is younger.
    let guest = Guest::shared()?;
    let time = |name: &str, message: &str| -> Result<u64> {
        let page = guest.api().get(&format!("/api/v1/services/{name}/log"))?;
        let entries = page["entries"].as_array().cloned().unwrap_or_default();
        entries
            .iter()
            .find(|entry| entry["message"] == message)
            .and_then(|entry| entry["time_unix_ms"].as_u64())
            .with_context(|| format!("{name} did not say '{message}': {page}"))
    };
    assert!(time("order-base", "ready")? <= time("order-dependent", "started")?);
    Ok(())
}

#[test]
fn going_down_stops_dependents_first_and_waits_for_nobody_for_ever() -> Result<()> {
    let disk = DataDisk::create()?;
    let guest = Boot::new("order-power-off", Image::Test)
        .disk(&disk)
        .start()?;
    guest.api().start("ignore-sigterm")?;
    guest.wait_log("ignore-sigterm", |line| line == "ignoring SIGTERM")?;
    let place = usize::try_from(guest.machine().serial_end())?;
    guest.send_down("/api/v1/system/poweroff", None)?;
    let last = guest.wait_power_off()?;
    assert_eq!(last, "kos: power off");
    let lines = &guest.machine().serial_lines()[place..];
    let dependent = position(lines, "kos: service order-dependent stopped")?;
    let base = position(lines, "kos: service order-base stopping")?;
    assert!(dependent < base, "{lines:#?}");
    let stubborn = &lines[position(lines, "kos: service ignore-sigterm stopped")?];
    assert!(stubborn.contains("not gone within 2 s"), "{stubborn}");
    disk.file_system().check_left_clean()
}

fn position(lines: &[String], start: &str) -> Result<usize> {
    lines
        .iter()
        .position(|line| line.starts_with(start))
        .with_context(|| format!("no line begins with '{start}': {lines:#?}"))
}
