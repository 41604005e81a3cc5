//! Bodies of OpenAI's API, and what of them the engine can do.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::super::error::Refused;
use super::super::generate::Texts;
use super::super::request::{CalledTool, asked, read, refuse};
use super::tools::Tools;
use crate::constrain::{Document, Grammar};
use crate::template::Message;

/// Most messages in one conversation.
pub(super) const MAX_MESSAGES: usize = 10_000;

/// What chat and completions have.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Common {
    temperature: Option<f64>,
    top_p: Option<f64>,
    n: Option<u64>,
    pub(super) stream: Option<bool>,
    stream_options: Option<StreamOptions>,
    stop: Option<Value>,
    max_tokens: Option<i64>,
    max_completion_tokens: Option<i64>,
    presence_penalty: Option<f64>,
    frequency_penalty: Option<f64>,
    logit_bias: Option<BTreeMap<String, f32>>,
    seed: Option<i64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct StreamOptions {
    include_usage: Option<bool>,
}

/// OpenAI's range, which is narrower than the engine's.
pub(super) fn temperature(wanted: Option<f64>) -> Result<(), Refused> {
    match wanted {
        Some(found) if !(0.0..=2.0).contains(&found) => Err(Refused::bad(format!(
            "temperature is {found}, allowed: 0 to 2"
        ))),
        _ => Ok(()),
    }
}

impl Common {
    /// In Ollama's terms; OpenAI's defaults are no cut and a temperature of 1.
    pub(super) fn options(&self) -> Result<Map<String, Value>, Refused> {
        if self.n.is_some_and(|n| n != 1) {
            let found = self.n.unwrap_or_default();
            return Err(Refused::bad(format!("n is {found}, allowed: 1")));
        }
        temperature(self.temperature)?;
        let most = self.max_completion_tokens.or(self.max_tokens);
        if let Some(found) = most.filter(|&most| most < 1) {
            let text = format!("max_tokens is {found}, allowed: 1 or more");
            return Err(Refused::bad(text));
        }
        let all = json!({
            "temperature": self.temperature.unwrap_or(1.0),
            "top_p": self.top_p.unwrap_or(1.0),
            "top_k": 0,
            "num_predict": most,
            "presence_penalty": self.presence_penalty,
            "frequency_penalty": self.frequency_penalty,
            "seed": self.seed,
            "stop": self.stop,
        });
        match all {
            Value::Object(all) => Ok(all),
            _ => Ok(Map::new()),
        }
    }

    pub(super) fn biases(&self) -> Result<Vec<(u32, f32)>, Refused> {
        let biases = self.logit_bias.iter().flatten();
        biases
            .map(|(token, &bias)| match token.parse() {
                Ok(token) => Ok((token, bias)),
                Err(_) => Err(Refused::bad(format!(
                    "logit_bias has the key {token:?}, allowed: numbers of tokens"
                ))),
            })
            .collect()
    }

    pub(super) fn tells_usage(&self) -> bool {
        let options = self.stream_options.as_ref();
        options.is_some_and(|options| options.include_usage == Some(true))
    }
}

/// `POST /v1/chat/completions`.
#[derive(Debug)]
pub(super) struct Chat {
    pub(super) model: String,
    pub(super) common: Common,
    pub(super) tools: Tools,
    rest: ChatRest,
}

#[derive(Debug, Deserialize)]
pub(super) struct Named {
    pub(super) model: String,
}

#[derive(Debug, Deserialize)]
struct ChatRest {
    messages: Vec<ChatMessage>,
    #[serde(default)]
    response_format: Option<ResponseFormat>,
    #[serde(default)]
    logprobs: Option<bool>,
    #[serde(default)]
    top_logprobs: Option<usize>,
    #[serde(default)]
    reasoning_effort: Option<String>,
    /// As `tools` were called before.
    #[serde(default)]
    functions: Value,
    #[serde(default)]
    function_call: Value,
}

#[derive(Debug, Deserialize)]
struct ResponseFormat {
    r#type: String,
    #[serde(default)]
    json_schema: Option<NamedSchema>,
}

#[derive(Debug, Deserialize)]
struct NamedSchema {
    schema: Document,
}

/// A format of an answer, by its type; `key` is where it stands.
pub(super) fn grammar(
    key: &str,
    kind: &str,
    schema: Option<&Document>,
) -> Result<Option<Arc<Grammar>>, Refused> {
    let wrong = |error| Refused::bad(format!("{key}: {error}"));
    match (kind, schema) {
        ("text", _) => Ok(None),
        ("json_object", _) => Ok(Some(Arc::new(Grammar::json().map_err(wrong)?))),
        ("json_schema", Some(schema)) => {
            let grammar = Grammar::schema(schema).map_err(wrong)?;
            Ok(Some(Arc::new(grammar)))
        }
        ("json_schema", None) => Err(Refused::bad(format!("{key} has no schema"))),
        (other, _) => Err(Refused::bad(format!(
            "{key}.type is {other:?}, allowed: \"text\", \"json_object\", \"json_schema\""
        ))),
    }
}

#[derive(Debug, Deserialize)]
struct ChatMessage {
    role: String,
    #[serde(default)]
    content: Option<Content>,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    tool_calls: Option<Vec<CalledTool>>,
    #[serde(default)]
    tool_call_id: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "a text or an array of parts")]
pub(super) enum Content {
    Text(String),
    Parts(Vec<ContentPart>),
}

#[derive(Debug, Deserialize)]
pub(super) struct ContentPart {
    r#type: String,
    #[serde(default)]
    text: String,
}

