//! Logs: bounded, followed, and those of PID 1 and the kernel too.

use anyhow::Result;
use kos_tests::Guest;

#[test]
fn a_flood_is_bounded_and_its_end_is_kept() -> Result<()> {
    let guest = Guest::shared()?;
    guest.api().start("log-flood")?;
    let log = guest.wait_log("log-flood", |line| line == "flood ends")?;
    assert!(log.iter().any(|line| line == "flood ends"));
    let page = guest
        .api()
        .get("/api/v1/services/log-flood/log?cursor=0&max=10")?;
    assert!(
        page["dropped"].as_u64() > Some(0),
        "the oldest lines are gone: {page}"
    );
    let flood = guest.api().service("log-flood")?;
    assert_eq!(flood.state, "ready", "{flood:?}");
    let system = guest.api().get("/api/v1/system")?;
    assert!(system["init_memory"].as_u64() < Some(64 << 20), "{system}");
    guest.api().stop("log-flood")
}

#[test]
fn the_kernel_and_pid_1_have_logs() -> Result<()> {
    let api = Guest::shared()?.api();
    let kernel = api.get("/api/v1/services/kernel/log?cursor=0&max=20")?;
    assert!(kernel.to_string().contains("Linux version"), "{kernel}");
    let init = api.get("/api/v1/services/init/log?cursor=0&max=200")?;
    assert!(init.to_string().contains("phase"), "{init}");
    Ok(())
}

#[test]
fn an_entry_says_when_and_how_grave() -> Result<()> {
    let guest = Guest::shared()?;
    guest.api().start("exit-for-good")?;
    guest.wait_log("exit-for-good", |line| {
        line == "exiting at once with code 125"
    })?;
    let page = guest.api().get("/api/v1/services/exit-for-good/log")?;
    let entries = page["entries"].as_array().cloned().unwrap_or_default();
    let entry = entries
        .iter()
        .find(|entry| entry["message"] == "exiting at once with code 125")
        .expect("the log was seen to hold it");
    assert_eq!(entry["level"], 3, "the program said <3>: {entry}");
    assert!(entry["time_unix_ms"].as_u64() > Some(0), "{entry}");
    Ok(())
}
