//! The sandbox from inside: a service that tries to get out of it.

use anyhow::Result;
use kos_tests::Guest;

#[test]
fn every_attempt_to_get_out_is_denied() -> Result<()> {
    let guest = Guest::shared()?;
    guest.api().start("escape")?;
    let log = guest.wait_log("escape", |line| line == "attempts end")?;
    let allowed: Vec<&String> = log.iter().filter(|line| line.contains("ALLOWED")).collect();
    assert!(allowed.is_empty(), "{allowed:#?}");
    let denied = log
        .iter()
        .filter(|line| line.contains(": denied ("))
        .count();
    assert!(denied > 40, "only {denied} attempts were made: {log:#?}");
    Ok(())
}

#[test]
fn a_service_runs_without_rights() -> Result<()> {
    let guest = Guest::shared()?;
    guest.api().start("escape")?;
    let log = guest.wait_log("escape", |line| line == "attempts end")?;
    for line in [
        "status: Uid: 50006 50006 50006 50006",
        "status: Gid: 50006 50006 50006 50006",
        "status: Groups:",
        "status: CapInh: 0000000000000000",
        "status: CapPrm: 0000000000000000",
        "status: CapEff: 0000000000000000",
        "status: CapBnd: 0000000000000000",
        "status: CapAmb: 0000000000000000",
        "status: NoNewPrivs: 1",
        "status: Seccomp: 2",
    ] {
        assert!(
            log.iter().any(|seen| seen == line),
            "{line} is not in {log:#?}"
        );
    }
    Ok(())
}
