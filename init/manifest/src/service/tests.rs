//! What is accepted, what is refused, and how well the refusal says so.

use super::*;

mod changes;
mod keys;
mod layers;
mod refusals;

const GOOD: &str = r#"
name = "echo"
description = "Says what it hears"
program = "/bin/echo"
uid = 1001
"#;

fn sets() -> SyscallSets {
    SyscallSets::parse(["default", "network"].map(|name| {
        let text = format!("name = \"{name}\"\ndescription = \"d\"\nsyscalls = [\"read\"]\n");
        (format!("{name}.toml"), text)
    }))
    .unwrap()
}

fn parse(files: &[(&str, &str)]) -> Result<ServiceSet, ManifestError> {
    let files = files
        .iter()
        .map(|(file, text)| ((*file).to_owned(), (*text).to_owned()));
    ServiceSet::parse(files, &sets())
}

fn refused(text: &str) -> String {
    parse(&[("echo.toml", text)]).unwrap_err().to_string()
}

#[test]
fn the_defaults_are_strict() {
    let set = parse(&[("echo.toml", GOOD)]).unwrap();
    let echo = set.get("echo").unwrap();
    assert_eq!(echo.limits.memory, Some(128 << 20));
    assert_eq!(echo.limits.pids, 64);
    assert_eq!(echo.sandbox.network, Network::None);
    assert_eq!(echo.sandbox.control, ControlGrant::None);
    assert!(echo.sandbox.capabilities.is_empty() && echo.sandbox.read.is_empty());
    assert_eq!(echo.restart.start_limit, 5);
}

#[test]
fn a_typo_is_told_with_line_key_and_what_is_allowed() {
    let error = refused(&format!("{GOOD}\n[restart]\npolcy = \"always\"\n"));
    assert!(error.starts_with("echo.toml:8:1: restart"), "{error}");
    assert!(
        error.contains("'polcy'") && error.contains("'policy'"),
        "{error}"
    );
    let error = refused(&format!("{GOOD}\n[restart]\npolicy = \"allways\"\n"));
    assert!(
        error.starts_with("echo.toml:8:10: restart.policy"),
        "{error}"
    );
    assert!(
        error.contains("allways") && error.contains("on-failure"),
        "{error}"
    );
}

#[test]
fn wrong_values_are_told_with_what_is_allowed() {
    for (extra, key, allowed) in [
        ("[limits]\nmemory = \"12MB\"", "limits.memory", "'512M'"),
        ("[limits]\ncpu = 0.0", "limits.cpu", "0.01 to 1024"),
        ("[limits]\npids = 1", "limits.pids", "3 to"),
        ("[stop]\nsignal = \"SIGKILL\"", "stop.signal", "SIGTERM"),
        (
            "[sandbox]\ncapabilities = [\"sys_admin\"]",
            "sandbox.capabilities",
            "net_admin",
        ),
        (
            "[sandbox]\nread = [\"/data/../etc\"]",
            "sandbox.read",
            "without '..'",
        ),
        ("[sandbox]\nwrite = [\"/\"]", "sandbox.write", "below /"),
        (
            "[sandbox]\ndevices = [\"/dev/kmsg\"]",
            "sandbox.devices",
            "below /dev",
        ),
        (
            "[sandbox]\nsyscalls = [\"everything\"]",
            "sandbox.syscalls",
            "default",
        ),
        (
            "[readiness]\ntimeout = \"soon\"",
            "readiness.timeout",
            "'10s'",
        ),
    ] {
        let error = refused(&format!("{GOOD}\n{extra}\n"));
        assert!(
            error.contains(key) && error.contains(allowed),
            "{extra}: {error}"
        );
        assert!(error.starts_with("echo.toml:8:"), "{extra}: {error}");
    }
}

#[test]
fn names_follow_the_file_and_the_rules() {
    let other = GOOD.replace("echo\"\ndesc", "other\"\ndesc");
    assert!(refused(&other).contains("the file's name, 'echo'"));
    for bad in ["Echo", "1st", "a_b", ""] {
        let text = GOOD.replace("\"echo\"", &format!("\"{bad}\""));
        assert!(refused(&text).contains("echo.toml:2:8: name"), "{bad}");
    }
    let error = parse(&[("kernel.toml", &GOOD.replace("\"echo\"", "\"kernel\""))]).unwrap_err();
    assert!(error.to_string().contains("any other than"), "{error}");
}

#[test]
fn a_uid_belongs_to_one_service() {
    let two = GOOD.replace("\"echo\"", "\"two\"");
    let error = parse(&[("echo.toml", GOOD), ("two.toml", &two)])
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("two.toml:5:7: uid") && error.contains("'echo'"),
        "{error}"
    );
    assert!(refused(&GOOD.replace("1001", "0")).contains("1000 to 19999"));
}

#[test]
fn references_mean_something_and_do_not_run_in_circles() {
    let error = refused(&format!("{GOOD}requires = [\"nobody\"]\n"));
    assert!(
        error.contains("echo.toml:6:13: requires") && error.contains("allowed: echo"),
        "{error}"
    );
    let one = format!("{GOOD}after = [\"two\"]\n");
    let two = format!(
        "{}requires = [\"echo\"]\n",
        GOOD.replace("\"echo\"", "\"two\"").replace("1001", "1002")
    );
    let error = parse(&[("echo.toml", &one), ("two.toml", &two)])
        .unwrap_err()
        .to_string();
    assert!(error.contains("echo -> two -> echo"), "{error}");
}

#[test]
fn what_is_required_also_comes_first() {
    let two = format!(
        "{}requires = [\"echo\"]\n",
        GOOD.replace("\"echo\"", "\"two\"").replace("1001", "1002")
    );
    let set = parse(&[("echo.toml", GOOD), ("two.toml", &two)]).unwrap();
    assert_eq!(set.get("two").unwrap().after, ["echo"]);
}
