//! Bodies as they come, and what of them the engine can do.

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::http::StatusCode;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::ask::tool_names;
use super::error::Refused;
use crate::constrain::{Document, Grammar};
use crate::library::Details;
use crate::options::{self, KeepAlive, Options, Settings};
use crate::template::Message;

/// Most messages in one conversation.
const MAX_MESSAGES: usize = 10_000;

/// `POST /api/show`.
#[derive(Debug, Deserialize)]
pub(super) struct Show {
    #[serde(default)]
    model: Option<String>,
    #[serde(default)]
    name: Option<String>,
    #[serde(default, deserialize_with = "or_default")]
    pub(super) verbose: bool,
}

impl Show {
    /// The model that is meant.
    pub(super) fn model(&self) -> Result<&str, Refused> {
        named(&self.model, &self.name)
    }
}

/// A model by the field `model`, or by `name` as it was called before: Ollama's own client sends both, one
/// of them empty.
pub(super) fn named<'a>(
    model: &'a Option<String>,
    name: &'a Option<String>,
) -> Result<&'a str, Refused> {
    let given = [model, name].into_iter().flatten();
    let mut given = given.map(String::as_str).filter(|text| !text.is_empty());
    given
        .next()
        .ok_or_else(|| Refused::bad("missing field `model`"))
}

/// What a field has when it is `null`: some clients send what they have not.
pub(super) fn or_default<'de, D, T>(from: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Option::<T>::deserialize(from).map(Option::unwrap_or_default)
}

/// `POST /api/generate`.
#[derive(Debug, Deserialize)]
pub(super) struct Generate {
    #[serde(default, deserialize_with = "or_default")]
    pub(super) prompt: String,
    #[serde(default, deserialize_with = "or_default")]
    pub(super) system: String,
    #[serde(default, deserialize_with = "or_default")]
    suffix: String,
    #[serde(default, deserialize_with = "or_default")]
    template: String,
    #[serde(default, deserialize_with = "or_default")]
    pub(super) context: Vec<u32>,
    #[serde(default, deserialize_with = "or_default")]
    pub(super) raw: bool,
}

/// `POST /api/chat`.
#[derive(Debug, Deserialize)]
pub(super) struct Chat {
    #[serde(default, deserialize_with = "or_default")]
    pub(super) messages: Vec<ChatMessage>,
    #[serde(default)]
    pub(super) tools: Option<Vec<Value>>,
}

/// One message of a chat.
#[derive(Debug, Deserialize)]
pub(super) struct ChatMessage {
    role: String,
    #[serde(default)]
    content: Option<String>,
    #[serde(default)]
    thinking: Option<String>,
    #[serde(default)]
    images: Value,
    #[serde(default)]
    tool_calls: Option<Vec<CalledTool>>,
    #[serde(default, alias = "name")]
    tool_name: Option<String>,
    #[serde(default)]
    tool_call_id: Option<String>,
}

/// A call in an assistant's message.
#[derive(Debug, Deserialize)]
pub(super) struct CalledTool {
    #[serde(default)]
    pub(super) id: Option<String>,
    pub(super) function: CalledFunction,
}

/// What it calls.
#[derive(Debug, Deserialize)]
pub(super) struct CalledFunction {
    pub(super) name: String,
    /// An object; in OpenAI's API a text that holds one.
    #[serde(default)]
    pub(super) arguments: Value,
}

impl CalledTool {
    /// As templates read it.
    pub(super) fn value(self) -> Result<Value, Refused> {
        let arguments = match self.function.arguments {
            Value::Null => json!({}),
            Value::String(text) if text.trim().is_empty() => json!({}),
            Value::String(text) => serde_json::from_str(&text).map_err(|error| {
                let name = &self.function.name;
                Refused::bad(format!("the arguments of the call of {name:?}: {error}"))
            })?,
            value => value,
        };
        let function = json!({ "name": self.function.name, "arguments": arguments });
        let mut value = json!({ "type": "function", "function": function });
        if let Some(id) = self.id {
            value["id"] = id.into();
        }
        Ok(value)
    }
}

/// What both have.
#[derive(Debug, Deserialize)]
pub(super) struct Common {
    pub(super) model: String,
    #[serde(default)]
    pub(super) stream: Option<bool>,
    #[serde(default)]
    options: Option<Map<String, Value>>,
    #[serde(default)]
    pub(super) keep_alive: Option<Value>,
    #[serde(default)]
    format: Document,
    #[serde(default)]
    images: Value,
    #[serde(default)]
    think: Value,
    #[serde(default)]
    logprobs: Option<bool>,
    #[serde(default)]
    top_logprobs: Option<usize>,
}

/// A body beyond the limit.
pub(super) fn too_large() -> Refused {
    let most = super::MAX_BODY;
    let text = format!("the request is too large, allowed: at most {most} bytes");
    Refused::new(StatusCode::PAYLOAD_TOO_LARGE, text)
}

/// Why a body did not come.
pub(super) fn rejected(rejection: BytesRejection) -> Refused {
    match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => too_large(),
        status => Refused::new(status, rejection.body_text()),
    }
}

/// Parses a body, whatever its content type says: Ollama's clients send several.
pub(super) fn parse<T: DeserializeOwned>(
    body: Result<Bytes, BytesRejection>,
) -> Result<T, Refused> {
    read(&body.map_err(rejected)?)
}

