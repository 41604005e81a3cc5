//! OpenAI's routes: chat, responses, completions, embeddings, models.

mod request;
mod responses;
mod tools;
mod write;

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};

use super::Server;
use super::ask::{Answer, Ask, tool_names};
use super::error::Refused;
use super::generate::{can_complete, find, opened, vectors};
use super::models::blocking;
use super::request::{parse, rejected, settings};
use crate::constrain::Grammar;
use crate::engine::{Embedding, Prompt};
use crate::options::KeepAlive;
use crate::template::{Conversation, Message};
use request::{Chat, Completion, Embeddings};
pub(super) use responses::respond;
use tools::Tools;
use write::Shape;

type Body = Result<Bytes, BytesRejection>;

fn answered(result: Result<Response, Refused>) -> Response {
    result.unwrap_or_else(Refused::openai)
}

/// `POST /v1/chat/completions`.
pub(super) async fn chat(State(server): State<Arc<Server>>, body: Body) -> Response {
    answered(answer_chat(&server, body).await)
}

async fn answer_chat(server: &Arc<Server>, body: Body) -> Result<Response, Refused> {
    let mut request = Chat::read(&body.map_err(rejected)?)?;
    let talk = Talk {
        messages: request.messages()?,
        tools: std::mem::take(&mut request.tools),
        format: request.format()?,
        think: request.think(),
        options: request.common.options()?,
        logprobs: request.logprobs()?,
        biases: request.common.biases()?,
    };
    let answer = talk.submit(server, &request.model).await?;
    write::answer(Shape::Chat, &request.model, &request.common, answer).await
}

/// A conversation, by whichever route it came.
struct Talk {
    messages: Vec<Message>,
    tools: Tools,
    format: Option<Arc<Grammar>>,
    think: Option<bool>,
    options: Map<String, Value>,
    logprobs: Option<usize>,
    biases: Vec<(u32, f32)>,
}

impl Talk {
    async fn submit(self, server: &Arc<Server>, model: &str) -> Result<Answer, Refused> {
        let (found, details) = find(server, model).await?;
        can_complete(details.as_deref(), model, "chat")?;
        let has = |what| details.as_ref().is_none_or(|details| details.has(what));
        let forced = self.tools.grammar(model, details.as_deref())?;
        // Who has to call a tool has no other answer, and does not think first.
        let think = match forced {
            Some(_) if has("thinking") => Some(false),
            _ => self.think,
        };
        let mut settings = settings(&found.made.parameters, self.options)?;
        settings.format = forced.or(self.format);
        settings.sampling.logprobs = self.logprobs;
        settings.sampling.logit_bias = self.biases;
        settings
            .sampling
            .check()
            .map_err(|error| Refused::from(crate::options::Error::from(error)))?;
        let names = tool_names(&self.tools.offered)?;
        let ask = Ask {
            prompt: Prompt::Messages(Conversation {
                messages: opened(&found, self.messages),
                tools: self.tools.offered,
                think,
            }),
            settings,
            model: found,
            keep_alive: KeepAlive::read(None)?,
            tools: names,
            think: think != Some(false) && has("thinking"),
        };
        ask.submit(server).await
    }
}

/// `POST /v1/completions`.
pub(super) async fn completions(State(server): State<Arc<Server>>, body: Body) -> Response {
    answered(answer_completion(&server, body).await)
}

async fn answer_completion(server: &Arc<Server>, body: Body) -> Result<Response, Refused> {
    let request = Completion::read(&body.map_err(rejected)?)?;
    let (model, details) = find(server, &request.model).await?;
    can_complete(details.as_deref(), &request.model, "generate")?;
    let mut settings = settings(&model.made.parameters, request.common.options()?)?;
    settings.sampling.logprobs = request.logprobs;
    settings.sampling.logit_bias = request.common.biases()?;
    settings
        .sampling
        .check()
        .map_err(|error| Refused::from(crate::options::Error::from(error)))?;
    let ask = Ask {
        prompt: Prompt::Raw(request.prompt()?),
        settings,
        model,
        keep_alive: KeepAlive::read(None)?,
        tools: None,
        think: false,
    };
    let answer = ask.submit(server).await?;
    write::answer(Shape::Completion, &request.model, &request.common, answer).await
}

/// `POST /v1/embeddings`.
pub(super) async fn embeddings(State(server): State<Arc<Server>>, body: Body) -> Response {
    answered(answer_embeddings(&server, body).await)
}

async fn answer_embeddings(server: &Arc<Server>, body: Body) -> Result<Response, Refused> {
    let request: Embeddings = parse(body)?;
    let embedding = Embedding {
        texts: request.texts()?,
        truncate: false,
        dimensions: request.dimensions.filter(|&count| count > 0),
    };
    let base64 = request.is_base64()?;
    let (vectors, summary) = vectors(server, &request.model, embedding, (Map::new(), None)).await?;
    let data: Vec<_> = vectors
        .iter()
        .enumerate()
        .map(|(index, vector)| {
            let vector = match base64 {
                true => write::base64(vector).into(),
                false => json!(vector),
            };
            json!({ "object": "embedding", "index": index, "embedding": vector })
        })
        .collect();
    let tokens = summary.prompt_tokens;
    Ok(Json(json!({
        "object": "list",
        "data": data,
        "model": request.model,
        "usage": { "prompt_tokens": tokens, "total_tokens": tokens },
    }))
    .into_response())
}

fn entry(model: &crate::library::Model) -> Value {
    let created = model.modified.duration_since(std::time::UNIX_EPOCH);
    json!({
        "id": model.name,
        "object": "model",
        "created": created.map_or(0, |time| time.as_secs()),
        "owned_by": "library",
    })
}

/// `GET /v1/models`.
pub(super) async fn models(State(server): State<Arc<Server>>) -> Response {
    let list = blocking(move || {
        let models = server.library.models()?;
        let data: Vec<_> = models.iter().map(entry).collect();
        Ok(Json(json!({ "object": "list", "data": data })).into_response())
    });
    answered(list.await)
}

/// `GET /v1/models/{id}`.
pub(super) async fn model(State(server): State<Arc<Server>>, Path(id): Path<String>) -> Response {
    let one = blocking(move || Ok(Json(entry(&server.library.find(&id)?)).into_response()));
    answered(one.await)
}

/// See [`super::check_body`].
pub(super) fn check_chat(body: &[u8]) -> Result<(), Refused> {
    let mut request = Chat::read(body)?;
    tool_names(&request.tools.offered)?;
    request.tools.grammar(&request.model, None)?;
    request.messages()?;
    request.logprobs()?;
    request.format()?;
    request.common.biases()?;
    settings(&Map::new(), request.common.options()?).map(drop)
}

/// See [`super::check_body`].
pub(super) fn check_completion(body: &[u8]) -> Result<(), Refused> {
    let request = Completion::read(body)?;
    request.prompt()?;
    request.common.biases()?;
    settings(&Map::new(), request.common.options()?).map(drop)
}
