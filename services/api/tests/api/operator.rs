//! The operator's page: what is looked at is shown, what changes something is asked first.

use serde_json::{Value, json};

use crate::fixture::{Fixture, run};

/// The page for a request that the fake model understands as this call.
async fn page(kos: &Fixture, call: Value) -> String {
    let say: String = call
        .to_string()
        .bytes()
        .map(|byte| format!("%{byte:02X}"))
        .collect();
    let answer = kos
        .ask("GET", &format!("/operator?say={say}"))
        .code()
        .send()
        .await;
    answer.text().await
}

#[test]
fn what_only_looks_is_answered() {
    run(async {
        let kos = Fixture::start().await;
        let empty = kos.ask("GET", "/operator").code().send().await.text().await;
        assert!(empty.contains("holds no conversation"), "{empty}");
        assert!(
            empty.contains("/operator?say=what%20is%20running%3F"),
            "{empty}"
        );
        let disk = page(&kos, json!({ "call": "disk" })).await;
        assert!(
            disk.contains("Show the data disk") && disk.contains("5.4 GB of 7.8 GB"),
            "{disk}"
        );
        let one = page(&kos, json!({ "call": "service", "service": "infer" })).await;
        assert!(one.contains("infer is ready."), "{one}");
        let models = page(&kos, json!({ "call": "models" })).await;
        assert!(models.contains("tiny-llama:latest"), "{models}");
        for call in [
            "services", "memory", "uptime", "network", "version", "system", "boots", "sessions",
            "logs",
        ] {
            let page = page(&kos, json!({ "call": call })).await;
            assert!(
                page.contains("result-title") && !page.contains("role=\"alert\""),
                "{page}"
            );
            assert!(!page.contains("method=\"post\""), "{page}");
        }
        let none = page(&kos, json!({ "call": "none" })).await;
        assert!(
            none.contains("none of the things") && none.contains("does not chat"),
            "{none}"
        );
    });
}

#[test]
fn what_changes_something_is_asked_first() {
    run(async {
        let kos = Fixture::start().await;
        let before = kos.init.calls();
        let restart = page(&kos, json!({ "call": "restart", "service": "infer" })).await;
        assert!(
            restart.contains("method=\"post\" action=\"/services/infer/restart\""),
            "{restart}"
        );
        let off = page(&kos, json!({ "call": "poweroff" })).await;
        assert!(
            off.contains("action=\"/power/poweroff\"") && off.contains("by hand again"),
            "{off}"
        );
        let unknown = page(&kos, json!({ "call": "stop", "service": "<b>" })).await;
        assert!(
            unknown.contains("no service of this box is called &#60;b&#62;"),
            "{unknown}"
        );
        assert!(!unknown.contains("method=\"post\""), "{unknown}");
        assert_eq!(kos.init.calls(), before, "a GET has changed something");
    });
}

#[test]
fn what_is_no_call_is_said() {
    run(async {
        let kos = Fixture::start().await;
        let nonsense = page(&kos, json!("nonsense")).await;
        assert!(
            nonsense.contains("role=\"alert\"") && nonsense.contains("is not a call"),
            "{nonsense}"
        );
        let long = "x".repeat(1001);
        let answer = kos
            .ask("GET", &format!("/operator?say={long}"))
            .code()
            .send()
            .await;
        assert!(answer.text().await.contains("1001 bytes, allowed: 1000"));
        let stranger = kos.ask("GET", "/operator").status().await;
        assert_ne!(stranger, 200);
    });
}