/// Parses a body that has come.
pub(super) fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refused> {
    if body.is_empty() {
        return Err(Refused::bad("missing request body"));
    }
    let mut json = serde_json::Deserializer::from_slice(body);
    let value = serde_path_to_error::deserialize(&mut json)
        .map_err(|error| Refused::bad(format!("bad JSON: {error}")))?;
    json.end()
        .map_err(|error| Refused::bad(format!("bad JSON: {error}")))?;
    Ok(value)
}

/// Whether a client asked for something by this value.
pub(super) fn asked(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => false,
        Value::String(text) => !text.is_empty(),
        Value::Array(values) => !values.is_empty(),
        _ => true,
    }
}

pub(super) fn refuse(asked: bool, what: &str) -> Result<(), Refused> {
    match asked {
        true => Err(Refused::bad(format!("{what} is not supported"))),
        false => Ok(()),
    }
}

impl Common {
    /// The options over those that the model was made with, in range.
    pub(super) fn settings(&mut self, made: &Map<String, Value>) -> Result<Settings, Refused> {
        let mut settings = settings(made, self.options.take().unwrap_or_default())?;
        if self.logprobs == Some(true) {
            settings.sampling.logprobs = Some(self.top_logprobs.unwrap_or(0));
            settings.sampling.check().map_err(options::Error::from)?;
        }
        settings.format = Grammar::format(&self.format)
            .map_err(|error| Refused::bad(format!("format: {error}")))?;
        Ok(settings)
    }

    /// Whether to think; None when the request leaves it open.
    pub(super) fn think(&self, details: &Details) -> Result<Option<bool>, Refused> {
        let think = match &self.think {
            Value::Null => None,
            Value::Bool(think) => Some(*think),
            Value::String(level) if ["low", "medium", "high"].contains(&level.as_str()) => {
                Some(true)
            }
            other => {
                return Err(Refused::bad(format!(
                    "think is {other}, allowed: true, false, \"low\", \"medium\", \"high\""
                )));
            }
        };
        if think == Some(true) && !details.has("thinking") {
            return Err(Refused::bad(format!(
                "{:?} does not support thinking",
                self.model
            )));
        }
        Ok(think)
    }

    pub(super) fn check(&self) -> Result<(), Refused> {
        refuse(asked(&self.images), "images")
    }
}

/// A request's options over those that the model was made with, in range.
pub(super) fn settings(
    made: &Map<String, Value>,
    wanted: Map<String, Value>,
) -> Result<Settings, Refused> {
    let mut all = made.clone();
    all.extend(wanted.into_iter().filter(|(_, value)| !value.is_null()));
    let options: Options = serde_path_to_error::deserialize(Value::Object(all))
        .map_err(|error| Refused::bad(format!("options.{error}")))?;
    Ok(options.check()?)
}

impl Generate {
    /// Refuses what the engine cannot do: better than an answer to something else.
    pub(super) fn check(&self) -> Result<(), Refused> {
        refuse(!self.suffix.is_empty(), "suffix")?;
        refuse(!self.template.is_empty(), "template")?;
        refuse(
            self.raw && !self.context.is_empty(),
            "context together with raw",
        )
    }
}

impl Chat {
    /// The messages in the template's terms.
    pub(super) fn messages(&mut self) -> Result<Vec<Message>, Refused> {
        if self.messages.len() > MAX_MESSAGES {
            let found = self.messages.len();
            return Err(Refused::bad(format!(
                "{found} messages, allowed: {MAX_MESSAGES}"
            )));
        }
        let messages = std::mem::take(&mut self.messages).into_iter();
        messages.map(ChatMessage::message).collect()
    }
}

impl ChatMessage {
    fn message(self) -> Result<Message, Refused> {
        refuse(asked(&self.images), "images")?;
        if !["system", "user", "assistant", "tool"].contains(&self.role.as_str()) {
            let role = &self.role;
            return Err(Refused::bad(format!(
                "message role {role:?} is not valid, allowed: system, user, assistant, tool"
            )));
        }
        let calls = self.tool_calls.unwrap_or_default().into_iter();
        Ok(Message {
            role: self.role,
            content: self.content.unwrap_or_default(),
            thinking: self.thinking.unwrap_or_default(),
            tool_calls: calls.map(CalledTool::value).collect::<Result<_, _>>()?,
            tool_name: self.tool_name.unwrap_or_default(),
            tool_call_id: self.tool_call_id.unwrap_or_default(),
        })
    }
}

/// See [`super::check_body`].
pub(super) fn check_chat(body: &[u8]) -> Result<(), Refused> {
    let mut common: Common = read(body)?;
    let mut request: Chat = read(body)?;
    common.check()?;
    tool_names(&request.tools.take().unwrap_or_default())?;
    request.messages()?;
    check_common(&mut common)
}

/// See [`super::check_body`].
pub(super) fn check_generate(body: &[u8]) -> Result<(), Refused> {
    let mut common: Common = read(body)?;
    read::<Generate>(body)?.check()?;
    common.check()?;
    check_common(&mut common)
}

fn check_common(common: &mut Common) -> Result<(), Refused> {
    common.settings(&Map::new())?;
    KeepAlive::read(common.keep_alive.as_ref())?;
    Ok(())
}
