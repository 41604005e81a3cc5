//! Attacks from inside an agent's sandbox: every single one must be refused.
//!
//! One guest for all of them; `docs/isolation.md` has a row for each test here.

use std::sync::OnceLock;

use anyhow::{Context, Result, anyhow};
use kos_tests::{Boot, DataDisk, Guest, Image};

#[test]
fn calls_that_change_the_machine_are_refused() -> Result<()> {
    all_denied("attack-kernel", 55)
}

#[test]
fn with_every_set_of_calls_they_are_refused_too() -> Result<()> {
    all_denied("attack-kernel-wide", 55)
}

#[test]
fn without_the_filter_they_are_refused_too() -> Result<()> {
    all_denied("attack-kernel-unfiltered", 55)
}

#[test]
fn another_agent_cannot_be_reached() -> Result<()> {
    with_a_victim(|| all_denied("attack-others", 50))
}

#[test]
fn another_agent_on_the_same_network_cannot_be_reached() -> Result<()> {
    with_a_victim(|| all_denied("attack-others-host", 50))
}

#[test]
fn only_the_named_ports_are_open() -> Result<()> {
    let log = attacked("attack-ports")?;
    for line in ["listen on TCP 9001: works", "connect to TCP 11434: works"] {
        assert!(
            log.iter().any(|seen| seen == line),
            "{line} is not in {log:#?}"
        );
    }
    denied(&log, 20);
    Ok(())
}

#[test]
fn a_disk_is_filled_only_to_the_quota() -> Result<()> {
    let log = attacked("attack-disk")?;
    denied(&log, 3);
    let number = |key: &str| -> Result<u64> {
        let line = log.iter().find_map(|line| line.strip_prefix(key));
        let line = line.with_context(|| format!("'{key}' is not in {log:#?}"))?;
        line.trim().parse().context("it is no number")
    };
    let (bytes, files) = (number("bytes:")?, number("files:")?);
    // 4 MiB, of which the directories themselves have some.
    assert!(
        (3 << 20..=4 << 20).contains(&bytes),
        "{bytes} bytes: {log:#?}"
    );
    assert_eq!(
        number("bytes in the cache as well:")?,
        0,
        "both are one quota"
    );
    assert!((50..64).contains(&files), "{files} files: {log:#?}");
    // Others still write: the store of the API, and a service.
    let guest = guest()?;
    let session = guest.pair()?;
    assert!(guest.knows(&session)?);
    with_a_victim(|| {
        let log = guest.wait_log("victim", |line| line.starts_with("round 0:"))?;
        let broken = log.iter().find(|line| line.contains("BROKEN"));
        assert_eq!(broken, None);
        Ok(())
    })
}

/// The guest of this suite. Its disk is gone when it is.
pub fn guest() -> Result<&'static Guest> {
    static GUEST: OnceLock<Result<Guest, String>> = OnceLock::new();
    let boot = || {
        let disk = DataDisk::create()?;
        Boot::new("attacks", Image::Test).disk(&disk).start()
    };
    GUEST
        .get_or_init(|| {
            boot()
                .map(Guest::kept)
                .map_err(|error| format!("{error:#}"))
        })
        .as_ref()
        .map_err(|error| anyhow!("the guest of the attacks did not boot: {error}"))
}

/// Runs something while the victim works.
fn with_a_victim(act: impl FnOnce() -> Result<()>) -> Result<()> {
    let guest = guest()?;
    guest.api().start("victim")?;
    guest.wait_log("victim", |line| line == "victim works")?;
    act()
}

/// Runs an attacker to its end, or finds that it has run, and returns what it tried.
fn attacked(name: &str) -> Result<Vec<String>> {
    let guest = guest()?;
    guest.api().start(name)?;
    guest.wait_log(name, |line| line == "attempts end")
}

fn all_denied(name: &str, least: usize) -> Result<()> {
    denied(&attacked(name)?, least);
    Ok(())
}

fn denied(log: &[String], least: usize) {
    let wrong = |line: &&String| line.contains("ALLOWED") || line.contains("BROKEN");
    let wrong: Vec<&String> = log.iter().filter(wrong).collect();
    assert!(wrong.is_empty(), "{wrong:#?} of {log:#?}");
    let denied = log
        .iter()
        .filter(|line| line.contains(": denied ("))
        .count();
    assert!(
        denied >= least,
        "only {denied} attempts were made: {log:#?}"
    );
}
