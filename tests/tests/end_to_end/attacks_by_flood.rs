//! Floods: a service that uses up all it can, of what it shares with others or of PID 1's attention.
//!
//! Meanwhile PID 1 answers, starts another service, and does not grow; and the victim does its work.

use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use kos_tests::{Guest, measured};

use crate::attacks::guest;

/// How much PID 1 may grow by a flood: the rings of the flood's log (256 KiB each) and a buffer for
/// what a connection may send. What is not bounded is past this in a second.
const GROWTH: u64 = 4 << 20;

/// How long PID 1 may take to answer, through the API, in an emulated machine that others use too.
const PATIENCE: Duration = Duration::from_secs(20);

/// How many times later the victim's work may be done, at the 99th percentile, with two services of
/// 16 busy threads each beside it on two processors: each of the three has a third of them.
/// Measured under TCG.
const LATER: u64 = 12;
/// Below this a difference is noise of the machine that emulates.
const NOISE_USEC: u64 = 5_000;

/// Held by each test here while it measures: tests run beside each other, and a flood of one would be
/// in the other's numbers. What is measured alone is so only as far as this suite goes.
static TURN: Mutex<()> = Mutex::new(());

fn turn() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(|failed| failed.into_inner())
}

#[test]
fn a_flood_of_output_is_the_services_own_loss() -> Result<()> {
    flood("flood-output", "")
}

#[test]
fn a_flood_of_notifications_is_read_in_turn() -> Result<()> {
    flood("flood-notifications", "a thousand notifications")
}

#[test]
fn a_flood_of_d_bus_leaves_pid_1_answering() -> Result<()> {
    flood("flood-bus", "fifty connections")
}

#[test]
fn a_service_without_descriptors_left_takes_nobody_elses() -> Result<()> {
    flood("flood-descriptors", "descriptors end")
}

#[test]
fn a_service_without_watches_left_takes_nobody_elses() -> Result<()> {
    flood("flood-watches", "watches end")
}

#[test]
fn a_busy_service_does_not_starve_another() -> Result<()> {
    let _turn = turn();
    let guest = guest()?;
    guest.api().start("victim")?;
    let alone = lateness(guest, 3)?;
    for name in ["flood-work", "flood-work-too"] {
        guest.api().start(name)?;
        guest.wait_log(name, |line| line.ends_with("begins"))?;
    }
    let together = lateness(guest, 3);
    for name in ["flood-work", "flood-work-too"] {
        guest.api().stop(name)?;
    }
    let (alone, together) = (alone.max(NOISE_USEC), together?);
    measured(&format!(
        "p99 {alone} us alone, {together} us beside two busy services"
    ));
    assert!(
        together <= alone * LATER,
        "the victim's p99 rose from {alone} us to {together} us, more than {LATER} times"
    );
    Ok(())
}

/// Starts a flood, and sees that PID 1 and another service work on while it lasts. `sign` begins a line
/// that says that the flood is one; a flood of output has swept it away.
fn flood(name: &str, sign: &str) -> Result<()> {
    let _turn = turn();
    let guest = guest()?;
    let before = init_memory(guest)?;
    guest.api().start(name)?;
    guest.wait_service(name, |seen| seen.state == "ready")?;
    guest.wait_log(name, |line| line.starts_with(sign))?;
    let mut grown = 0;
    for _ in 0..3 {
        let asked = Instant::now();
        let now = init_memory(guest)?;
        assert!(
            asked.elapsed() < PATIENCE,
            "PID 1 took {:?}",
            asked.elapsed()
        );
        grown = now.saturating_sub(before).max(grown);
        // A start needs descriptors, watches, a process and PID 1's attention.
        let asked = Instant::now();
        guest.api().start("order-base")?;
        guest.wait_service("order-base", |seen| seen.state == "ready")?;
        guest.api().stop("order-base")?;
        guest.wait_service("order-base", |seen| seen.state == "stopped")?;
        assert!(
            asked.elapsed() < PATIENCE,
            "a start took {:?}",
            asked.elapsed()
        );
    }
    guest.api().stop(name)?;
    let left = guest.wait_service(name, |seen| seen.state == "stopped")?;
    assert_eq!(left.tasks, 0, "{left:?}");
    assert!(grown <= GROWTH, "PID 1 grew by {grown} bytes beside {name}");
    Ok(())
}

fn init_memory(guest: &Guest) -> Result<u64> {
    let system = guest.api().get("/api/v1/system")?;
    system["init_memory"]
        .as_u64()
        .with_context(|| format!("no memory of PID 1 in {system}"))
}

/// The middle of the 99th percentiles of so many rounds of the victim's work, from now on.
fn lateness(guest: &Guest, rounds: usize) -> Result<u64> {
    let seen = |log: &[String]| -> Vec<(usize, u64)> {
        log.iter().filter_map(|line| round(line)).collect()
    };
    let last = seen(&guest.api().log("victim")?)
        .last()
        .map_or(0, |(number, _)| number + 1);
    // The first of them began before.
    let (first, end) = (last + 1, last + rounds);
    let log = guest.wait_log("victim", |line| {
        round(line).is_some_and(|(number, _)| number >= end)
    })?;
    let mut late: Vec<u64> = seen(&log)
        .into_iter()
        .filter(|(number, _)| (first..=end).contains(number))
        .map(|(_, late)| late)
        .collect();
    late.sort_unstable();
    late.get(late.len() / 2)
        .copied()
        .context("no round was told")
}

/// The number and the 99th percentile of a line of the victim.
fn round(line: &str) -> Option<(usize, u64)> {
    let (number, rest) = line.strip_prefix("round ")?.split_once(':')?;
    let (_, late) = rest.split_once("p99 ")?;
    Some((number.parse().ok()?, late.split(' ').next()?.parse().ok()?))
}
