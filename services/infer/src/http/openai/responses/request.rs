//! A response's request.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::super::super::error::Refused;
use super::super::super::request::{CalledFunction, CalledTool, asked, read, refuse};
use super::super::request::{Content, MAX_MESSAGES, Named, grammar, temperature};
use super::super::tools::Tools;
use crate::constrain::{Document, Grammar};
use crate::template::Message;

/// What `include` has for probabilities.
const LOGPROBS: &str = "message.output_text.logprobs";

/// The whole.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) model: String,
    pub(super) tools: Tools,
    /// What goes back as it came.
    pub(super) echo: Map<String, Value>,
    pub(super) stream: bool,
    rest: Rest,
}

#[derive(Debug, Deserialize)]
struct Rest {
    input: Input,
    #[serde(default)]
    instructions: Option<String>,
    #[serde(default)]
    max_output_tokens: Option<i64>,
    #[serde(default)]
    temperature: Option<f64>,
    #[serde(default)]
    top_p: Option<f64>,
    #[serde(default)]
    stream: Option<bool>,
    #[serde(default)]
    text: Option<TextSettings>,
    #[serde(default)]
    reasoning: Option<Reasoning>,
    #[serde(default)]
    include: Option<Vec<String>>,
    #[serde(default)]
    top_logprobs: Option<usize>,
    #[serde(default)]
    previous_response_id: Value,
    #[serde(default)]
    conversation: Value,
    #[serde(default)]
    background: Value,
    #[serde(default)]
    prompt: Value,
    #[serde(default)]
    truncation: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "a text or an array of items")]
enum Input {
    Text(String),
    Items(Vec<Item>),
}

#[derive(Debug, Deserialize)]
struct Item {
    #[serde(default)]
    r#type: Option<String>,
    #[serde(default)]
    role: Option<String>,
    #[serde(default)]
    content: Option<Content>,
    #[serde(default)]
    call_id: Option<String>,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    arguments: Value,
    #[serde(default)]
    output: Option<Content>,
}

#[derive(Debug, Deserialize)]
struct TextSettings {
    #[serde(default)]
    format: Option<TextFormat>,
}

#[derive(Debug, Deserialize)]
struct TextFormat {
    r#type: String,
    #[serde(default)]
    schema: Option<Document>,
}

#[derive(Debug, Deserialize)]
struct Reasoning {
    #[serde(default)]
    effort: Option<String>,
}

impl Request {
    /// In parts, as chats are read.
    pub(super) fn read(body: &[u8]) -> Result<Self, Refused> {
        let model = read::<Named>(body)?.model;
        let rest: Rest = read(body)?;
        for (value, name) in [
            (&rest.previous_response_id, "previous_response_id"),
            (&rest.conversation, "conversation"),
            (&rest.background, "background"),
            (&rest.prompt, "prompt"),
        ] {
            refuse(asked(value), name)?;
        }
        // A conversation is never cut here.
        let cut = rest.truncation.as_deref().filter(|&how| how != "disabled");
        if let Some(found) = cut {
            let text = format!("truncation is {found:?}, allowed: \"disabled\"");
            return Err(Refused::bad(text));
        }
        // What a response repeats of its request, with what holds when it says nothing.
        let mut said: Map<String, Value> = read(body)?;
        let usual = json!({
            "instructions": null,
            "max_output_tokens": null,
            "metadata": {},
            "parallel_tool_calls": true,
            "previous_response_id": null,
            "reasoning": { "effort": null, "summary": null },
            "store": false,
            "temperature": 1.0,
            "text": { "format": { "type": "text" } },
            "tool_choice": "auto",
            "tools": [],
            "top_p": 1.0,
            "truncation": "disabled",
            "user": null,
        });
        let usual = usual.as_object().cloned().unwrap_or_default().into_iter();
        let echo = usual.map(|(key, usual)| {
            let value = said.remove(&key).filter(|value| !value.is_null());
            // Nothing is stored, whatever was asked for.
            let value = value.filter(|_| key != "store").unwrap_or(usual);
            (key, value)
        });
        Ok(Self {
            model,
            tools: Tools::read(body)?,
            echo: echo.collect(),
            stream: rest.stream == Some(true),
            rest,
        })
    }

