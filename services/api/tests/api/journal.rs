//! The kept log: what crashes, reboots and floods leave of it, and how it is asked for.

use std::time::Duration;

use serde_json::Value;

use crate::fakes::init::RING;
use crate::fixture::{Fixture, run};

const PATH: &str = "/api/v1/logs";

/// Asks until the last entry is this one; the collector gathers lines for a moment.
async fn until_last(kos: &Fixture, query: &str, message: &str) -> Value {
    for _ in 0..200 {
        let answer = kos
            .ask("GET", &format!("{PATH}?{query}"))
            .code()
            .send()
            .await;
        assert_eq!(answer.status, 200);
        let answer = answer.json().await;
        let last = answer["entries"].as_array().unwrap().last();
        if last.is_some_and(|entry| entry["message"] == message) {
            return answer;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("no line '{message}'");
}

fn messages(answer: &Value) -> Vec<&str> {
    let entries = answer["entries"].as_array().unwrap().iter();
    entries
        .map(|entry| entry["message"].as_str().unwrap())
        .collect()
}

#[test]
fn a_crash_loses_nothing_that_the_ring_still_holds() {
    run(async {
        let mut kos = Fixture::start().await;
        for number in 0..50 {
            kos.init.log("infer", 6, &format!("before {number}"));
        }
        until_last(&kos, "service=infer", "before 49").await;
        let init = kos.init.clone();
        kos.crash(|_| {
            for number in 0..50 {
                init.log("infer", 6, &format!("while {number}"));
            }
        })
        .await;
        kos.init.log("infer", 6, "after");
        let answer = until_last(&kos, "service=infer&limit=1000", "after").await;
        let mut expected: Vec<String> = (0..50).map(|n| format!("before {n}")).collect();
        expected.extend((0..50).map(|n| format!("while {n}")));
        expected.push("after".to_owned());
        assert_eq!(messages(&answer), expected);
        assert_eq!(answer["log"]["max_bytes"], 64 << 20);

        // What the ring had no room for is counted, in its place.
        kos.crash(|_| {
            for number in 0..RING + 30 {
                init.log("infer", 6, &format!("more {number}"));
            }
        })
        .await;
        let last = format!("more {}", RING + 29);
        let answer = until_last(&kos, "service=infer&limit=1000", &last).await;
        let entries = answer["entries"].as_array().unwrap();
        let gaps: Vec<&Value> = entries
            .iter()
            .filter(|entry| entry["gap"].is_object())
            .collect();
        assert_eq!(gaps.len(), 1);
        assert_eq!(
            (&gaps[0]["gap"]["count"], &gaps[0]["gap"]["cause"]),
            (&30.into(), &"ring".into())
        );
        assert!(gaps[0]["gap"]["after_unix_ms"].is_u64());
        assert_eq!(entries[101]["gap"], gaps[0]["gap"]);
        assert_eq!(entries[102]["message"], "more 30");
        assert_eq!(entries.len(), 102 + RING);
    });
}

#[test]
fn a_reboot_is_told_from_a_gap() {
    run(async {
        let mut kos = Fixture::start().await;
        kos.init.log("infer", 6, "first boot");
        until_last(&kos, "service=infer", "first boot").await;
        let init = kos.init.clone();
        kos.crash(|_| {
            init.reboot_as("fedcba98-7654-4321-8f01-23456789abcd");
            init.log("infer", 6, "second boot");
        })
        .await;
        let answer = until_last(&kos, "service=infer", "second boot").await;
        assert_eq!(messages(&answer), ["first boot", "second boot"]);
        assert_eq!(answer["entries"][0]["boot"], "0123456789ab");
        assert_eq!(answer["entries"][1]["boot"], "fedcba987654");
    });
}

#[test]
fn lines_are_found_by_service_level_time_and_words() {
    run(async {
        let kos = Fixture::start().await;
        kos.init.log("infer", 3, "the disk is full");
        kos.init.log(
            "infer",
            6,
            r#"{"level":"warn","msg":"slow","status":500,"path":"/x"}"#,
        );
        kos.init.log("net", 6, "the address is 10.0.2.15");
        // Lines of one millisecond have no order among services.
        tokio::time::sleep(Duration::from_millis(5)).await;
        kos.init.log("kernel", 6, "last");
        until_last(&kos, "", "last").await;
        for (query, found) in [
            (
                "service=net,kernel",
                &["the address is 10.0.2.15", "last"][..],
            ),
            ("level=warning", &["the disk is full", "slow"]),
            ("level=3", &["the disk is full"]),
            ("search=THE+is+-disk", &["the address is 10.0.2.15"]),
            ("search=status%3D500", &["slow"]),
            ("search=%22disk+is%22", &["the disk is full"]),
            ("since=-1h&service=net", &["the address is 10.0.2.15"]),
            ("until=-1h", &[]),
            ("since=2100-01-01", &[]),
        ] {
            let answer = kos
                .ask("GET", &format!("{PATH}?{query}"))
                .code()
                .send()
                .await;
            assert_eq!(messages(&answer.json().await), found, "{query}");
        }
        let fields = kos
            .ask("GET", &format!("{PATH}?search=slow"))
            .code()
            .send()
            .await
            .json()
            .await;
        assert_eq!(fields["entries"][0]["fields"]["status"], 500);
        assert_eq!(fields["entries"][0]["level"], 4);
        for wrong in [
            "level=8",
            "level=loud",
            "since=yesterday",
            "search=%22open",
            "cursor=x",
            "cursor=00000000-1",
            "direction=up",
            "unknown=1",
        ] {
            let answer = kos
                .ask("GET", &format!("{PATH}?{wrong}"))
                .code()
                .send()
                .await;
            assert_eq!(answer.status, 400, "{wrong}");
            let told = answer.json().await["error"].as_str().unwrap().to_owned();
            assert!(!told.is_empty());
        }
        assert_eq!(kos.ask("GET", PATH).status().await, 401);
    });
}

#[test]
fn pages_lead_in_both_directions_and_a_download_has_all() {
    run(async {
        let kos = Fixture::start().await;
        for number in 0..150 {
            kos.init.log("infer", 6, &format!("line {number}"));
        }
        until_last(&kos, "service=infer", "line 149").await;
        let mut found = Vec::new();
        let mut query = "service=infer&limit=40".to_owned();
        loop {
            let page = kos
                .ask("GET", &format!("{PATH}?{query}"))
                .code()
                .send()
                .await
                .json()
                .await;
            let lines: Vec<String> = messages(&page).into_iter().map(str::to_owned).collect();
            found.splice(0..0, lines);
            let Some(older) = page["older"].as_str() else {
                break;
            };
            query = format!("service=infer&limit=40&cursor={older}");
        }
        let expected: Vec<String> = (0..150).map(|n| format!("line {n}")).collect();
        assert_eq!(found, expected);
        let first = kos.ask(
            "GET",
            &format!("{PATH}?direction=newer&limit=1&service=infer"),
        );
        let first = first.code().send().await.json().await;
        assert_eq!(messages(&first), ["line 0"]);
        let newer = first["newer"].as_str().unwrap();
        let next = format!("{PATH}?direction=newer&limit=2&service=infer&cursor={newer}");
        let next = kos.ask("GET", &next).code().send().await.json().await;
        assert_eq!(messages(&next), ["line 1", "line 2"]);

        let download = format!("{PATH}/download?service=infer&search=line");
        let mut answer = kos.ask("GET", &download).code().send().await;
        assert_eq!(answer.header("content-type"), "application/x-ndjson");
        for number in 0..150 {
            let line: Value = serde_json::from_str(&answer.line().await.unwrap()).unwrap();
            assert_eq!(line["message"], format!("line {number}"));
        }
        assert!(answer.line().await.is_none());
    });
}

#[test]
fn a_follower_resumes_exactly_where_it_was_even_after_a_crash() {
    run(async {
        let mut kos = Fixture::start().await;
        kos.init.log("infer", 6, "old");
        let page = until_last(&kos, "service=infer", "old").await;
        let path = format!(
            "{PATH}/follow?service=infer&cursor={}",
            page["newer"].as_str().unwrap()
        );
        let mut stream = kos.ask("GET", &path).code().send().await;
        kos.init.log("net", 6, "of no interest");
        kos.init.log("infer", 4, "one");
        let (name, id, data) = stream.event().await.unwrap();
        assert_eq!((name.as_str(), &data["message"]), ("log", &"one".into()));
        assert_eq!(data["cursor"], id.as_str());
        drop(stream);
        let init = kos.init.clone();
        kos.crash(|_| init.log("infer", 6, "two")).await;
        kos.init.log("infer", 6, "three");
        let again = kos.ask("GET", &path).code().header("last-event-id", &id);
        let mut stream = again.send().await;
        for expected in ["two", "three"] {
            let (_, _, data) = stream.event().await.unwrap();
            assert_eq!(data["message"], expected);
        }
        // One of another log is told so, and gets what there is.
        let again = kos
            .ask("GET", &path)
            .code()
            .header("last-event-id", "00000000-7");
        let mut stream = again.send().await;
        assert_eq!(stream.event().await.unwrap().0, "lost");
        assert_eq!(stream.event().await.unwrap().2["message"], "old");
    });
}

#[test]
fn a_log_that_was_cut_off_is_mended() {
    run(async {
        let mut kos = Fixture::start().await;
        kos.init.log("infer", 6, "whole");
        kos.init.log("infer", 6, "torn");
        until_last(&kos, "service=infer", "torn").await;
        let log = kos.log();
        let init = kos.init.clone();
        kos.crash(move |_| {
            let file = std::fs::read_dir(log)
                .unwrap()
                .next()
                .unwrap()
                .unwrap()
                .path();
            let bytes = std::fs::read(&file).unwrap();
            std::fs::write(&file, &bytes[..bytes.len() - 10]).unwrap();
            init.reboot_as("fedcba98-7654-4321-8f01-23456789abcd");
            init.log("infer", 6, "next");
        })
        .await;
        let answer = until_last(&kos, "service=infer", "next").await;
        assert_eq!(messages(&answer), ["whole", "next"]);
    });
}

#[test]
fn without_a_directory_the_log_is_in_memory_and_says_so() {
    run(async {
        let mut kos = Fixture::start().await;
        let log = kos.log();
        kos.crash(move |_| std::fs::remove_dir_all(log).unwrap())
            .await;
        kos.init.log("infer", 6, "here");
        let answer = until_last(&kos, "service=infer", "here").await;
        assert_eq!(answer["log"]["is_on_disk"], false);
        let problem = answer["log"]["problem"].as_str().unwrap();
        assert!(problem.contains("in memory"), "{problem}");
    });
}

#[test]
fn a_flood_states_its_gap_when_it_rests() {
    run(async {
        let kos = Fixture::start().await;
        let long = "x".repeat(4000);
        let rounds: u64 = 4;
        for _ in 0..rounds {
            for number in 0..RING {
                kos.init.log("infer", 6, &format!("{number} {long}"));
            }
            tokio::time::sleep(Duration::from_millis(400)).await;
        }
        for _ in 0..200 {
            let path = format!("{PATH}?service=infer&limit=1000");
            let answer = kos.ask("GET", &path).code().send().await.json().await;
            let entries = answer["entries"].as_array().unwrap();
            let gaps = entries
                .iter()
                .filter_map(|entry| entry["gap"]["count"].as_u64());
            let kept = entries
                .iter()
                .filter(|entry| entry["gap"].is_null())
                .count();
            let missing: u64 = gaps.sum();
            if kept as u64 + missing == rounds * RING as u64 {
                assert!(missing > 400, "{missing}");
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("the gap is not told");
    });
}
