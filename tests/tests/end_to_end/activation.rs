//! What starts a service, and what keeps it from starting: clocks, conditions, others, clients.

use std::io::{Read, Write};
use std::net::TcpStream;

use anyhow::{Context, Result, ensure};
use kos_tests::{Guest, KEPT_PORT, step_limit};
use serde_json::json;

use crate::supervision::wait_count;

const MINUTE_MS: u64 = 60_000;
const DAY_MS: u64 = 24 * 60 * MINUTE_MS;
/// A minute that begins sooner than this may have begun before the guest has heard of it.
const SOON_MS: u64 = 15_000;

#[test]
fn a_timer_starts_its_service_again_and_again() -> Result<()> {
    let guest = Guest::shared()?;
    put(guest, "ticker", &timed("ticker", 20_010, "every = \"1s\""))?;
    wait_count(guest, "ticker", "tick", 3)?;
    let log = guest.api().log("init")?;
    let started = "service ticker starting (started by its timer)";
    let starts = log.iter().filter(|line| line.contains(started)).count();
    ensure!(starts >= 3, "{starts} starts: {log:#?}");
    remove(guest, "ticker")
}

#[test]
fn a_timer_of_the_day_starts_its_service_in_its_minute() -> Result<()> {
    let guest = Guest::shared()?;
    let boxes_now = latest_time(guest, "init")?;
    let minute = (boxes_now + SOON_MS) / MINUTE_MS + 1;
    let of_day = minute % (DAY_MS / MINUTE_MS);
    let at = format!("at = \"{:02}:{:02}\"", of_day / 60, of_day % 60);
    put(guest, "daily", &timed("daily", 20_011, &at))?;
    wait_count(guest, "daily", "tick", 1)?;
    let ticked = latest_time(guest, "daily")?;
    ensure!(
        ticked / MINUTE_MS == minute,
        "{at}, set at {boxes_now}, ticked at {ticked}"
    );
    remove(guest, "daily")
}

#[test]
fn a_condition_that_does_not_hold_leaves_it_stopped_and_is_told() -> Result<()> {
    let guest = Guest::shared()?;
    for (condition, told) in [
        (
            "profiles = [\"cluster\"]",
            "condition not met: the profile is standalone, needed: cluster",
        ),
        ("boards = [\"rpi4\", \"rpi5\"]", "needed: rpi4 or rpi5"),
        (
            "devices = [\"null\", \"kos-nothing\"]",
            "condition not met: there is no device kos-nothing",
        ),
    ] {
        put(guest, "conditional", &conditional(condition))?;
        let seen = guest.wait_service("conditional", |seen| seen.reason.ends_with(told))?;
        ensure!(seen.state == "stopped" && seen.pid == 0, "{seen:?}");
    }
    let held = "profiles = [\"cluster\", \"standalone\"]\ndevices = [\"null\"]";
    put(guest, "conditional", &conditional(held))?;
    guest.wait_service("conditional", |seen| seen.state == "ready")?;
    remove(guest, "conditional")
}

#[test]
fn what_is_required_and_fails_fails_its_dependent() -> Result<()> {
    let guest = Guest::shared()?;
    let api = guest.api();
    api.start("needs-failed")?;
    let failed = guest.wait_service("needs-failed", |seen| seen.state == "failed")?;
    let told = "requires fails, which is failed: exited with code 1";
    assert_eq!(failed.reason, told);
    assert!(api.log("needs-failed")?.is_empty(), "it was run");

    // Later, too.
    api.start("leaning")?;
    guest.wait_service("leaned-on", |seen| seen.state == "ready")?;
    guest.wait_log("leaning", |line| line == "stays")?;
    let kill = json!({ "signal": "SIGKILL" });
    api.post_json("/api/v1/services/leaned-on/kill", kill)?;
    let failed = guest.wait_service("leaning", |seen| seen.state == "failed")?;
    let told = "requires leaned-on, which is failed: killed by SIGKILL";
    assert_eq!((failed.reason.as_str(), failed.pid), (told, 0));
    Ok(())
}

#[test]
fn what_is_only_wanted_is_started_and_may_fail() -> Result<()> {
    let guest = Guest::shared()?;
    guest.api().start("wants-failed")?;
    guest.wait_log("fails", |line| line == "failing")?;
    guest.wait_log("wants-failed", |line| line == "stays")?;
    guest.wait_service("fails", |seen| seen.state == "failed")?;
    let wanting = guest.api().service("wants-failed")?;
    assert_eq!(wanting.state, "ready", "{wanting:?}");
    guest.api().stop("wants-failed")
}

