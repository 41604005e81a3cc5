//! The sandbox from inside: services that try to get out of it.

use anyhow::Result;
use kos_tests::Guest;

#[test]
fn every_attempt_to_get_out_is_denied() -> Result<()> {
    all_denied(&attempts("escape")?);
    Ok(())
}

#[test]
fn with_more_system_calls_every_attempt_is_denied_too() -> Result<()> {
    all_denied(&attempts("escape-wide")?);
    Ok(())
}

#[test]
fn a_service_runs_without_rights() -> Result<()> {
    let log = attempts("escape")?;
    for line in [
        "status: Uid: 15006 15006 15006 15006",
        "status: Gid: 15006 15006 15006 15006",
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

/// Runs the service, or finds it running, and returns what it tried.
fn attempts(name: &str) -> Result<Vec<String>> {
    let guest = Guest::shared()?;
    guest.api().start(name)?;
    guest.wait_log(name, |line| line == "attempts end")
}

fn all_denied(log: &[String]) {
    let allowed: Vec<&String> = log.iter().filter(|line| line.contains("ALLOWED")).collect();
    assert!(allowed.is_empty(), "{allowed:#?} of {log:#?}");
    let denied = log
        .iter()
        .filter(|line| line.contains(": denied ("))
        .count();
    assert!(denied > 40, "only {denied} attempts were made: {log:#?}");
}
