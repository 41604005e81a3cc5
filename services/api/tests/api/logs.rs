//! Logs and changes, as pages and as server-sent events.

use crate::fakes::init::RING;
use crate::fixture::{Fixture, run};

#[test]
fn a_log_is_read_in_pages() {
    run(async {
        let kos = Fixture::start().await;
        for number in 0..5 {
            kos.init.log("infer", 6, &format!("line {number}"));
        }
        let path = "/api/v1/services/infer/log";
        let page = kos.ask("GET", &format!("{path}?max=2")).code();
        let page = page.send().await.json().await;
        assert_eq!(page["entries"][1]["message"], "line 1");
        assert_eq!(page["next"], 2);
        let tail = kos.ask("GET", &format!("{path}?tail=2")).code();
        let tail = tail.send().await.json().await;
        assert_eq!(tail["entries"][0]["message"], "line 3");
        assert_eq!(tail["next"], 5);
        let kernel = kos.ask("GET", "/api/v1/services/kernel/log").code();
        assert_eq!(kernel.status().await, 200);
        let wrong = kos.ask("GET", &format!("{path}?cursor=x")).code();
        assert_eq!(wrong.status().await, 400);
    });
}

#[test]
fn a_followed_log_resumes_where_it_broke() {
    run(async {
        let kos = Fixture::start().await;
        kos.init.log("infer", 6, "first");
        let path = "/api/v1/services/infer/log?follow=1&cursor=0";
        let mut stream = kos.ask("GET", path).code().send().await;
        assert_eq!(stream.header("content-type"), "text/event-stream");
        let (name, id, data) = stream.event().await.unwrap();
        assert_eq!((name.as_str(), id.as_str()), ("log", "0"));
        assert_eq!(data["message"], "first");
        kos.init.log("infer", 4, "second");
        let (_, id, data) = stream.event().await.unwrap();
        assert_eq!((id.as_str(), &data["level"]), ("1", &4.into()));
        drop(stream);

        kos.init.log("infer", 6, "third");
        let again = kos.ask("GET", path).code().header("last-event-id", &id);
        let mut stream = again.send().await;
        let (_, id, data) = stream.event().await.unwrap();
        assert_eq!(id, "2");
        assert_eq!(data["message"], "third");

        // Lines that the ring lost in the meantime are counted.
        for number in 0..RING + 10 {
            kos.init.log("infer", 6, &format!("more {number}"));
        }
        let again = kos.ask("GET", path).code().header("last-event-id", "2");
        let mut stream = again.send().await;
        let (name, _, data) = stream.event().await.unwrap();
        assert_eq!((name.as_str(), &data["dropped"]), ("dropped", &10.into()));
        let (_, id, _) = stream.event().await.unwrap();
        assert_eq!(id, "13");

        // A cursor of an earlier boot begins anew.
        let again = kos.ask("GET", path).code().header("last-event-id", "99999");
        let mut stream = again.send().await;
        assert_eq!(stream.event().await.unwrap().0, "dropped");
        let (_, id, _) = stream.event().await.unwrap();
        assert_eq!(id, "13");
    });
}

#[test]
fn changes_arrive_as_events() {
    run(async {
        let kos = Fixture::start().await;
        let mut events = kos.ask("GET", "/api/v1/events").code().send().await;
        let (name, _, data) = events.event().await.unwrap();
        assert_eq!(name, "services");
        assert_eq!(data["services"][1]["state"], "ready");
        kos.init.set_state("infer", "backoff", "killed by SIGKILL");
        loop {
            let (_, _, data) = events.event().await.unwrap();
            if data["services"][1]["state"] == "backoff" {
                assert_eq!(data["services"][1]["reason"], "killed by SIGKILL");
                break;
            }
        }
    });
}

#[test]
fn the_console_is_kept_up_to_date() {
    run(async {
        let kos = Fixture::start().await;
        let mut stream = kos.ask("GET", "/console/stream").code().send().await;
        kos.init.set_state("infer", "failed", "exited <5> times");
        loop {
            let line = stream.line().await.unwrap();
            if line.contains("exited") {
                assert!(line.contains("exited &#60;5&#62; times"), "{line}");
                break;
            }
        }
    });
}

#[test]
fn the_service_stops_with_open_streams() {
    run(async {
        let mut kos = Fixture::start().await;
        let mut log = kos
            .ask("GET", "/api/v1/services/infer/log?follow=1")
            .code()
            .send()
            .await;
        let mut chat = kos
            .ask_ollama("POST", "/api/generate")
            .code()
            .json(&serde_json::json!({ "prompt": "silence" }))
            .send()
            .await;
        assert!(chat.line().await.unwrap().contains("response"));
        assert!(kos.api.stop().await.success());
        assert!(log.event().await.is_none());
        assert!(chat.line().await.unwrap().contains("error"));
        assert!(chat.line().await.is_none());
    });
}
