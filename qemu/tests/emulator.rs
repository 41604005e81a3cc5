//! Talks to a real QEMU that runs no guest: what the library promises about its process.

use std::time::Duration;

use kos_qemu::{Accelerator, Error, Machine};
use serde_json::json;

/// Generous: the host may be running two guests under TCG.
const LIMIT: Duration = Duration::from_secs(30);

fn halted() -> Machine {
    Machine::empty()
        .memory_mib(64)
        .accelerator(Accelerator::Tcg)
        .paused(true)
}

#[test]
fn a_halted_machine_answers_and_quits() {
    let guest = halted().forward(80).forward(11434).start().unwrap();
    let status = guest.qmp("query-status", json!({})).unwrap();
    assert_eq!(status["running"], json!(false));
    let (console, models) = (
        guest.host_port(80).unwrap(),
        guest.host_port(11434).unwrap(),
    );
    assert!(console != 0 && models != 0 && console != models);
    assert!(matches!(
        guest.host_port(81),
        Err(Error::NotForwarded { port: 81, .. })
    ));
    let refused = guest.qmp("no-such-command", json!({})).unwrap_err();
    assert!(matches!(refused, Error::Refused { .. }), "{refused}");
    assert!(guest.is_running());
    assert!(guest.quit().unwrap().success());
    assert_eq!(
        guest.wait_event("SHUTDOWN", LIMIT).unwrap().data["reason"],
        "host-qmp-quit"
    );
    assert!(!guest.is_running());
}

#[test]
fn a_wait_ends_in_time_and_shows_the_log() {
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("serial.log");
    let guest = halted().serial_log(&log).start().unwrap();
    let error = guest
        .wait_line(
            "the ready line",
            |line| line == "ready",
            Duration::from_millis(50),
        )
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with("no the ready line within 0.05 s"),
        "{error}"
    );
    assert!(error.contains(log.to_str().unwrap()), "{error}");
    let error = guest.wait_exit(Duration::from_millis(50)).unwrap_err();
    assert!(matches!(error, Error::Timeout { .. }), "{error}");
}

#[test]
fn what_qemu_says_against_its_arguments_is_shown() {
    let error = halted()
        .argument("-device")
        .argument("warp-drive")
        .start()
        .unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, Error::Ended { .. }), "{text}");
    assert!(text.contains("warp-drive"), "{text}");
}

#[test]
fn dropping_a_guest_ends_its_process() {
    let guest = halted().start().unwrap();
    let answer = guest.qmp("query-name", json!({})).unwrap();
    assert!(answer.is_object());
    let port = halted()
        .forward(80)
        .start()
        .and_then(|other| other.host_port(80))
        .unwrap();
    // The other guest was dropped, so its port is free again.
    drop(std::net::TcpListener::bind(("127.0.0.1", port)).unwrap());
}

#[test]
fn the_accelerator_is_found_in_bounded_time() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("accelerator");
    let found = Accelerator::detect_remembered(&file);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), found.name());
    assert_eq!(Accelerator::detect_remembered(&file), found);
}
