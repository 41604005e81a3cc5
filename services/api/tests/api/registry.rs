//! Pulls and pushes, with a registry on this machine.

use serde_json::{Value, json};

use crate::fakes::blobs::digest;
use crate::fakes::registry::{Registry, lines};
use crate::fixture::{Fixture, run};

/// Larger than what sockets hold, so that a cut is a cut.
fn file() -> Vec<u8> {
    (0..3_000_000_u32)
        .map(|number| (number % 251) as u8)
        .collect()
}

async fn ask(kos: &Fixture, path: &str, more: Value) -> Vec<Value> {
    let mut body = json!({ "insecure": true });
    body.as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    let answer = kos.ask_ollama("POST", path).code().json(&body).send().await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-type"), "application/x-ndjson");
    lines(&answer.text().await)
}

fn last(lines: &[Value]) -> &Value {
    lines.last().unwrap()
}

#[test]
fn a_pull_goes_on_where_it_broke_and_tells_how_far_it_is() {
    run(async {
        let kos = Fixture::start().await;
        let registry = Registry::start().await;
        let wanted = registry.publish("me/tiny", &file());
        registry.shelf().cuts = vec![1_000_000, 700_000];
        let name = format!("{}/me/tiny", registry.host());
        let lines = ask(&kos, "/api/pull", json!({ "model": name })).await;
        assert_eq!(lines[0], json!({ "status": "pulling manifest" }));
        assert_eq!(last(&lines), &json!({ "status": "success" }), "{lines:?}");
        let mine: Vec<&Value> = lines
            .iter()
            .filter(|line| line["digest"] == wanted)
            .collect();
        assert_eq!(mine[0]["total"], 3_000_000);
        assert!(mine.last().unwrap()["completed"] == 3_000_000, "{mine:?}");
        assert_eq!(kos.infer.blobs.whole(&wanted), Some(file()));
        assert!(
            kos.infer
                .blobs
                .manifest(&format!("{name}:latest"))
                .is_some()
        );
        let begins = registry.shelf().begins.clone();
        let further: Vec<_> = begins.iter().filter(|&&begin| begin > 0).collect();
        assert_eq!(further.len(), 2, "{begins:?}");
        assert!(further[0] < further[1], "{begins:?}");

        // A second pull finds everything.
        registry.shelf().begins.clear();
        ask(&kos, "/api/pull", json!({ "model": name })).await;
        assert!(registry.shelf().begins.is_empty());
    });
}

#[test]
fn what_is_wrong_is_told_and_not_kept() {
    run(async {
        let kos = Fixture::start().await;
        let registry = Registry::start().await;
        let host = registry.host().to_owned();
        let pull = async |more: Value| {
            let lines = ask(&kos, "/api/pull", more).await;
            last(&lines)["error"]
                .as_str()
                .unwrap_or_default()
                .to_owned()
        };
        let error = pull(json!({ "model": format!("{host}/me/none") })).await;
        assert_eq!(error, "pull model manifest: file does not exist");

        let wanted = registry.publish("me/tiny", &file());
        registry
            .shelf()
            .blobs
            .insert(wanted.clone(), vec![0; 3_000_000]);
        let error = pull(json!({ "model": format!("{host}/me/tiny") })).await;
        assert!(error.contains("digest mismatch"), "{error}");
        registry.shelf().blobs.insert(wanted.clone(), vec![0; 5]);
        let error = pull(json!({ "model": format!("{host}/me/tiny") })).await;
        assert!(error.contains("5 bytes"), "{error}");
        assert_eq!(kos.infer.blobs.whole(&wanted), None);
        let name = format!("{host}/me/tiny:latest");
        assert!(kos.infer.blobs.manifest(&name).is_none());

        let page: axum::body::Bytes = "<html>".into();
        registry
            .shelf()
            .manifests
            .insert("me/page:latest".to_owned(), page);
        let error = pull(json!({ "model": format!("{host}/me/page") })).await;
        assert!(error.contains("no manifest"), "{error}");

        for (asked, status, part) in [
            (json!({ "model": "a b" }), 400, "invalid model name"),
            (
                json!({ "model": "http://127.0.0.1:1/a/b" }),
                400,
                "insecure",
            ),
            (json!({}), 400, "invalid model name"),
            (
                json!({ "model": format!("{host}/me/none"), "insecure": true, "stream": false }),
                500,
                "file does not exist",
            ),
        ] {
            let answer = kos
                .ask_ollama("POST", "/api/pull")
                .code()
                .json(&asked)
                .send()
                .await;
            assert_eq!(answer.status, status, "{asked}");
            let text = answer.json().await["error"].as_str().unwrap().to_owned();
            assert!(text.contains(part), "{asked}: {text}");
        }
        let stranger = kos
            .ask_ollama("POST", "/api/pull")
            .json(&json!({ "model": "a" }));
        assert_eq!(stranger.status().await, 401);
    });
}

#[test]
fn a_token_is_asked_for_with_the_name_and_password_that_were_given() {
    run(async {
        let kos = Fixture::start().await;
        let registry = Registry::start().await;
        registry.publish("me/tiny", &file());
        registry.shelf().token = Some("secret".to_owned());
        let name = format!("{}/me/tiny", registry.host());
        let asked = json!({ "model": name, "username": "Aladdin", "password": "open sesame" });
        let lines = ask(&kos, "/api/pull", asked).await;
        assert_eq!(last(&lines), &json!({ "status": "success" }), "{lines:?}");
        let shown = registry.shelf().shown.clone();
        assert_eq!(shown, ["Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="]);
    });
}

#[test]
fn a_client_that_leaves_stops_its_pull_and_what_has_come_is_kept() {
    run(async {
        let kos = Fixture::start().await;
        let registry = Registry::start().await;
        let wanted = registry.publish("me/tiny", &file());
        registry.shelf().cuts = vec![1_000_000, 0, 0, 0, 0, 0, 0];
        let body = json!({ "model": format!("{}/me/tiny", registry.host()), "insecure": true });
        let mut answer = kos
            .ask_ollama("POST", "/api/pull")
            .code()
            .json(&body)
            .send()
            .await;
        while kos.infer.blobs.part(&wanted) == 0 {
            assert!(answer.line().await.is_some());
        }
        drop(answer);
        registry.shelf().cuts.clear();
        let lines = ask(&kos, "/api/pull", body).await;
        assert_eq!(last(&lines), &json!({ "status": "success" }), "{lines:?}");
        assert_eq!(kos.infer.blobs.whole(&wanted), Some(file()));
    });
}

#[test]
fn a_push_sends_what_the_registry_lacks() {
    run(async {
        let kos = Fixture::start().await;
        let registry = Registry::start().await;
        registry.shelf().token = Some("secret".to_owned());
        let name = format!("{}/me/tiny", registry.host());
        let layer = |bytes: &[u8]| json!({ "digest": digest(bytes), "size": bytes.len() });
        let manifest = json!({ "config": layer(b"{}"), "layers": [layer(&file())] }).to_string();
        kos.infer.blobs.add(b"{}");
        kos.infer.blobs.add(&file());
        kos.infer
            .blobs
            .add_manifest(&format!("{name}:latest"), manifest.clone());
        let lines = ask(&kos, "/api/push", json!({ "model": name })).await;
        assert_eq!(lines[0], json!({ "status": "retrieving manifest" }));
        assert_eq!(last(&lines), &json!({ "status": "success" }), "{lines:?}");
        let shelf = registry.shelf();
        assert_eq!(shelf.blobs.get(&digest(&file())), Some(&file()));
        assert_eq!(shelf.manifests["me/tiny:latest"], manifest);
    });
}