#[test]
fn who_connects_while_a_service_is_down_is_answered_by_its_next_process() -> Result<()> {
    let guest = Guest::shared()?;
    let api = guest.api();
    api.start("keeper")?;
    let log = guest.wait_log("keeper", |line| line.starts_with("LISTEN_FDNAMES="))?;
    assert_eq!(log, ["LISTEN_FDS=1", "LISTEN_FDNAMES=web"]);
    let first = heard(ask(guest, "hello\n")?, "hello")?;
    ask(guest, "crash\n")?;
    guest.wait_service("keeper", |seen| seen.state == "backoff")?;

    let waiting = (0..3)
        .map(|number| ask(guest, &format!("waited {number}\n")))
        .collect::<Result<Vec<_>>>()?;
    let down = api.service("keeper")?;
    ensure!(down.state == "backoff" && down.pid == 0, "{down:?}");
    api.start("keeper")?;
    for (number, client) in waiting.into_iter().enumerate() {
        let next = heard(client, &format!("waited {number}"))?;
        ensure!(next != first, "{next} has crashed");
    }

    // What nobody will ever accept is not kept waiting.
    api.stop("keeper")?;
    guest.wait_service("keeper", |seen| seen.state == "stopped")?;
    let refused = ask(guest, "anybody?\n").and_then(|client| heard(client, "anybody?"));
    ensure!(refused.is_err(), "{refused:?}");
    Ok(())
}

#[test]
fn a_service_is_ready_once_its_address_answers() -> Result<()> {
    let guest = Guest::shared()?;
    let api = guest.api();
    api.start("answers-http")?;
    let ready = guest.wait_service("answers-http", |seen| seen.state == "ready")?;
    assert_eq!(ready.reason, "answers at its address");
    let answered = "GET /ready HTTP/1.0: 200";
    let log = guest.wait_log("answers-http", |line| line == answered)?;
    let refused = "GET /ready HTTP/1.0: 503";
    assert_eq!(log, [refused, refused, refused, answered]);

    api.start("answers-socket")?;
    guest.wait_service("answers-socket", |seen| seen.state == "ready")?;
    // It said so half a second before it listened.
    assert_eq!(api.log("answers-socket")?, ["the door will open"]);
    for name in ["answers-http", "answers-socket"] {
        api.stop(name)?;
    }
    Ok(())
}

#[test]
fn a_service_whose_answer_is_no_is_not_ready_in_time() -> Result<()> {
    let guest = Guest::shared()?;
    guest.api().start("refuses-http")?;
    let failed = guest.wait_service("refuses-http", |seen| seen.state == "failed")?;
    assert!(failed.reason.contains("not ready within 2 s"), "{failed:?}");
    let log = guest.api().log("refuses-http")?;
    assert!(log.iter().all(|line| line.ends_with(": 503")), "{log:#?}");
    Ok(())
}

/// Says a line to the service whose socket PID 1 keeps.
fn ask(guest: &Guest, line: &str) -> Result<TcpStream> {
    let mut client = TcpStream::connect(guest.machine().address(KEPT_PORT)?)?;
    client.set_read_timeout(Some(step_limit()))?;
    client.write_all(line.as_bytes())?;
    Ok(client)
}

/// Waits for the answer to that line, and returns which process it is of.
fn heard(mut client: TcpStream, line: &str) -> Result<String> {
    let mut answer = String::new();
    client.read_to_string(&mut answer)?;
    let (process, said) = answer
        .split_once(" heard ")
        .with_context(|| format!("'{line}' was answered with '{answer}'"))?;
    ensure!(said.trim_end() == line, "'{line}' was heard as '{said}'");
    Ok(process.to_owned())
}

/// Milliseconds since 1970, by the box's clock, of the latest line of a log.
fn latest_time(guest: &Guest, name: &str) -> Result<u64> {
    let page = guest
        .api()
        .get(&format!("/api/v1/services/{name}/log?tail=1"))?;
    page["entries"][0]["time_unix_ms"]
        .as_u64()
        .with_context(|| format!("no line: {page}"))
}

fn put(guest: &Guest, name: &str, manifest: &str) -> Result<()> {
    let path = format!("/api/v1/services/{name}/manifest");
    guest.api().put_text(&path, manifest)?.success().map(drop)
}

fn remove(guest: &Guest, name: &str) -> Result<()> {
    let path = format!("/api/v1/services/{name}/manifest");
    let answer = guest.api().request("DELETE", &path, None)?;
    answer.success().map(drop)
}

/// One that says that it was started, and ends.
fn timed(name: &str, uid: u32, timer: &str) -> String {
    format!(
        "name = \"{name}\"\ndescription = \"Started by the clock\"\n\
         program = \"/bin/test-supervised\"\nargs = [\"say\", \"tick\", \"0\"]\nuid = {uid}\n\
         enabled = false\n\n[readiness]\nkind = \"none\"\n\n[restart]\npolicy = \"never\"\n\n\
         [timer]\n{timer}\n"
    )
}

fn conditional(conditions: &str) -> String {
    format!(
        "name = \"conditional\"\ndescription = \"Asks something of the box\"\n\
         program = \"/bin/test-supervised\"\nargs = [\"stay\"]\nuid = 20012\n\n\
         [readiness]\nkind = \"none\"\n\n[conditions]\n{conditions}\n"
    )
}
