//! Bodies as they come, and what of them the engine can do.

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::http::StatusCode;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::error::Refused;
use crate::constrain::{Document, Grammar};
use crate::options::{Options, Settings};
use crate::template::Message;

/// Most messages in one conversation.
const MAX_MESSAGES: usize = 10_000;

/// `POST /api/show`.
#[derive(Debug, Deserialize)]
pub(super) struct Show {
    #[serde(alias = "name")]
    pub(super) model: String,
    #[serde(default)]
    pub(super) verbose: bool,
}

/// `POST /api/generate`.
#[derive(Debug, Deserialize)]
pub(super) struct Generate {
    #[serde(default)]
    pub(super) prompt: String,
    #[serde(default)]
    pub(super) system: String,
    #[serde(default)]
    suffix: String,
    #[serde(default)]
    template: String,
    #[serde(default)]
    pub(super) context: Vec<u32>,
    #[serde(default)]
    pub(super) raw: bool,
    #[serde(flatten)]
    pub(super) common: Common,
}

/// `POST /api/chat`.
#[derive(Debug, Deserialize)]
pub(super) struct Chat {
    #[serde(default)]
    pub(super) messages: Vec<ChatMessage>,
    #[serde(default)]
    tools: Value,
    #[serde(flatten)]
    pub(super) common: Common,
}

/// One message of a chat.
#[derive(Debug, Deserialize)]
pub(super) struct ChatMessage {
    role: String,
    #[serde(default)]
    content: String,
    #[serde(default)]
    images: Value,
    #[serde(default)]
    tool_calls: Value,
}

/// What both have.
#[derive(Debug, Deserialize)]
pub(super) struct Common {
    pub(super) model: String,
    #[serde(default)]
    pub(super) stream: Option<bool>,
    #[serde(default)]
    options: Option<Value>,
    #[serde(default)]
    pub(super) keep_alive: Option<Value>,
    #[serde(default)]
    format: Document,
    #[serde(default)]
    images: Value,
    #[serde(default)]
    think: Value,
}

/// Parses a body, whatever its content type says: Ollama's clients send several.
pub(super) fn parse<T: DeserializeOwned>(
    body: Result<Bytes, BytesRejection>,
) -> Result<T, Refused> {
    let body = body.map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => Refused::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!(
                "the request is too large, allowed: at most {} bytes",
                super::MAX_BODY
            ),
        ),
        status => Refused::new(status, rejection.body_text()),
    })?;
    if body.is_empty() {
        return Err(Refused::bad("missing request body"));
    }
    serde_json::from_slice(&body).map_err(|error| Refused::bad(format!("bad JSON: {error}")))
}

/// Whether a client asked for something by this value.
fn asked(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => false,
        Value::String(text) => !text.is_empty(),
        Value::Array(values) => !values.is_empty(),
        _ => true,
    }
}

fn refuse(asked: bool, what: &str) -> Result<(), Refused> {
    match asked {
        true => Err(Refused::bad(format!("{what} is not supported"))),
        false => Ok(()),
    }
}

impl Common {
    /// The options, in range.
    pub(super) fn settings(&mut self) -> Result<Settings, Refused> {
        let options = match self.options.take() {
            None | Some(Value::Null) => Options::default(),
            Some(value) => serde_path_to_error::deserialize(value)
                .map_err(|error| Refused::bad(format!("options.{error}")))?,
        };
        let mut settings = options.check()?;
        settings.format = Grammar::format(&self.format)
            .map_err(|error| Refused::bad(format!("format: {error}")))?;
        Ok(settings)
    }

    fn check(&self) -> Result<(), Refused> {
        refuse(asked(&self.images), "images")?;
        match asked(&self.think) {
            true => Err(Refused::bad(format!(
                "{:?} does not support thinking",
                self.model
            ))),
            false => Ok(()),
        }
    }
}

impl Generate {
    /// Refuses what the engine cannot do: better than an answer to something else.
    pub(super) fn check(&self) -> Result<(), Refused> {
        refuse(!self.suffix.is_empty(), "suffix")?;
        refuse(!self.template.is_empty(), "template")?;
        refuse(
            self.raw && !self.context.is_empty(),
            "context together with raw",
        )?;
        self.common.check()
    }
}

impl Chat {
    /// As [`Generate::check`]; and the messages in the template's terms.
    pub(super) fn check(&mut self) -> Result<Vec<Message>, Refused> {
        if asked(&self.tools) {
            return Err(Refused::bad(format!(
                "{:?} does not support tools",
                self.common.model
            )));
        }
        self.common.check()?;
        if self.messages.len() > MAX_MESSAGES {
            let found = self.messages.len();
            return Err(Refused::bad(format!(
                "{found} messages, allowed: {MAX_MESSAGES}"
            )));
        }
        let checked = std::mem::take(&mut self.messages)
            .into_iter()
            .map(|message| {
                refuse(asked(&message.images), "images")?;
                refuse(asked(&message.tool_calls), "tool_calls")?;
                match message.role.as_str() {
                    "system" | "user" | "assistant" | "tool" => Ok(Message {
                        role: message.role,
                        content: message.content,
                    }),
                    role => Err(Refused::bad(format!(
                        "message role {role:?} is not valid, allowed: system, user, assistant, tool"
                    ))),
                }
            });
        checked.collect()
    }
}
