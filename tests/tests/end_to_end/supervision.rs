//! What becomes of a service that runs: watched, stepped through, frozen, put in quarantine.

use std::cell::Cell;

use anyhow::{Context, Result, ensure};
use kos_tests::Guest;
use serde_json::json;

#[test]
fn a_service_that_falls_silent_is_killed_and_started_again() -> Result<()> {
    let guest = Guest::shared()?;
    guest.api().start("watched")?;
    let seen = guest.wait_service("watched", |seen| seen.restarts > 0)?;
    guest.api().stop("watched")?;
    assert!(
        seen.last_failure
            .contains("missed its watchdog: silent for longer than 2 s"),
        "{seen:?}"
    );
    // It lived for longer than its watchdog allows while it said so: the beats were heard.
    let log = guest.api().log("watched")?;
    assert!(log.iter().any(|line| line == "silent after 30 beats"));
    Ok(())
}

#[test]
fn steps_run_in_order_before_each_start_and_after_each_end() -> Result<()> {
    let guest = Guest::shared()?;
    let api = guest.api();
    api.start("stepped")?;
    wait_count(guest, "stepped", "stays", 1)?;
    api.post_json(
        "/api/v1/services/stepped/kill",
        json!({ "signal": "SIGKILL" }),
    )?;
    wait_count(guest, "stepped", "stays", 2)?;
    api.stop("stepped")?;
    guest.wait_service("stepped", |seen| seen.state == "stopped")?;
    let life = ["first step", "second step", "stays", "last step"];
    assert_eq!(api.log("stepped")?, [life, life].concat());
    Ok(())
}

#[test]
fn a_step_that_fails_fails_the_start_and_is_cleaned_up_after() -> Result<()> {
    let guest = Guest::shared()?;
    guest.api().start("stepped-badly")?;
    let failed = guest.wait_service("stepped-badly", |seen| seen.state == "failed")?;
    assert_eq!(
        failed.reason,
        "pre-start step 2 (/bin/test-supervised): exited with code 7"
    );
    assert_eq!(
        guest.api().log("stepped-badly")?,
        ["first step", "second step", "last step"]
    );
    Ok(())
}

#[test]
fn what_is_frozen_stands_still_and_goes_on_where_it_was() -> Result<()> {
    let (name, other) = ("counter@frozen", "counter@free");
    let guest = Guest::shared()?;
    let api = guest.api();
    api.start(name)?;
    api.start(other)?;
    guest.wait_log(name, |line| line == "frozen 3")?;
    api.post("/api/v1/services/counter@frozen/freeze")?;
    let frozen = guest.wait_service(name, |seen| seen.state == "frozen")?;
    assert_eq!(frozen.reason, "frozen by the operator");

    // The other one's counting is the clock here. Its first numbers are for what the frozen one had
    // written before it stood.
    let begun = wait_further(guest, other, 5)?;
    let stood = counted(guest, name)?;
    let used = api.service(name)?.cpu_usec;
    wait_further(guest, other, 20)?;
    assert_eq!(counted(guest, name)?, stood, "the other went on at {begun}");
    assert_eq!(api.service(name)?.cpu_usec, used);

    api.post("/api/v1/services/counter@frozen/thaw")?;
    guest.wait_log(name, |line| line == format!("frozen {}", stood + 1))?;
    let thawed = guest.wait_service(name, |seen| seen.state == "ready")?;
    assert_eq!((thawed.pid, thawed.restarts), (frozen.pid, 0));

    // Whoever is frozen hears no signal, and is stopped in order all the same.
    api.post("/api/v1/services/counter@frozen/freeze")?;
    guest.wait_service(name, |seen| seen.state == "frozen")?;
    api.stop(name)?;
    let stopped = guest.wait_service(name, |seen| seen.state == "stopped")?;
    assert!(!stopped.reason.contains("not gone within"), "{stopped:?}");
    api.stop(other)
}

