//! `/api/v1`: services, machine and settings.

use serde_json::json;

use crate::fixture::{Fixture, run};

#[test]
fn services_are_listed_and_obey() {
    run(async {
        let kos = Fixture::start().await;
        let list = kos.ask("GET", "/api/v1/services").code().send().await;
        let list = list.json().await;
        assert_eq!(list["services"].as_array().unwrap().len(), 3);
        assert_eq!(list["services"][1]["name"], "infer");
        assert_eq!(list["services"][1]["state"], "ready");

        let post = async |path: &str| kos.ask("POST", path).code().status().await;
        assert_eq!(post("/api/v1/services/infer/stop").await, 202);
        let one = kos.ask("GET", "/api/v1/services/infer").code().send().await;
        assert_eq!(one.json().await["state"], "stopped");
        assert_eq!(post("/api/v1/services/infer/start").await, 202);
        assert_eq!(post("/api/v1/services/infer/restart").await, 202);
        let kill = kos.ask("POST", "/api/v1/services/infer/kill").code();
        let kill = kill.json(&json!({ "signal": "SIGKILL" }));
        assert_eq!(kill.status().await, 202);
        let calls = ["stop infer", "start infer", "restart infer", "kill infer 9"];
        assert_eq!(kos.init.calls(), calls);

        let kill = kos.ask("POST", "/api/v1/services/infer/kill").code();
        let kill = kill.json(&json!({ "signal": "SIGNONE" })).send().await;
        assert_eq!(kill.status, 400);
        assert!(kill.text().await.contains("SIGKILL"));
        assert_eq!(post("/api/v1/services/infer/explode").await, 404);
    });
}

#[test]
fn refusals_have_fitting_statuses() {
    run(async {
        let kos = Fixture::start().await;
        let missing = kos
            .ask("GET", "/api/v1/services/nobody")
            .code()
            .send()
            .await;
        assert_eq!(missing.status, 404);
        assert!(missing.text().await.contains("no service 'nobody'"));
        let log = kos
            .ask("GET", "/api/v1/services/nobody/log?follow=1")
            .code();
        assert_eq!(log.status().await, 404);
        let denied = kos
            .ask("POST", "/api/v1/services/net/stop")
            .code()
            .send()
            .await;
        assert_eq!(denied.status, 403);
        assert!(denied.text().await.contains("does not let it touch net"));
        kos.init.set_state("infer", "stopping", "");
        let busy = kos.ask("POST", "/api/v1/services/infer/start").code();
        assert_eq!(busy.status().await, 409);
    });
}

#[test]
fn the_machine_is_described_and_turned_off() {
    run(async {
        let kos = Fixture::start().await;
        let system = kos.ask("GET", "/api/v1/system").code().send().await;
        let system = system.json().await;
        assert_eq!(system["version"], "0.1.0");
        assert_eq!(system["data"]["kind"], "disk");
        assert_eq!(system["boot"]["phases"][0]["name"], "mounts");
        assert_eq!(system["processes"]["orphans_reaped"], 3);
        assert!(system["memory"]["total"].as_u64().unwrap() > 0);
        assert_eq!(system["store"]["warning"], json!(null));
        let post = async |path: &str| kos.ask("POST", path).code().status().await;
        assert_eq!(post("/api/v1/system/reboot").await, 202);
        assert_eq!(post("/api/v1/system/poweroff").await, 202);
        assert_eq!(post("/api/v1/system/explode").await, 404);
        assert_eq!(kos.init.calls(), ["reboot", "power off"]);
    });
}

#[test]
fn settings_are_kept() {
    run(async {
        let mut kos = Fixture::start().await;
        let put = kos.ask("PUT", "/api/v1/settings").code();
        let put = put.json(&json!({ "default_model": "tiny" }));
        assert_eq!(put.status().await, 200);
        let wrong = kos.ask("PUT", "/api/v1/settings").code();
        let wrong = wrong.json(&json!({ "defualt_model": "tiny" }));
        assert_eq!(wrong.status().await, 400);
        kos.restart().await;
        let settings = kos.ask("GET", "/api/v1/settings").code().send().await;
        assert_eq!(settings.json().await["default_model"], "tiny");
    });
}

#[test]
fn a_service_is_frozen_quarantined_and_released() {
    run(async {
        let kos = Fixture::start().await;
        for (action, state) in [
            ("freeze", "frozen"),
            ("thaw", "ready"),
            ("quarantine", "quarantined"),
            ("release", "stopped"),
        ] {
            let path = format!("/api/v1/services/infer/{action}");
            assert_eq!(
                kos.ask("POST", &path).code().status().await,
                202,
                "{action}"
            );
            let one = kos.ask("GET", "/api/v1/services/infer").code().send().await;
            assert_eq!(one.json().await["state"], state);
        }
        let why = kos.ask("POST", "/api/v1/services/infer/quarantine").code();
        let why = why.json(&json!({ "reason": "it attacked" }));
        assert_eq!(why.status().await, 202);
        let calls = kos.init.calls();
        assert!(calls.contains(&"quarantine infer by the operator".to_owned()));
        assert!(calls.contains(&"quarantine infer it attacked".to_owned()));
    });
}

#[test]
fn a_manifest_is_read_written_and_removed() {
    run(async {
        let kos = Fixture::start().await;
        let path = "/api/v1/services/agent/manifest";
        let put = async |text: &str| kos.ask("PUT", path).code().form(text).send().await;
        let report = put("name = \"agent\"\n").await.json().await;
        assert_eq!(report["added"][0], "agent");
        assert_eq!(report["unchanged"], 3);
        let text = kos.ask("GET", path).code().send().await.text().await;
        assert_eq!(text, "name = \"agent\"\n");
        let refused = put("name = \"agent\"\nmemory = \"lots\"\n").await;
        assert_eq!(refused.status, 422);
        let problem = refused.json().await;
        assert_eq!(problem["file"], "agent.toml");
        assert_eq!(problem["line"], 2);
        assert_eq!(problem["key"], "limits.memory");
        let report = kos.ask("DELETE", path).code().send().await.json().await;
        assert_eq!(report["removed"][0], "agent");
        let report = kos.ask("POST", "/api/v1/reload").code().send().await;
        assert_eq!(report.json().await["unchanged"], 3);
        let facts = kos.ask("GET", "/api/v1/services/infer/facts").code();
        let facts = facts.send().await.json().await;
        assert_eq!(facts["limits"]["memory"], 64 << 20);
        assert_eq!(facts["limits"]["disk"], serde_json::Value::Null);
        assert_eq!(facts["memory_pressure"]["some"], 12.5);
    });
}

#[test]
fn the_page_of_a_service_shows_what_is_wrong_with_its_manifest() {
    run(async {
        let kos = Fixture::start().await;
        let page = kos.ask("GET", "/services/infer").code().send().await;
        assert_eq!(page.status, 200);
        let page = page.text().await;
        assert!(
            page.contains("64 MiB") && page.contains("waits for memory 12 %"),
            "{page}"
        );
        let wrong = "text=name+%3D+%22infer%22%0D%0Amemory+%3D+%22lots%22%0D%0A";
        let save = kos
            .ask("POST", "/services/infer/manifest")
            .code()
            .form(wrong);
        let page = save.send().await;
        assert_eq!(page.status, 422);
        let page = page.text().await;
        assert!(page.contains("data-problem-line=\"2\""), "{page}");
        // What was written is not lost.
        assert!(page.contains("memory = &#34;lots&#34;") || page.contains("memory = \"lots\""));
        let missing = kos.ask("GET", "/services/nobody").code().status().await;
        assert_eq!(missing, 404);
    });
}