impl Content {
    pub(super) fn text(self) -> Result<String, Refused> {
        match self {
            Self::Text(text) => Ok(text),
            Self::Parts(parts) => parts
                .into_iter()
                .map(|part| match part.r#type.as_str() {
                    "text" | "input_text" | "output_text" => Ok(part.text),
                    kind => Err(Refused::bad(format!(
                        "a message has a part of type {kind:?}, allowed: \"text\""
                    ))),
                })
                .collect(),
        }
    }
}

impl Chat {
    /// What the answer may be.
    pub(super) fn format(&self) -> Result<Option<Arc<Grammar>>, Refused> {
        let format = self.rest.response_format.as_ref();
        format.map_or(Ok(None), |format| {
            let schema = format.json_schema.as_ref().map(|named| &named.schema);
            grammar("response_format", &format.r#type, schema)
        })
    }

    pub(super) fn messages(&mut self) -> Result<Vec<Message>, Refused> {
        let messages = std::mem::take(&mut self.rest.messages);
        if messages.is_empty() || messages.len() > MAX_MESSAGES {
            let found = messages.len();
            return Err(Refused::bad(format!(
                "{found} messages, allowed: 1 to {MAX_MESSAGES}"
            )));
        }
        messages.into_iter().map(ChatMessage::message).collect()
    }

    pub(super) fn logprobs(&self) -> Result<Option<usize>, Refused> {
        match (self.rest.logprobs, self.rest.top_logprobs) {
            (Some(true), count) => Ok(Some(count.unwrap_or(0))),
            (_, Some(count)) if count > 0 => {
                Err(Refused::bad("top_logprobs needs logprobs to be true"))
            }
            _ => Ok(None),
        }
    }

    pub(super) fn think(&self) -> Option<bool> {
        let effort = self.rest.reasoning_effort.as_deref();
        effort.map(|effort| effort != "none")
    }
}

impl Chat {
    /// In parts, each of which says by its key what is wrong; flattened fields could not.
    pub(super) fn read(body: &[u8]) -> Result<Self, Refused> {
        let rest: ChatRest = read(body)?;
        refuse(asked(&rest.functions), "functions")?;
        refuse(asked(&rest.function_call), "function_call")?;
        Ok(Self {
            model: read::<Named>(body)?.model,
            common: read(body)?,
            tools: Tools::read(body)?,
            rest,
        })
    }
}

impl ChatMessage {
    fn message(self) -> Result<Message, Refused> {
        let role = match self.role.as_str() {
            "developer" => "system",
            "function" => "tool",
            role @ ("system" | "user" | "assistant" | "tool") => role,
            role => {
                return Err(Refused::bad(format!(
                    "message role {role:?} is not valid, allowed: system, developer, user, \
                     assistant, tool"
                )));
            }
        };
        let calls = self.tool_calls.unwrap_or_default().into_iter();
        Ok(Message {
            content: self
                .content
                .map(Content::text)
                .transpose()?
                .unwrap_or_default(),
            role: role.to_owned(),
            thinking: String::new(),
            tool_calls: calls.map(CalledTool::value).collect::<Result<_, _>>()?,
            tool_name: self.name.filter(|_| role == "tool").unwrap_or_default(),
            tool_call_id: self.tool_call_id.unwrap_or_default(),
        })
    }
}

/// `POST /v1/completions`.
#[derive(Debug)]
pub(super) struct Completion {
    pub(super) model: String,
    pub(super) common: Common,
    pub(super) logprobs: Option<usize>,
    prompt: Texts,
}

#[derive(Debug, Deserialize)]
struct CompletionRest {
    prompt: Texts,
    #[serde(default)]
    logprobs: Option<usize>,
    #[serde(default)]
    suffix: Option<String>,
    #[serde(default)]
    echo: Option<bool>,
    #[serde(default)]
    best_of: Option<u64>,
}

impl Completion {
    /// As [`Chat::read`].
    pub(super) fn read(body: &[u8]) -> Result<Self, Refused> {
        let rest: CompletionRest = read(body)?;
        refuse(rest.echo == Some(true), "echo")?;
        refuse(rest.best_of.is_some_and(|count| count > 1), "best_of")?;
        refuse(
            rest.suffix.is_some_and(|suffix| !suffix.is_empty()),
            "suffix",
        )?;
        Ok(Self {
            model: read::<Named>(body)?.model,
            common: read(body)?,
            logprobs: rest.logprobs,
            prompt: rest.prompt,
        })
    }

    pub(super) fn prompt(&self) -> Result<String, Refused> {
        match &self.prompt {
            Texts::One(text) => Ok(text.clone()),
            Texts::Many(texts) if texts.len() == 1 => Ok(texts[0].clone()),
            Texts::Many(texts) => {
                let found = texts.len();
                Err(Refused::bad(format!(
                    "prompt has {found} texts, allowed: 1"
                )))
            }
        }
    }
}

/// `POST /v1/embeddings`.
#[derive(Debug, Deserialize)]
pub(super) struct Embeddings {
    pub(super) model: String,
    input: Texts,
    #[serde(default)]
    encoding_format: Option<String>,
    #[serde(default)]
    pub(super) dimensions: Option<usize>,
}

impl Embeddings {
    pub(super) fn texts(&self) -> Result<Vec<String>, Refused> {
        let texts = match &self.input {
            Texts::One(text) => vec![text.clone()],
            Texts::Many(texts) => texts.clone(),
        };
        match texts.is_empty() {
            true => Err(Refused::bad("input has no text, allowed: 1 to 2048")),
            false => Ok(texts),
        }
    }

    pub(super) fn is_base64(&self) -> Result<bool, Refused> {
        match self.encoding_format.as_deref() {
            None | Some("float") => Ok(false),
            Some("base64") => Ok(true),
            Some(other) => Err(Refused::bad(format!(
                "encoding_format is {other:?}, allowed: \"float\", \"base64\""
            ))),
        }
    }
}
