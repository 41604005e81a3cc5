//! The kept log: nothing is lost or doubled by a crash of the service that keeps it, a cut of power
//! costs the last seconds, and a flood says how much of it is missing.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use kos_tests::{Boot, DataDisk, Guest, Image, step_limit};
use serde_json::{Value, json};

/// What a cut of power may take, and a moment for an emulated machine.
const SYNCED: Duration = Duration::from_secs(8);

#[test]
fn a_crash_of_the_keeper_and_a_cut_of_power_lose_what_they_may() -> Result<()> {
    let disk = DataDisk::create()?;
    let guest = Boot::new("kept-log", Image::Test).disk(&disk).start()?;
    guest.api().start("log-lines")?;
    wait_numbers(&guest, |numbers| numbers.len() >= 20)?;
    let (first, id) = follow(&guest, None, 5)?;

    let api = guest.api().service("api")?.pid;
    // The answer dies with who gives it.
    let kill = json!({ "signal": "SIGKILL" });
    let _ = guest
        .api()
        .request("POST", "/api/v1/services/api/kill", Some(kill));
    let deadline = Instant::now() + step_limit();
    while !guest.api().service("api").is_ok_and(|now| now.pid != api) {
        ensure!(Instant::now() < deadline, "api is not back");
        std::thread::sleep(Duration::from_millis(500));
    }
    let (second, _) = follow(&guest, Some(&id), 40)?;
    let followed: Vec<u64> = first.into_iter().chain(second).collect();
    ensure!(are_consecutive(&followed), "followed: {followed:?}");
    let last = followed.last().copied().unwrap_or_default();
    let numbers = wait_numbers(&guest, |numbers| numbers.last() >= Some(&last))?;
    ensure!(numbers.first() == Some(&1), "{numbers:?}");
    ensure!(are_consecutive(&numbers), "{numbers:?}");
    let entry = guest
        .api()
        .get("/api/v1/logs?service=log-lines&search=number%3D2&limit=1")?;
    assert_eq!(entry["entries"][0]["fields"]["number"], 2, "{entry}");
    assert_eq!(entry["entries"][0]["level"], 4, "{entry}");
    assert_eq!(entry["log"]["is_on_disk"], true, "{entry}");

    std::thread::sleep(SYNCED);
    guest.pull_the_plug()?;
    disk.file_system().check_mendable()?;
    let guest = Boot::new("kept-log-again", Image::Test)
        .disk(&disk)
        .start()?;
    guest.api().start("log-lines")?;
    let again = wait_numbers(&guest, |numbers| {
        numbers.iter().filter(|n| **n == 1).count() == 2
    })?;
    let begins = again
        .iter()
        .rposition(|number| *number == 1)
        .unwrap_or_default();
    let (before, after) = again.split_at(begins);
    ensure!(
        before.last() >= Some(&last),
        "synced: {last}, there: {before:?}"
    );
    ensure!(
        are_consecutive(before) && are_consecutive(after),
        "{again:?}"
    );
    let boots = guest
        .api()
        .get("/api/v1/logs?service=log-lines&limit=1000")?;
    let boots = boots["entries"].as_array().context("no entries")?;
    assert_ne!(
        boots.first().map(|e| &e["boot"]),
        boots.last().map(|e| &e["boot"])
    );
    guest.power_off()
}

#[test]
fn a_flood_says_how_much_of_it_is_missing() -> Result<()> {
    let guest = Guest::boot("kept-log-flood", Image::Test)?;
    guest.api().start("log-flood")?;
    let deadline = Instant::now() + step_limit();
    loop {
        let mut kept = 0;
        let mut missing = 0;
        for entry in entries(&guest, "log-flood")? {
            match entry["gap"]["count"].as_u64() {
                Some(count) => missing += count,
                None => kept += 1,
            }
        }
        // 20,000 lines, one of a megabyte in pieces of 4 KiB, the last one, and PID 1's word.
        if kept + missing >= 20_257 {
            ensure!(missing > 0 && kept > 1000, "{kept} kept, {missing} missing");
            ensure!(kept + missing < 20_280, "{kept} kept, {missing} missing");
            return Ok(());
        }
        ensure!(
            Instant::now() < deadline,
            "{kept} kept, {missing} missing; api says {:?}, the ring ends with {:?}",
            guest.api().log("api")?,
            guest.api().log("log-flood")?.last()
        );
        std::thread::sleep(Duration::from_secs(1));
    }
}

/// All kept entries of a service.
fn entries(guest: &Guest, service: &str) -> Result<Vec<Value>> {
    let mut all = Vec::new();
    let mut cursor = String::new();
    loop {
        let path =
            format!("/api/v1/logs?service={service}&limit=1000&direction=newer&cursor={cursor}");
        let page = guest.api().get(&path)?;
        all.extend(
            page["entries"]
                .as_array()
                .context("no entries")?
                .iter()
                .cloned(),
        );
        if page["more"] != true {
            return Ok(all);
        }
        page["newer"]
            .as_str()
            .context("no cursor")?
            .clone_into(&mut cursor);
    }
}

/// The numbers of the kept lines, once they are as wanted.
fn wait_numbers(guest: &Guest, wanted: impl Fn(&[u64]) -> bool) -> Result<Vec<u64>> {
    let deadline = Instant::now() + step_limit();
    loop {
        let numbers: Vec<u64> = entries(guest, "log-lines")?
            .iter()
            .filter_map(number)
            .collect();
        if wanted(&numbers) {
            return Ok(numbers);
        }
        ensure!(Instant::now() < deadline, "kept: {numbers:?}");
        std::thread::sleep(Duration::from_millis(500));
    }
}

/// Follows for so many lines; gives their numbers and the last one's id.
fn follow(guest: &Guest, after: Option<&str>, count: usize) -> Result<(Vec<u64>, String)> {
    let mut api = guest.api();
    if let Some(id) = after {
        api = api.with("last-event-id", id);
    }
    let mut stream = api.follow("/api/v1/logs/follow?service=log-lines")?;
    let mut numbers = Vec::new();
    let mut id = String::new();
    while numbers.len() < count {
        let line = stream.next_line()?.context("the stream ended")?;
        if let Some(data) = line.strip_prefix("data:") {
            let entry: Value = serde_json::from_str(data.trim())?;
            numbers.extend(number(&entry));
            entry["cursor"]
                .as_str()
                .unwrap_or_default()
                .clone_into(&mut id);
        }
    }
    Ok((numbers, id))
}

fn number(entry: &Value) -> Option<u64> {
    entry["message"]
        .as_str()?
        .strip_prefix("line ")?
        .parse()
        .ok()
}

fn are_consecutive(numbers: &[u64]) -> bool {
    numbers.windows(2).all(|pair| pair[0] + 1 == pair[1])
}
