//! Models: what is generated, how it streams, and what happens when the engine dies meanwhile.

use std::fs;
use std::path::Path;
use std::sync::{Mutex, MutexGuard};

use anyhow::{Context, Result};
use kos_tests::api::Lines;
use kos_tests::{Guest, OPERATOR, environment};
use serde_json::{Value, json};

const MODEL: &str = "tiny";
const GENERATE: &str = "/api/generate";

/// One test at a time uses the engine: one of them kills it.
fn engine() -> MutexGuard<'static, ()> {
    static ENGINE: Mutex<()> = Mutex::new(());
    ENGINE
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}

#[test]
fn the_model_on_the_disk_is_listed() -> Result<()> {
    let _engine = engine();
    let tags = Guest::shared()?.models().get("/api/tags")?;
    let mut names: Vec<_> = tags["models"]
        .as_array()
        .context("no list")?
        .iter()
        .filter_map(|model| model["name"].as_str())
        .collect();
    names.sort_unstable();
    let mut expected = [format!("{MODEL}:latest"), OPERATOR.to_owned()];
    expected.sort_unstable();
    assert_eq!(names, expected, "{tags}");
    Ok(())
}

#[test]
fn generation_streams_and_is_what_was_committed() -> Result<()> {
    let _engine = engine();
    let guest = Guest::shared()?;
    let expected = expectation()?;
    for api in [guest.models(), guest.api()] {
        let mut question = question(&expected.prompt, expected.tokens);
        question["raw"] = json!(true);
        let mut lines = api.stream(GENERATE, question)?;
        let (mut text, mut pieces, mut last) = (String::new(), 0, Value::Null);
        while let Some(line) = guest.explain(lines.next_json())? {
            assert!(line.get("error").is_none(), "{line}");
            text.push_str(line["response"].as_str().unwrap_or_default());
            pieces += 1;
            last = line;
        }
        assert_eq!(text, expected.text);
        assert_eq!(last["done"], true, "{last}");
        assert_eq!(last["eval_count"], expected.tokens, "{last}");
        assert!(pieces > 4, "it came in {pieces} pieces");
    }
    Ok(())
}

#[test]
fn the_engine_killed_in_mid_stream_fails_the_client_and_comes_back() -> Result<()> {
    let _engine = engine();
    let guest = Guest::shared()?;
    let before = guest.wait_service("infer", |seen| seen.state == "ready")?;
    let mut lines = endless(guest)?;

    let body = json!({ "signal": "SIGKILL" });
    guest.api().post_json("/api/v1/services/infer/kill", body)?;
    let told = loop {
        match lines.next_json() {
            Ok(Some(line)) if line.get("error").is_some() => break true,
            Ok(Some(line)) => assert_ne!(line["done"], true, "it ended in order: {line}"),
            // The end in order without a last line is no sign of a failure.
            Ok(None) => break false,
            Err(_) => break true,
        }
    };
    assert!(told, "the stream ended as if nothing had happened");

    let after = guest.wait_service("infer", |seen| {
        seen.state == "ready" && seen.pid != before.pid
    })?;
    assert!(after.last_failure.contains("SIGKILL"), "{after:?}");
    answers(guest)
}

#[test]
fn a_client_that_leaves_stops_its_generation() -> Result<()> {
    let _engine = engine();
    let guest = Guest::shared()?;
    drop(endless(guest)?);
    // The engine does one thing at a time: it answers the next one only once it has stopped.
    answers(guest)
}

#[test]
fn an_unknown_model_is_an_error_that_names_it() -> Result<()> {
    let answer = Guest::shared()?.models().request(
        "POST",
        GENERATE,
        Some(json!({ "model": "nobody", "prompt": "hello" })),
    )?;
    assert_eq!(answer.status, 404, "{answer}");
    assert!(
        answer.json()?["error"]
            .as_str()
            .is_some_and(|error| error.contains("nobody"))
    );
    Ok(())
}

/// What a client sends to have this continued, always in the same way.
fn question(prompt: &str, tokens: u64) -> Value {
    json!({
        "model": MODEL,
        "prompt": prompt,
        "options": { "temperature": 0, "num_predict": tokens },
    })
}

/// A generation that goes on for as long as a test takes, its first piece read.
fn endless(guest: &Guest) -> Result<Lines> {
    let mut lines = guest.api().stream(GENERATE, question("once", 100_000))?;
    let first = guest
        .explain(lines.next_json())?
        .context("no first piece")?;
    assert_eq!(first["done"], false, "{first}");
    Ok(lines)
}

/// Sees that the engine answers.
fn answers(guest: &Guest) -> Result<()> {
    let mut question = question("once", 4);
    question["stream"] = json!(false);
    let answer = guest.api().post_json(GENERATE, question)?;
    assert_eq!(answer.json()?["done"], true, "{answer}");
    Ok(())
}

/// What the committed reference, made by an independent engine, says about the tiny model.
struct Expectation {
    prompt: String,
    text: String,
    tokens: u64,
}

fn expectation() -> Result<Expectation> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/expected.json");
    let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    let all: Value = serde_json::from_str(&text)?;
    let model = environment::model()?;
    let name = model.file_stem().unwrap_or_default().to_string_lossy();
    let value = all["models"]
        .get(&*name)
        .with_context(|| format!("no {name} in {all}"))?;
    let text = |name: &str| {
        let field = value[name]
            .as_str()
            .with_context(|| format!("no {name} in {value}"));
        field.map(str::to_string)
    };
    let tokens = value["greedy_tokens"]
        .as_array()
        .context("no greedy_tokens")?
        .len();
    Ok(Expectation {
        prompt: text("prompt")?,
        text: text("greedy_text")?,
        tokens: u64::try_from(tokens)?,
    })
}