    pub(super) fn options(&self) -> Result<Map<String, Value>, Refused> {
        temperature(self.rest.temperature)?;
        let most = self.rest.max_output_tokens;
        if let Some(found) = most.filter(|&most| most < 1) {
            let text = format!("max_output_tokens is {found}, allowed: 1 or more");
            return Err(Refused::bad(text));
        }
        let all = json!({
            "temperature": self.rest.temperature.unwrap_or(1.0),
            "top_p": self.rest.top_p.unwrap_or(1.0),
            "top_k": 0,
            "num_predict": most,
        });
        Ok(all.as_object().cloned().unwrap_or_default())
    }

    pub(super) fn format(&self) -> Result<Option<Arc<Grammar>>, Refused> {
        let format = self
            .rest
            .text
            .as_ref()
            .and_then(|text| text.format.as_ref());
        format.map_or(Ok(None), |format| {
            grammar("text.format", &format.r#type, format.schema.as_ref())
        })
    }

    pub(super) fn think(&self) -> Option<bool> {
        let reasoning = self.rest.reasoning.as_ref()?;
        let effort = reasoning.effort.as_deref()?;
        Some(effort != "none")
    }

    pub(super) fn logprobs(&self) -> Result<Option<usize>, Refused> {
        let mut included = self.rest.include.iter().flatten();
        let wanted = included.any(|one| one == LOGPROBS);
        match (wanted, self.rest.top_logprobs.unwrap_or(0)) {
            (true, count) => Ok(Some(count)),
            (false, 0) => Ok(None),
            (false, _) => Err(Refused::bad(format!(
                "top_logprobs needs {LOGPROBS:?} in include"
            ))),
        }
    }

    pub(super) fn messages(&mut self) -> Result<Vec<Message>, Refused> {
        let instructions = self.rest.instructions.take();
        let first = instructions.filter(|text| !text.is_empty());
        let mut messages: Vec<_> = first
            .map(|text| Message::new("system", text))
            .into_iter()
            .collect();
        let items = match std::mem::replace(&mut self.rest.input, Input::Items(Vec::new())) {
            Input::Text(text) => {
                messages.push(Message::new("user", text));
                return Ok(messages);
            }
            Input::Items(items) => items,
        };
        if items.is_empty() || items.len() > MAX_MESSAGES {
            let found = items.len();
            return Err(Refused::bad(format!(
                "input has {found} items, allowed: 1 to {MAX_MESSAGES}"
            )));
        }
        for (place, item) in items.into_iter().enumerate() {
            item.add(place, &mut messages)?;
        }
        Ok(messages)
    }
}

impl Item {
    /// Adds what it says to a conversation.
    fn add(self, place: usize, messages: &mut Vec<Message>) -> Result<(), Refused> {
        let content = |content: Option<Content>| {
            let text = content.map(Content::text).transpose();
            text.map(Option::unwrap_or_default)
        };
        let missing = |key| Refused::bad(format!("input[{place}].{key} is missing"));
        match self.r#type.as_deref().unwrap_or("message") {
            "message" => {
                let role = self.role.ok_or_else(|| missing("role"))?;
                let role = match role.as_str() {
                    "developer" => "system",
                    role @ ("system" | "user" | "assistant") => role,
                    role => {
                        return Err(Refused::bad(format!(
                            "input[{place}].role is {role:?}, allowed: system, developer, user, \
                             assistant"
                        )));
                    }
                };
                messages.push(Message::new(role, content(self.content)?));
            }
            "function_call" => {
                let call = CalledTool {
                    id: self.call_id,
                    function: CalledFunction {
                        name: self.name.ok_or_else(|| missing("name"))?,
                        arguments: self.arguments,
                    },
                };
                // What was said and called at once is one message.
                if messages.last().is_none_or(|last| last.role != "assistant") {
                    messages.push(Message::new("assistant", ""));
                }
                if let Some(last) = messages.last_mut() {
                    last.tool_calls.push(call.value()?);
                }
            }
            "function_call_output" => {
                let id = self.call_id.ok_or_else(|| missing("call_id"))?;
                let mut calls = messages.iter().flat_map(|message| &message.tool_calls);
                let called = calls.find(|call| call["id"] == id.as_str());
                let name = called.and_then(|call| call.pointer("/function/name")?.as_str());
                messages.push(Message {
                    tool_name: name.unwrap_or_default().to_owned(),
                    tool_call_id: id,
                    ..Message::new("tool", content(self.output)?)
                });
            }
            // What a model said to itself is not said to it again.
            "reasoning" => {}
            other => {
                return Err(Refused::bad(format!(
                    "input[{place}].type is {other:?}, allowed: \"message\", \"function_call\", \
                     \"function_call_output\", \"reasoning\""
                )));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_become_a_conversation() {
        let body = json!({
            "model": "m", "instructions": "be kind",
            "input": [
                {"role": "user", "content": [{"type": "input_text", "text": "how warm?"}]},
                {"type": "reasoning", "id": "rs", "summary": []},
                {"type": "function_call", "call_id": "1", "name": "look", "arguments": "{\"a\":1}"},
                {"type": "function_call", "call_id": "2", "name": "feel", "arguments": ""},
                {"type": "function_call_output", "call_id": "2", "output": "warm"},
            ],
        });
        let mut request = Request::read(body.to_string().as_bytes()).unwrap();
        let messages = request.messages().unwrap();
        let roles: Vec<_> = messages
            .iter()
            .map(|message| message.role.as_str())
            .collect();
        assert_eq!(roles, ["system", "user", "assistant", "tool"]);
        assert_eq!(messages[2].tool_calls.len(), 2);
        assert_eq!(
            messages[2].tool_calls[0]["function"]["arguments"],
            json!({"a": 1})
        );
        assert_eq!(messages[3].tool_name, "feel");
        assert_eq!(request.echo["instructions"], "be kind");
        assert_eq!(request.echo["tool_choice"], "auto");
    }

    #[test]
    fn what_cannot_be_is_told() {
        let refused = |more: Value| {
            let mut body = json!({"model": "m", "input": "a"});
            let more = more.as_object().cloned().unwrap();
            body.as_object_mut().unwrap().extend(more);
            let read = Request::read(body.to_string().as_bytes());
            let read = read.and_then(|mut request| {
                request.options()?;
                request.format()?;
                request.logprobs()?;
                request.messages()
            });
            read.unwrap_err().text().to_owned()
        };
        for (more, part) in [
            (
                json!({"truncation": "auto"}),
                "truncation is \"auto\", allowed",
            ),
            (
                json!({"previous_response_id": "x"}),
                "previous_response_id is not supported",
            ),
            (json!({"background": true}), "background"),
            (json!({"input": []}), "0 items"),
            (
                json!({"input": [{"type": "item_reference", "id": "x"}]}),
                "item_reference",
            ),
            (
                json!({"input": [{"role": "king", "content": "x"}]}),
                "\"king\"",
            ),
            (json!({"max_output_tokens": 0}), "max_output_tokens is 0"),
            (
                json!({"text": {"format": {"type": "xml"}}}),
                "text.format.type",
            ),
            (json!({"top_logprobs": 2}), "include"),
            (json!({"tools": [{"type": "web_search"}]}), "web_search"),
        ] {
            let text = refused(more.clone());
            assert!(text.contains(part), "{more}: {text}");
        }
    }
}