#[test]
fn who_is_in_quarantine_is_started_by_nobody_until_released() -> Result<()> {
    let name = "counter@locked";
    let guest = Guest::shared()?;
    let api = guest.api();
    api.start(name)?;
    guest.wait_log(name, |line| line == "locked 1")?;
    api.post_json(
        "/api/v1/services/counter@locked/quarantine",
        json!({ "reason": "it was caught" }),
    )?;
    let locked = guest.wait_service(name, |seen| seen.state == "quarantined")?;
    assert_eq!((locked.pid, locked.tasks), (0, 0), "{locked:?}");
    assert_eq!(locked.reason, "quarantined: it was caught");
    for action in ["start", "restart"] {
        let path = format!("/api/v1/services/{name}/{action}");
        let refused = api.request("POST", &path, None)?;
        assert_eq!(refused.status, 409, "{refused}");
        assert!(refused.text.contains("it was caught"), "{refused}");
    }
    api.stop(name)?;
    assert_eq!(api.service(name)?.state, "quarantined");

    api.post("/api/v1/services/counter@locked/release")?;
    guest.wait_service(name, |seen| seen.state == "stopped")?;
    api.start(name)?;
    guest.wait_service(name, |seen| seen.state == "ready")?;
    api.stop(name)
}

#[test]
fn a_template_is_as_many_services_as_it_names() -> Result<()> {
    let guest = Guest::shared()?;
    let api = guest.api();
    api.start("counter@named")?;
    guest.wait_log("counter@named", |line| line == "named 1")?;
    api.stop("counter@named")?;
    for (instance, uid) in [("named", 15146), ("locked", 15136)] {
        let facts = api.get(&format!("/api/v1/services/counter@{instance}/facts"))?;
        assert_eq!(facts["uid"], uid, "{facts}");
        let seen = api.get(&format!("/api/v1/services/counter@{instance}"))?;
        let described = format!("Test: counts, and is called {instance}");
        assert_eq!(seen["description"], described, "{seen}");
    }
    for nobody in ["counter@", "counter@other"] {
        let answer = api.request("GET", &format!("/api/v1/services/{nobody}"), None)?;
        assert_eq!(answer.status, 404, "{answer}");
    }
    Ok(())
}

#[test]
fn a_secret_is_a_descriptor_that_nobody_can_change() -> Result<()> {
    let guest = Guest::shared()?;
    guest.api().start("secret")?;
    let log = guest.wait_log("secret", |line| line == "stays")?;
    guest.api().stop("secret")?;
    let by_descriptor = format!("by descriptor: {}", guest.code());
    let expected = ["told: pairing-code=3", "by name: /proc/self/fd/3"];
    for line in expected.into_iter().chain([by_descriptor.as_str()]) {
        assert!(log.iter().any(|seen| seen == line), "no '{line}': {log:#?}");
    }
    assert!(log.iter().any(|line| line.starts_with("forging: denied")));
    Ok(())
}

/// Waits until a service has said a line so often.
pub fn wait_count(guest: &Guest, name: &str, line: &str, times: u32) -> Result<()> {
    let seen = Cell::new(0);
    let wanted = |said: &str| {
        seen.set(seen.get() + u32::from(said == line));
        seen.get() == times
    };
    guest.wait_log(name, wanted).map(drop)
}

/// Waits until a counter is so much further, and returns where it is then.
fn wait_further(guest: &Guest, name: &str, numbers: u64) -> Result<u64> {
    let goal = counted(guest, name)? + numbers;
    let wanted = |line: &str| last_number(line).is_some_and(|number| number >= goal);
    guest.wait_log(name, wanted)?;
    Ok(goal)
}

/// How far a counter has come.
fn counted(guest: &Guest, name: &str) -> Result<u64> {
    let log = guest.api().log(name)?;
    ensure!(!log.is_empty(), "{name} has not begun");
    log.last()
        .and_then(|line| last_number(line))
        .with_context(|| format!("{log:#?}"))
}

fn last_number(line: &str) -> Option<u64> {
    line.rsplit(' ').next()?.parse().ok()
}
