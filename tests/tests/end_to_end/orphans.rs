//! Processes whose parents are gone are reaped, inside a sandbox and by PID 1.

use anyhow::Result;
use kos_tests::Guest;

#[test]
fn two_hundred_orphans_are_all_reaped() -> Result<()> {
    let guest = Guest::shared()?;
    guest.api().start("orphans")?;
    let log = guest.wait_log("orphans", |line| line.starts_with("orphans "))?;
    assert!(
        log.iter().any(|line| line == "made 200 orphans"),
        "{log:#?}"
    );
    assert!(
        log.iter().any(|line| line == "orphans all reaped"),
        "{log:#?}"
    );
    let failed: Vec<_> = log.iter().filter(|line| line.contains("failed")).collect();
    assert!(failed.is_empty(), "{failed:#?}");
    // Only its program and the sandbox's own first process are left.
    let service = guest.wait_service("orphans", |seen| seen.tasks <= 2)?;
    assert_eq!(service.state, "ready", "{service:?}");
    guest.api().stop("orphans")?;
    guest.wait_service("orphans", |seen| seen.state == "stopped")?;
    // Another test's process may end at this moment, so none of ours means: none for long.
    let system = guest.wait_system(|seen| seen["processes"]["zombies"] == 0)?;
    assert!(system["processes"]["total"].as_u64() > Some(0), "{system}");
    Ok(())
}
