//! Which tools a model may call, and which it has to.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::super::error::Refused;
use super::super::request::read;
use crate::constrain::{Document, Grammar, Manner};
use crate::library::Details;

/// Most calls at once that a model is made to write: it may stop after each, but one that is fond
/// of calls would not.
const MAX_CALLS: usize = 8;

/// What requests say of tools.
#[derive(Debug, Deserialize)]
struct Said {
    #[serde(default)]
    tools: Option<Vec<Map<String, Value>>>,
    #[serde(default)]
    tool_choice: Value,
    #[serde(default)]
    parallel_tool_calls: Option<bool>,
}

/// The same tools once more, with their arguments in the order in which they were written.
#[derive(Debug, Deserialize)]
struct Ordered {
    #[serde(default)]
    tools: Option<Vec<OrderedTool>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct OrderedTool {
    /// Chats have it one level deeper than responses.
    function: Option<Box<OrderedTool>>,
    name: String,
    parameters: Option<Document>,
}

/// The tools of a request, after its choice.
#[derive(Debug, Default)]
pub(super) struct Tools {
    /// Those that the model is told of, as chats write them.
    pub(super) offered: Vec<Value>,
    /// Those of which one has to be called, with the schemas of their arguments; none when the
    /// answer may be a text.
    forced: Vec<(String, Option<Document>)>,
    /// Most calls then.
    most: usize,
}

fn name(tool: &Value) -> Option<&str> {
    tool.pointer("/function/name")?.as_str()
}

/// A tool as chats write it.
fn as_in_chats(mut tool: Map<String, Value>) -> Value {
    if tool.contains_key("function") || !tool.contains_key("name") {
        return tool.into();
    }
    let kind = tool.remove("type");
    json!({ "type": kind, "function": tool })
}

impl Tools {
    /// What a body's `tool_choice` leaves of its tools.
    pub(super) fn read(body: &[u8]) -> Result<Self, Refused> {
        let said: Said = read(body)?;
        let offered = said.tools.unwrap_or_default().into_iter();
        let mut tools = Self::chosen(
            offered.map(as_in_chats).collect(),
            &said.tool_choice,
            said.parallel_tool_calls,
        )?;
        if !tools.forced.is_empty() {
            let ordered = read::<Ordered>(body)?.tools.unwrap_or_default();
            for tool in ordered {
                let function = tool.function.map(|function| *function);
                let OrderedTool {
                    name, parameters, ..
                } = match function {
                    Some(function) => function,
                    None => OrderedTool {
                        function: None,
                        ..tool
                    },
                };
                let forced = tools.forced.iter_mut().find(|forced| forced.0 == name);
                if let Some(forced) = forced {
                    forced.1 = parameters;
                }
            }
        }
        Ok(tools)
    }

    fn chosen(
        offered: Vec<Value>,
        choice: &Value,
        parallel: Option<bool>,
    ) -> Result<Self, Refused> {
        // It checks their form, too.
        let names = super::super::ask::tool_names(&offered)?.unwrap_or_default();
        let all = || names.iter().cloned().collect::<Vec<_>>();
        let most = if parallel == Some(false) {
            1
        } else {
            MAX_CALLS
        };
        let tools = |offered, forced: Vec<String>| Self {
            offered,
            forced: forced.into_iter().map(|name| (name, None)).collect(),
            most,
        };
        let listed = || match names.is_empty() {
            true => "none, as there are no tools".to_owned(),
            false => format!("one of {names:?}"),
        };
        let known = |name: Option<&str>| {
            let name = name.unwrap_or_default();
            names.get(name).cloned().ok_or_else(|| {
                let allowed = listed();
                Refused::bad(format!(
                    "tool_choice names the tool {name:?}, allowed: {allowed}"
                ))
            })
        };
        let must = |mode: &str| match mode {
            "auto" => Ok(false),
            "required" if names.is_empty() => Err(Refused::bad(
                "tool_choice is \"required\", but there are no tools",
            )),
            "required" => Ok(true),
            other => Err(Refused::bad(format!(
                "tool_choice is {other:?}, allowed: \"auto\", \"none\", \"required\", a tool"
            ))),
        };
        match choice {
            Value::Null => Ok(tools(offered, Vec::new())),
            Value::String(mode) if mode == "none" => Ok(Self::default()),
            Value::String(mode) => {
                let forced = if must(mode)? { all() } else { Vec::new() };
                Ok(tools(offered, forced))
            }
            Value::Object(choice) => match choice.get("type").and_then(Value::as_str) {
                Some("function") => {
                    let named = choice
                        .get("name")
                        .or_else(|| choice.get("function")?.get("name"));
                    let named = known(named.and_then(Value::as_str))?;
                    Ok(Self {
                        most: 1,
                        ..tools(offered, vec![named])
                    })
                }
                Some("allowed_tools") => {
                    // Chats have it one level deeper.
                    let inner = choice.get("allowed_tools").and_then(Value::as_object);
                    let inner = inner.unwrap_or(choice);
                    let mode = inner.get("mode").and_then(Value::as_str).unwrap_or("auto");
                    let must = must(mode)?;
                    let mut allowed = Vec::new();
                    for tool in inner
                        .get("tools")
                        .and_then(Value::as_array)
                        .into_iter()
                        .flatten()
                    {
                        let plain = tool.get("name").and_then(Value::as_str);
                        allowed.push(known(name(tool).or(plain))?);
                    }
                    let stays = |tool: &Value| {
                        name(tool).is_some_and(|name| allowed.iter().any(|one| one == name))
                    };
                    let offered = offered.into_iter().filter(stays).collect();
                    let forced = if must { allowed.clone() } else { Vec::new() };
                    Ok(tools(offered, forced))
                }
                _ => must(&json!(choice).to_string()).map(|_| Self::default()),
            },
            other => must(&other.to_string()).map(|_| Self::default()),
        }
    }

