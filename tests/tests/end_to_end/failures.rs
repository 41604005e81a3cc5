//! Services that fail: backed off, given up on with a reason, and alone in it.

use anyhow::{Context, Result};
use kos_tests::Guest;

#[test]
fn a_service_that_exits_at_once_is_backed_off_and_then_failed() -> Result<()> {
    let guest = Guest::shared()?;
    let place = guest.machine().serial_end();
    let before = guest.api().service("api")?;
    guest.api().start("exit-at-once")?;
    let failed = guest.wait_service("exit-at-once", |seen| seen.state == "failed")?;
    assert!(
        failed.reason.contains("start limit reached: 3 starts"),
        "{failed:?}"
    );
    assert!(
        failed.last_failure.contains("exited with code 3"),
        "{failed:?}"
    );
    assert_eq!(failed.pid, 0, "{failed:?}");
    guest.machine().wait_line_from(
        place,
        "line about the back-off",
        |line| line.starts_with("kos: service exit-at-once backoff"),
        kos_tests::step_limit(),
    )?;
    let waits = waits(guest, "exit-at-once")?;
    // A timer never goes off early; how late it does is the host's affair.
    assert!(waits.len() == 3, "{waits:?}");
    assert!(waits[0] >= 300 && waits[1] >= 600, "{waits:?}");
    let starts = guest.api().log("exit-at-once")?;
    assert_eq!(
        starts
            .iter()
            .filter(|line| line.contains("exiting at once"))
            .count(),
        3
    );
    let after = guest.api().service("api")?;
    assert_eq!(
        (after.pid, after.restarts),
        (before.pid, before.restarts),
        "the others go on"
    );
    Ok(())
}

#[test]
fn an_operator_may_try_a_failed_service_again() -> Result<()> {
    let guest = Guest::shared()?;
    guest.api().start("never-ready")?;
    let failed = guest.wait_service("never-ready", |seen| seen.state == "failed")?;
    assert!(failed.reason.contains("not ready within 2 s"), "{failed:?}");
    guest.api().start("never-ready")?;
    guest.wait_service("never-ready", |seen| {
        seen.state == "failed" && seen.since_ms > failed.since_ms
    })?;
    Ok(())
}

#[test]
fn exit_code_125_is_final() -> Result<()> {
    let guest = Guest::shared()?;
    guest.api().start("exit-for-good")?;
    let failed = guest.wait_service("exit-for-good", |seen| seen.state == "failed")?;
    assert!(failed.reason.contains("125"), "{failed:?}");
    assert_eq!(failed.restarts, 0, "{failed:?}");
    Ok(())
}

#[test]
fn a_service_that_ignores_its_stop_signal_is_killed_after_its_deadline() -> Result<()> {
    let guest = Guest::shared()?;
    guest.api().start("ignore-sigterm")?;
    guest.wait_log("ignore-sigterm", |line| line == "ignoring SIGTERM")?;
    guest.api().stop("ignore-sigterm")?;
    let stopped = guest.wait_service("ignore-sigterm", |seen| seen.state == "stopped")?;
    assert!(
        stopped.reason.contains("not gone within 2 s"),
        "{stopped:?}"
    );
    assert_eq!((stopped.pid, stopped.tasks), (0, 0), "{stopped:?}");
    Ok(())
}

/// How long a service was in back-off each time (milliseconds), by PID 1's own log.
fn waits(guest: &Guest, name: &str) -> Result<Vec<u64>> {
    let page = guest.api().get("/api/v1/services/init/log?tail=1000")?;
    let entries = page["entries"].as_array().context("no log of PID 1")?;
    let (backoff, starting) = (
        format!("service {name} backoff"),
        format!("service {name} starting (restarted after"),
    );
    let mut begun = None;
    let mut waits = Vec::new();
    for entry in entries {
        let message = entry["message"].as_str().unwrap_or_default();
        let time = entry["time_unix_ms"].as_u64().context("no time")?;
        if message.starts_with(&backoff) {
            begun = Some(time);
        } else if message.starts_with(&starting) {
            waits.extend(begun.take().map(|begun: u64| time.saturating_sub(begun)));
        }
    }
    Ok(waits)
}
