//! What a reload has to do about each change.

use super::keys::{FULL, others};
use super::*;

fn set(echo: &str) -> ServiceSet {
    let files = others()
        .into_iter()
        .chain([("echo.toml".to_owned(), echo.to_owned())]);
    ServiceSet::parse(files, &sets()).unwrap()
}

#[test]
fn services_come_go_and_stay() {
    let old = parse(&[("echo.toml", GOOD)]).unwrap();
    let two = GOOD.replace("\"echo\"", "\"two\"");
    let new = parse(&[("two.toml", &two)]).unwrap();
    let changes: Vec<_> = ServiceSet::changes(&old, &new).into_iter().collect();
    assert_eq!(changes, [("echo", Change::Removed), ("two", Change::Added)]);
    let changes: Vec<_> = ServiceSet::changes(&old, &old).into_iter().collect();
    assert_eq!(changes, [("echo", Change::Unchanged)]);
}

#[test]
fn only_what_a_process_was_born_with_takes_a_new_one() {
    use Change::{Restart, Unchanged, Update};
    let old = set(FULL);
    for (from, to, change) in [
        ("# none", "# comment", Unchanged),
        ("Says what it hears", "Repeats", Update),
        ("enabled = false", "enabled = true", Update),
        ("essential = true", "essential = false", Update),
        ("after = [\"first\"]", "after = []", Update),
        ("requires = [\"second\"]", "requires = []", Update),
        ("wants = [\"third\"]", "wants = []", Update),
        ("stop-before = [\"first\"]", "stop-before = []", Update),
        ("profiles = [\"server\"]", "profiles = []", Update),
        ("path = \"/ready\"", "path = \"/live\"", Update),
        ("timeout = \"5s\"", "timeout = \"6s\"", Update),
        ("policy = \"on-failure\"", "policy = \"always\"", Update),
        ("start-limit = 7", "start-limit = 8", Update),
        ("SIGINT", "SIGTERM", Update),
        ("/bin/prepare", "/bin/prepare2", Update),
        ("/bin/tidy-up", "/bin/tidy-up2", Update),
        ("sun 03:30", "sun 03:31", Update),
        ("memory = \"64M\"", "memory = \"65M\"", Update),
        ("memory-high = \"48M\"", "memory-high = \"47M\"", Update),
        ("cpu = 0.5", "cpu = 0.6", Update),
        ("cpu-weight = 200", "cpu-weight = 100", Update),
        ("io-write = \"5M\"", "io-write = \"6M\"", Update),
        ("pids = 8", "pids = 9", Update),
        ("disk = \"1G\"", "disk = \"2G\"", Update),
        ("threshold = \"100ms\"", "threshold = \"101ms\"", Update),
        // It may speak more often than it must, but has to know when it must sooner.
        ("watchdog = \"30s\"", "watchdog = \"31s\"", Update),
        ("watchdog = \"30s\"", "", Update),
        ("watchdog = \"30s\"", "watchdog = \"29s\"", Restart),
        ("/bin/echo\"", "/bin/echo2\"", Restart),
        ("--loud", "--soft", Restart),
        ("uid = 1001", "uid = 1002", Restart),
        ("GREETING = \"hello\"", "GREETING = \"hi\"", Restart),
        ("pairing-code", "owner-key", Restart),
        ("backlog = 7", "backlog = 8", Restart),
        ("open-files = 99", "open-files = 98", Restart),
        ("file-size = \"2M\"", "file-size = \"3M\"", Restart),
        ("locked-memory = \"1M\"", "locked-memory = \"2M\"", Restart),
        ("stack = \"4M\"", "stack = \"5M\"", Restart),
        ("state = true", "state = false", Restart),
        ("connect = [443]", "connect = []", Restart),
    ] {
        let text = FULL.replacen(from, to, 1);
        assert!(text != FULL || change == Unchanged, "{from} is not there");
        let new = set(&text);
        assert_eq!(
            ServiceSet::changes(&old, &new)["echo"],
            change,
            "{from} -> {to}"
        );
    }
    let without = set(&FULL.replace("watchdog = \"30s\"", ""));
    assert_eq!(ServiceSet::changes(&without, &old)["echo"], Restart);
}
