//! `POST /api/generate`, `/api/chat`, `/api/embed` and `/api/embeddings`.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::Server;
use super::answer::{self, Shape};
use super::ask::{Ask, Piece, tool_names};
use super::error::Refused;
use super::models::blocking;
use super::request::{Chat, Common, Generate, or_default, parse, read, rejected, settings};
use crate::engine::{Embedding, Prompt, Summary};
use crate::library::{Details, Model};
use crate::options::KeepAlive;
use crate::template::{Conversation, Message};

/// Most texts of one request for vectors, as OpenAI has it.
const MAX_TEXTS: usize = 2048;

/// A model, and what it can do.
pub(super) async fn find(
    server: &Arc<Server>,
    name: &str,
) -> Result<(Model, Option<Arc<Details>>), Refused> {
    let (server, name) = (Arc::clone(server), name.to_owned());
    blocking(move || {
        let model = server.library.find(&name)?;
        // A file that is damaged is the engine's to tell.
        let details = server.library.details(&model).ok();
        Ok((model, details))
    })
    .await
}

/// Refuses what an embedding model cannot do, in Ollama's words.
pub(super) fn can_complete(
    details: Option<&Details>,
    name: &str,
    what: &str,
) -> Result<(), Refused> {
    match details.is_none_or(|details| details.has("completion")) {
        true => Ok(()),
        false => Err(Refused::bad(format!("{name:?} does not support {what}"))),
    }
}

fn is_unloading(common: &Common) -> Result<bool, Refused> {
    let keep = KeepAlive::read(common.keep_alive.as_ref())?;
    Ok(matches!(keep, KeepAlive::For(time) if time.is_zero()))
}

