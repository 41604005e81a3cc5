//! Ollama's routes, on both ports.

use serde_json::{Value, json};

use crate::client::Answer;
use crate::fixture::{Fixture, run};

async fn generate(kos: &Fixture, prompt: &str) -> Answer {
    let ask = kos.ask_ollama("POST", "/api/generate").code();
    ask.json(&json!({ "prompt": prompt })).send().await
}

#[test]
fn routes_are_passed_through_without_secrets() {
    run(async {
        let kos = Fixture::start().await;
        let root = kos.ask_ollama("GET", "/").code().send().await;
        assert_eq!(root.text().await.trim(), "Ollama is running");
        assert_eq!(kos.ask_ollama("HEAD", "/").code().status().await, 200);
        let version = kos.ask("GET", "/api/version").code().send().await;
        assert_eq!(version.json().await["version"], "0.1.0");
        assert_eq!(
            kos.ask_ollama("GET", "/api/v1/services")
                .code()
                .status()
                .await,
            404
        );

        let ask = kos.ask("POST", "/api/echo").code().cookie(&"0".repeat(64));
        let ask = ask.header("x-own", "1").json(&json!("x".repeat(200_000)));
        let echo = ask.send().await.json().await;
        assert_eq!(echo["bytes"], 200_002);
        let headers = echo["headers"].to_string();
        assert!(headers.contains("x-own"), "{headers}");
        assert!(!headers.contains("authorization"), "{headers}");
        assert!(!headers.contains("cookie"), "{headers}");

        let large = kos.ask("POST", "/api/echo").code();
        let large = large.json(&json!("x".repeat(33 << 20))).send().await;
        assert_eq!(large.status, 413);
    });
}

#[test]
fn answers_stream_and_a_client_that_leaves_is_noticed() {
    run(async {
        let mut kos = Fixture::start().await;
        let whole = generate(&kos, "hello").await;
        assert_eq!(whole.header("content-type"), "application/x-ndjson");
        let text = whole.text().await;
        let last: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
        assert_eq!(last["done_reason"], "stop");

        // The first line arrives although the second never comes.
        let mut answer = generate(&kos, "silence").await;
        assert!(answer.line().await.unwrap().contains("response"));
        assert_eq!(*kos.infer.left.borrow(), 0);
        drop(answer);
        kos.infer.left.wait_for(|left| *left == 1).await.unwrap();
    });
}

#[test]
fn an_answer_that_breaks_off_ends_with_an_error() {
    run(async {
        let kos = Fixture::start().await;
        kos.init.set_state("infer", "backoff", "killed by SIGKILL");
        let answer = generate(&kos, "die").await;
        assert_eq!(answer.status, 200);
        let text = answer.text().await;
        let lines: Vec<Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert!(lines[0]["response"].is_string());
        let error = lines.last().unwrap()["error"].as_str().unwrap();
        assert!(error.contains("backoff, killed by SIGKILL"), "{error}");
    });
}

#[test]
fn an_absent_service_is_named_with_its_reason() {
    run(async {
        let mut kos = Fixture::start().await;
        kos.init.set_state("infer", "starting", "waits for net");
        kos.infer.stop().await;
        let answer = kos.ask("GET", "/api/tags").code().send().await;
        assert_eq!(answer.status, 503);
        assert_eq!(
            answer.json().await["error"],
            "the inference service is not ready: starting, waits for net"
        );
    });
}
