//! Calls of tools as models write them.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

/// A tool that a model wants called.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// The tool's name.
    pub name: String,
    /// Its arguments, an object.
    pub arguments: Map<String, Value>,
}

/// Looks for the end of one JSON object or array, going over each byte once.
#[derive(Debug, Default)]
pub(super) struct Scan {
    seen: usize,
    depth: usize,
    in_text: bool,
    escaped: bool,
}

impl Scan {
    /// Where the first value of `text` ends, when it does. `text` only grows from call to call.
    pub(super) fn advance(&mut self, text: &str) -> Option<usize> {
        for byte in text.bytes().skip(self.seen) {
            self.seen += 1;
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' if self.in_text => self.escaped = true,
                b'"' => self.in_text = !self.in_text,
                _ if self.in_text => {}
                b'{' | b'[' => self.depth += 1,
                b'}' | b']' => {
                    self.depth = self.depth.saturating_sub(1);
                    if self.depth == 0 {
                        return Some(self.seen);
                    }
                }
                _ => {}
            }
        }
        None
    }
}

/// The calls that a text is, if it is nothing else. Without marks the name must be one of `tools`:
/// an answer that is JSON is an answer.
pub(super) fn read(text: &str, tools: &BTreeSet<String>) -> Option<Vec<Call>> {
    let text = text.trim();
    if let Some(inner) = text.strip_prefix(super::CALL) {
        let inner = inner.strip_suffix(super::CALL_END).unwrap_or(inner);
        return of_values(inner, None);
    }
    if let Some(inner) = text.strip_prefix(super::CALLS) {
        return of_values(inner, None).or_else(|| named(inner));
    }
    of_values(text, Some(tools))
}

/// Calls as objects, or arrays of them, one after the other.
fn of_values(text: &str, tools: Option<&BTreeSet<String>>) -> Option<Vec<Call>> {
    let mut calls = Vec::new();
    for value in serde_json::Deserializer::from_str(text.trim()).into_iter::<Value>() {
        match value.ok()? {
            Value::Array(values) => {
                for value in values {
                    calls.push(call(value, tools)?);
                }
            }
            value => calls.push(call(value, tools)?),
        }
    }
    (!calls.is_empty()).then_some(calls)
}

fn call(value: Value, tools: Option<&BTreeSet<String>>) -> Option<Call> {
    let Value::Object(mut object) = value else {
        return None;
    };
    if let Some(Value::Object(function)) = object.get_mut("function") {
        object = std::mem::take(function);
    }
    let name = object.get("name")?.as_str()?.to_owned();
    if tools.is_some_and(|tools| !tools.contains(&name)) {
        return None;
    }
    let arguments = ["arguments", "parameters"]
        .iter()
        .find_map(|key| object.remove(*key));
    let arguments = match arguments {
        None | Some(Value::Null) => Map::new(),
        Some(Value::Object(arguments)) => arguments,
        // Some models write them as a text, as OpenAI's API has it.
        Some(Value::String(text)) => serde_json::from_str(&text).ok()?,
        Some(_) => return None,
    };
    Some(Call { name, arguments })
}

/// Mistral's later way: `name[ARGS]{…}`, several after each other with the mark between.
fn named(text: &str) -> Option<Vec<Call>> {
    text.split(super::CALLS)
        .map(|one| {
            let place = one.find(['[', '{'])?;
            let (name, arguments) = one.split_at(place);
            let arguments = arguments.strip_prefix("[ARGS]").unwrap_or(arguments);
            let name = name.trim().to_owned();
            let arguments = serde_json::from_str(arguments.trim()).ok()?;
            (!name.is_empty()).then_some(Call { name, arguments })
        })
        .collect()
}
