//! Answers in the ways of the models, in one piece and letter by letter.

use serde_json::json;

use super::{Call, Part, Reader};

fn call(name: &str, arguments: serde_json::Value) -> Part {
    let arguments = arguments.as_object().unwrap().clone();
    Part::Call(Call {
        name: name.to_owned(),
        arguments,
    })
}

fn text(text: &str) -> Part {
    Part::Text(text.to_owned())
}

fn thinking(text: &str) -> Part {
    Part::Thinking(text.to_owned())
}

/// Texts that follow each other put together.
fn joined(parts: Vec<Part>) -> Vec<Part> {
    let mut out: Vec<Part> = Vec::new();
    for part in parts {
        match (out.last_mut(), part) {
            (Some(Part::Text(before)), Part::Text(more)) => before.push_str(&more),
            (Some(Part::Thinking(before)), Part::Thinking(more)) => before.push_str(&more),
            (_, part) => out.push(part),
        }
    }
    out
}

fn read(answer: &str, tools: bool) -> Vec<Part> {
    let names = || tools.then(|| ["weather".to_owned(), "time".to_owned()].into());
    let mut whole = Reader::new(names(), true);
    let mut at_once = whole.push(answer);
    at_once.extend(whole.finish());
    let mut slow = Reader::new(names(), true);
    let mut letters = Vec::new();
    for letter in answer.chars() {
        letters.extend(slow.push(letter.encode_utf8(&mut [0; 4])));
    }
    letters.extend(slow.finish());
    assert_eq!(joined(at_once), joined(letters.clone()), "{answer:?}");
    joined(letters)
}

#[test]
fn calls_in_the_ways_of_the_models() {
    let paris = || call("weather", json!({"city": "Paris"}));
    let hermes =
        "<tool_call>\n{\"name\": \"weather\", \"arguments\": {\"city\": \"Paris\"}}\n</tool_call>";
    assert_eq!(read(hermes, true), [paris()]);
    let two = format!("Let me look.\n{hermes}\n{hermes}");
    assert_eq!(read(&two, true), [text("Let me look."), paris(), paris()]);
    let llama = r#"{"name": "weather", "parameters": {"city": "Paris"}}"#;
    assert_eq!(read(llama, true), [paris()]);
    assert_eq!(read(&format!("{llama}; {llama}"), true), [paris(), paris()]);
    let mistral = r#"[TOOL_CALLS] [{"name": "weather", "arguments": {"city": "Paris"}}]"#;
    assert_eq!(read(mistral, true), [paris()]);
    let later = r#"[TOOL_CALLS]weather[ARGS]{"city": "Paris"}[TOOL_CALLS]time{}"#;
    assert_eq!(read(later, true), [paris(), call("time", json!({}))]);
    let unmarked = r#"[{"name": "weather", "arguments": "{\"city\": \"Paris\"}"}]"#;
    assert_eq!(read(unmarked, true), [paris()]);
    let generic = r#" {"type": "function", "function": {"name": "time"}}"#;
    assert_eq!(read(generic, true), [call("time", json!({}))]);
}

#[test]
fn what_is_no_call_stays_text() {
    for answer in [
        "{\"name\": \"Ada\", \"arguments\": {}} is a person",
        "{\"answer\": \"}\\\"{\"}",
        "{not json at all",
        "a < b <tool_cal",
        "<tool_call>{\"name\": 5}</tool_call>",
        "[1, 2] and more",
    ] {
        assert_eq!(read(answer, true), [text(answer)]);
    }
    let hermes = "<tool_call>{\"name\": \"weather\"}</tool_call>";
    assert_eq!(read(hermes, false), [text(hermes)]);
}

#[test]
fn thinking_is_apart() {
    assert_eq!(
        read("<think>\nHm. 1 < 2.\n</think>\n\nTwo.", false),
        [thinking("Hm. 1 < 2."), text("Two.")]
    );
    assert_eq!(read("<think>never ends", true), [thinking("never ends")]);
    assert_eq!(
        read(
            "<think>a</think><tool_call>{\"name\": \"time\"}</tool_call>",
            true
        ),
        [thinking("a"), call("time", json!({}))]
    );
    assert_eq!(read("I <think> so", false), [text("I <think> so")]);
    assert_eq!(read("<thin", false), [text("<thin")]);
}

#[test]
fn text_does_not_wait() {
    let mut reader = Reader::new(Some(["weather".to_owned()].into()), true);
    assert_eq!(reader.push("Hello"), [text("Hello")]);
    assert_eq!(reader.push(" world <"), [text(" world")]);
    assert_eq!(reader.push("3"), [text(" <3")]);
}