    /// What an answer has to be that must call a tool; None when it need not. Refuses tools for a
    /// model that has none.
    pub(super) fn grammar(
        &self,
        model: &str,
        details: Option<&Details>,
    ) -> Result<Option<Arc<Grammar>>, Refused> {
        let able = details.is_none_or(|details| details.has("tools"));
        if !self.offered.is_empty() && !able {
            return Err(Refused::bad(format!("{model:?} does not support tools")));
        }
        if self.forced.is_empty() {
            return Ok(None);
        }
        let manner = details.map_or(Manner::Bare, |details| details.manner);
        let grammar = Grammar::calls(manner, &self.forced, self.most);
        let grammar = grammar.map_err(|error| Refused::bad(format!("tools: {error}")))?;
        Ok(Some(Arc::new(grammar)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tools() -> Vec<Value> {
        ["a", "b"]
            .map(|name| json!({"type": "function", "function": {"name": name}}))
            .into()
    }

    #[test]
    fn choices_are_kept() {
        let chosen = |choice: Value, parallel| Tools::chosen(tools(), &choice, parallel).unwrap();
        for (choice, offered, forced, most) in [
            (json!(null), 2, 0, 8),
            (json!("auto"), 2, 0, 8),
            (json!("none"), 0, 0, 0),
            (json!("required"), 2, 2, 8),
            (
                json!({"type": "function", "function": {"name": "b"}}),
                2,
                1,
                1,
            ),
            (json!({"type": "function", "name": "b"}), 2, 1, 1),
            (
                json!({"type": "allowed_tools", "mode": "required", "tools": [{"name": "b"}]}),
                1,
                1,
                8,
            ),
            (
                json!({"type": "allowed_tools", "allowed_tools": {
                    "mode": "auto", "tools": [{"type": "function", "function": {"name": "a"}}],
                }}),
                1,
                0,
                8,
            ),
        ] {
            let tools = chosen(choice.clone(), None);
            let found = (tools.offered.len(), tools.forced.len(), tools.most);
            assert_eq!(found, (offered, forced, most), "{choice}");
        }
        assert_eq!(chosen(json!("required"), Some(false)).most, 1);
    }

    #[test]
    fn both_ways_of_writing_tools_are_read() {
        let schema = json!({"type": "object", "properties": {"z": {}, "a": {}}});
        let flat = json!({"type": "function", "name": "x", "parameters": schema});
        let deep = json!({"type": "function", "function": {"name": "x", "parameters": schema}});
        for tool in [flat, deep] {
            let body = json!({"tools": [tool], "tool_choice": "required"}).to_string();
            let tools = Tools::read(body.as_bytes()).unwrap();
            assert_eq!(name(&tools.offered[0]), Some("x"));
            assert_eq!(tools.forced[0].1, Some(Document::from(&schema)));
        }
    }

    #[test]
    fn what_is_no_choice_is_refused() {
        for choice in [
            json!("sometimes"),
            json!(5),
            json!({"type": "custom"}),
            json!({"type": "function", "name": "c"}),
        ] {
            let refused = Tools::chosen(tools(), &choice, None).unwrap_err();
            assert!(refused.text().contains("tool_choice"), "{choice}");
        }
        let refused = Tools::chosen(Vec::new(), &json!("required"), None).unwrap_err();
        assert!(refused.text().contains("no tools"));
    }
}
