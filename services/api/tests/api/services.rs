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

/// Types a text into the editor of a service's page and saves it: the status and the page that comes.
async fn type_in(kos: &Fixture, name: &str, text: &str) -> (u16, String) {
    let text: String = text
        .chars()
        .map(|c| match c {
            ' ' => "+".to_owned(),
            c if c.is_ascii_alphanumeric() => c.to_string(),
            c => format!("%{:02X}", u32::from(c)),
        })
        .collect();
    let ask = kos.ask("POST", &format!("/services/{name}/manifest"));
    let answer = ask.code().form(&format!("text={text}")).send().await;
    (answer.status.as_u16(), answer.text().await)
}

#[test]
fn a_service_is_added_and_removed_in_the_console() {
    run(async {
        let kos = Fixture::start().await;
        // A name that is taken is not a new service, and its manifest stays what it is.
        let (status, page) = type_in(&kos, "new", "# mine\nname = \"infer\"\n").await;
        assert_eq!(status, 409, "{page}");
        assert!(page.contains("Line 2</a>, <code>name</code>: found &#39;infer&#39;"));
        assert!(page.contains("# mine"), "{page}");
        assert!(page.contains("action=\"/services/new/manifest\""), "{page}");
        assert!(kos.init.calls().is_empty());
        // One that is wrong is still new: its name can change.
        let wrong = "name = \"agent\"\nmemory = \"lots\"\n";
        let (status, page) = type_in(&kos, "new", wrong).await;
        assert_eq!(status, 422, "{page}");
        assert!(page.contains("action=\"/services/new/manifest\""), "{page}");
        let (status, page) = type_in(&kos, "new", "name = \"agent\"\n# mine\n").await;
        assert_eq!(status, 200, "{page}");
        assert!(page.contains("<dt>Added</dt><dd>agent</dd>"), "{page}");
        assert!(page.contains("data-page=\"/services/agent\""), "{page}");
        assert_eq!(kos.init.calls(), ["set manifest agent"]);
        // Removed by mistake, it is still at hand.
        let remove = kos.ask("POST", "/services/agent/remove").code();
        let page = remove.send().await.text().await;
        assert!(page.contains("<dt>Removed</dt><dd>agent</dd>"), "{page}");
        assert!(page.contains("# mine"), "{page}");
        assert!(page.contains("action=\"/services/new/manifest\""), "{page}");
        let back = kos.ask("GET", "/services/infer/manifest").code();
        assert_eq!(back.send().await.header("location"), "/services/infer");
    });
}

#[test]
fn a_quarantine_says_why() {
    run(async {
        let kos = Fixture::start().await;
        let page = kos.ask("GET", "/services/infer").code().send().await;
        let page = page.text().await;
        let fields = page.matches("type=\"hidden\" name=\"reason\"").count();
        assert_eq!(fields, 1, "{page}");
        let form = |reason: &str| {
            let ask = kos.ask("POST", "/services/infer/quarantine").code();
            ask.form(&format!("reason={reason}"))
        };
        assert_eq!(form("it+attacks").status().await, 303);
        assert_eq!(form("").status().await, 303);
        // As a form without a field is sent.
        let bare = kos.ask("POST", "/services/infer/release").code();
        assert_eq!(bare.status().await, 303);
        let calls = [
            "quarantine infer it attacks",
            "quarantine infer by the operator",
            "release infer",
        ];
        assert_eq!(kos.init.calls(), calls);
    });
}

#[test]
fn people_get_errors_as_pages_and_programs_as_json() {
    run(async {
        let kos = Fixture::start().await;
        let ask = async |path: &str, accept: &str| {
            let ask = kos.ask("GET", path).code().header("accept", accept);
            let answer = ask.send().await;
            let kind = answer.header("content-type").to_owned();
            (answer.status.as_u16(), kind, answer.text().await)
        };
        let browser = "text/html,application/xhtml+xml,*/*;q=0.8";
        let (status, kind, page) = ask("/services/nobody", browser).await;
        assert_eq!((status, kind.as_str()), (404, "text/html; charset=utf-8"));
        assert!(
            page.contains("<h1>Not here</h1><p>no service &#39;nobody&#39;"),
            "{page}"
        );
        for (path, accept) in [
            ("/services/nobody", "*/*"),
            ("/api/v1/services/nobody", browser),
        ] {
            let (status, kind, body) = ask(path, accept).await;
            assert_eq!((status, kind.as_str()), (404, "application/json"), "{path}");
            assert!(body.starts_with("{\"error\":"), "{body}");
        }
        let piece = kos.ask("GET", "/services/nobody/now").code();
        let piece = piece.header("accept", browser).header("hx-request", "true");
        assert_eq!(
            piece.send().await.header("content-type"),
            "application/json"
        );
    });
}