/// Goes on from a text.
pub(super) async fn generate(
    State(server): State<Arc<Server>>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Refused> {
    let body = body.map_err(rejected)?;
    let mut common: Common = read(&body)?;
    let request: Generate = read(&body)?;
    request.check()?;
    common.check()?;
    let (model, details) = find(&server, &common.model).await?;
    // An empty prompt that keeps nothing unloads, which every model can be.
    let unloads = request.prompt.is_empty() && is_unloading(&common)?;
    if !unloads {
        can_complete(details.as_deref(), &common.model, "generate")?;
    }
    let think = match &details {
        Some(details) => common.think(details)?,
        None => None,
    };
    let system = Some(request.system).filter(|text| !text.is_empty());
    let system = system.or_else(|| model.made.system.clone());
    let prompt = match request.raw {
        _ if request.prompt.is_empty() => Prompt::Load,
        true => Prompt::Raw(request.prompt),
        false if request.context.is_empty() => {
            let system = system.map(|text| Message::new("system", text));
            let said = system.into_iter().chain(first_messages(&model));
            Prompt::Messages(Conversation {
                messages: said.chain([Message::new("user", request.prompt)]).collect(),
                tools: Vec::new(),
                think,
            })
        }
        false => Prompt::Question {
            system,
            text: request.prompt,
            before: request.context,
        },
    };
    let thinks = think != Some(false) && details.is_some_and(|details| details.has("thinking"));
    let ask = Ask {
        settings: common.settings(&model.made.parameters)?,
        model,
        keep_alive: KeepAlive::read(common.keep_alive.as_ref())?,
        tools: None,
        think: thinks && !request.raw,
        prompt,
    };
    run(&server, ask, common, Shape::Generate).await
}

/// Answers a conversation.
pub(super) async fn chat(
    State(server): State<Arc<Server>>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Refused> {
    let body = body.map_err(rejected)?;
    let mut common: Common = read(&body)?;
    let mut request: Chat = read(&body)?;
    common.check()?;
    let tools = request.tools.take().unwrap_or_default();
    let names = tool_names(&tools)?;
    let (model, details) = find(&server, &common.model).await?;
    if !(request.messages.is_empty() && is_unloading(&common)?) {
        can_complete(details.as_deref(), &common.model, "chat")?;
    }
    let has = |what| details.as_ref().is_none_or(|details| details.has(what));
    if !tools.is_empty() && !has("tools") {
        let text = format!("{:?} does not support tools", common.model);
        return Err(Refused::bad(text));
    }
    let think = match &details {
        Some(details) => common.think(details)?,
        None => None,
    };
    let messages = request.messages()?;
    let prompt = match messages.is_empty() {
        true => Prompt::Load,
        false => Prompt::Messages(Conversation {
            messages: opened(&model, messages),
            tools,
            think,
        }),
    };
    let ask = Ask {
        settings: common.settings(&model.made.parameters)?,
        model,
        prompt,
        keep_alive: KeepAlive::read(common.keep_alive.as_ref())?,
        tools: names,
        think: think != Some(false) && has("thinking"),
    };
    run(&server, ask, common, Shape::Chat).await
}

/// The messages that a model was made with, and its system text unless there is another.
pub(super) fn opened(model: &Model, messages: Vec<Message>) -> Vec<Message> {
    let told = messages.first().is_some_and(|first| first.role == "system");
    let system = model.made.system.as_ref().filter(|_| !told);
    let system = system.map(|text| Message::new("system", text.as_str()));
    let first = system.into_iter().chain(first_messages(model));
    first.chain(messages).collect()
}

fn first_messages(model: &Model) -> Vec<Message> {
    let text = |message: &Value, key: &str| message[key].as_str().unwrap_or_default().to_owned();
    let messages = model.made.messages.iter();
    let message = |one| Message::new(text(one, "role"), text(one, "content"));
    messages.map(message).collect()
}

async fn run(
    server: &Arc<Server>,
    mut ask: Ask,
    request: Common,
    shape: Shape,
) -> Result<Response, Refused> {
    if let (Prompt::Load, KeepAlive::For(time)) = (&ask.prompt, ask.keep_alive)
        && time.is_zero()
    {
        ask.prompt = Prompt::Unload;
    }
    let answer = ask.submit(server).await?;
    match request.stream.unwrap_or(true) {
        true => answer::streamed(request.model, shape, answer).await,
        false => answer::whole(request.model, shape, answer).await,
    }
}

/// One text or several.
#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "a text or an array of texts")]
pub(super) enum Texts {
    One(String),
    Many(Vec<String>),
}

#[derive(Debug, Deserialize)]
struct Embed {
    model: String,
    #[serde(default)]
    input: Option<Texts>,
    #[serde(default)]
    truncate: Option<bool>,
    #[serde(default)]
    dimensions: Option<usize>,
    #[serde(default, deserialize_with = "or_default")]
    options: Map<String, Value>,
    #[serde(default)]
    keep_alive: Option<Value>,
}

/// What `/api/embeddings` had before.
#[derive(Debug, Deserialize)]
struct EmbedOne {
    model: String,
    #[serde(default, deserialize_with = "or_default")]
    prompt: String,
    #[serde(default, deserialize_with = "or_default")]
    options: Map<String, Value>,
    #[serde(default)]
    keep_alive: Option<Value>,
}

/// The vectors of texts.
pub(super) async fn vectors(
    server: &Arc<Server>,
    name: &str,
    embedding: Embedding,
    (options, keep_alive): (Map<String, Value>, Option<Value>),
) -> Result<(Vec<Vec<f32>>, Summary), Refused> {
    if embedding.texts.len() > MAX_TEXTS {
        let found = embedding.texts.len();
        return Err(Refused::bad(format!(
            "input has {found} texts, allowed: at most {MAX_TEXTS}"
        )));
    }
    let (model, _) = find(server, name).await?;
    let ask = Ask {
        settings: settings(&model.made.parameters, options)?,
        model,
        prompt: match embedding.texts.is_empty() {
            true => Prompt::Load,
            false => Prompt::Embed(embedding),
        },
        keep_alive: KeepAlive::read(keep_alive.as_ref())?,
        tools: None,
        think: false,
    };
    let mut answer = ask.submit(server).await?;
    let mut vectors = Vec::new();
    loop {
        match answer.next().await {
            Piece::Vectors(more) => vectors.extend(more),
            Piece::Done(summary) => return Ok((vectors, summary)),
            Piece::Failed(failure) => return Err(failure.into()),
            Piece::Part(_) | Piece::Token(_) => {}
        }
    }
}

/// `POST /api/embed`.
pub(super) async fn embed(
    State(server): State<Arc<Server>>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Value>, Refused> {
    let request: Embed = parse(body)?;
    let embedding = Embedding {
        texts: match request.input {
            None => Vec::new(),
            // Nothing asked is only the model to be loaded.
            Some(Texts::One(text)) if text.is_empty() => Vec::new(),
            Some(Texts::One(text)) => vec![text],
            Some(Texts::Many(texts)) => texts,
        },
        truncate: request.truncate.unwrap_or(true),
        dimensions: request.dimensions.filter(|&count| count > 0),
    };
    let more = (request.options, request.keep_alive);
    let (vectors, summary) = vectors(&server, &request.model, embedding, more).await?;
    let nanoseconds = |time: std::time::Duration| u64::try_from(time.as_nanos()).ok();
    Ok(Json(json!({
        "model": request.model,
        "embeddings": vectors,
        "total_duration": nanoseconds(summary.total),
        "load_duration": nanoseconds(summary.load),
        "prompt_eval_count": summary.prompt_tokens,
    })))
}

/// `POST /api/embeddings`.
pub(super) async fn embeddings(
    State(server): State<Arc<Server>>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Value>, Refused> {
    let request: EmbedOne = parse(body)?;
    let embedding = Embedding {
        texts: Some(request.prompt)
            .filter(|text| !text.is_empty())
            .into_iter()
            .collect(),
        truncate: true,
        dimensions: None,
    };
    let more = (request.options, request.keep_alive);
    let (mut vectors, _) = vectors(&server, &request.model, embedding, more).await?;
    Ok(Json(
        json!({ "embedding": vectors.pop().unwrap_or_default() }),
    ))
}
