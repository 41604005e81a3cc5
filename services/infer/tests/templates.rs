//! Chat templates as `transformers` renders them: ours of `expected/templates`, and any that
//! `expected/templates.py` wrote to the file that `$TEMPLATES` names.

#![allow(
    clippy::unwrap_used,
    reason = "a test says by its panic what went wrong"
)]

use std::path::PathBuf;

use kos_infer::template::{Conversation, Message, Template};
use serde::Deserialize;
use serde_json::Value;

#[derive(Deserialize)]
struct Expected {
    name: String,
    template: String,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    messages: Vec<Value>,
    #[serde(default)]
    tools: Vec<Value>,
    #[serde(default)]
    think: Option<bool>,
    #[serde(default)]
    text: Option<String>,
    #[serde(default)]
    error: Option<String>,
}

fn message(value: &Value) -> Message {
    let text = |key: &str| value[key].as_str().unwrap_or_default().to_owned();
    Message {
        thinking: text("reasoning_content"),
        tool_calls: value["tool_calls"].as_array().cloned().unwrap_or_default(),
        tool_name: text("name"),
        tool_call_id: text("tool_call_id"),
        ..Message::new(text("role"), text("content"))
    }
}

/// What is rendered otherwise than expected, in words.
fn difference(template: &Result<Template, String>, case: &Case) -> Option<String> {
    let conversation = Conversation {
        messages: case.messages.iter().map(message).collect(),
        tools: case.tools.clone(),
        think: case.think,
    };
    let found = template
        .as_ref()
        .map_err(Clone::clone)
        .and_then(|template| {
            let rendered = template.render(&conversation);
            rendered.map_err(|error| format!("{error:#}"))
        });
    match (found, &case.text, &case.error) {
        (Ok(found), Some(text), _) if found == *text => None,
        (Ok(found), Some(text), _) => {
            let same = found.bytes().zip(text.bytes()).take_while(|(a, b)| a == b);
            let place = found.floor_char_boundary(same.count());
            let after = |text: &str| text[place..].chars().take(60).collect::<String>();
            Some(format!(
                "at byte {place}: found {:?}, expected {:?}",
                after(&found),
                after(text)
            ))
        }
        (Err(_), None, Some(_)) => None,
        // Python trips over what nothing is: a template that means to refuse says so.
        (Ok(_), None, Some(error)) if !error.starts_with("TemplateError") => None,
        (Err(error), ..) => Some(format!("fails: {error}")),
        (Ok(found), None, error) => Some(format!("should have failed with {error:?}: {found:?}")),
    }
}

fn check(path: PathBuf) {
    let all: Vec<Expected> = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    assert!(!all.is_empty());
    let mut wrong = Vec::new();
    for expected in &all {
        let template = Template::compile(&expected.template, ("<s>", "</s>"));
        let template = template.map_err(|error| format!("{error:#}"));
        for (place, case) in expected.cases.iter().enumerate() {
            if let Some(difference) = difference(&template, case) {
                wrong.push(format!("{}, case {place}: {difference}", expected.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn our_templates_are_rendered_as_transformers_does() {
    check(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/expected/templates.json"));
}

#[test]
fn others_templates_are_rendered_as_transformers_does() {
    if let Some(path) = std::env::var_os("TEMPLATES") {
        check(path.into());
    }
}
