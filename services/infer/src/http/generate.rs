//! `POST /api/generate` and `POST /api/chat`.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::response::Response;
use tokio::sync::mpsc;

use super::Server;
use super::answer::{self, Shape};
use super::error::Refused;
use super::request::{Chat, Common, Generate, parse};
use crate::engine::{Job, Prompt};
use crate::options::KeepAlive;

/// Goes on from a text.
pub(super) async fn generate(
    State(server): State<Arc<Server>>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Refused> {
    let request: Generate = parse(body)?;
    request.check()?;
    let prompt = match request.raw {
        _ if request.prompt.is_empty() => Prompt::Load,
        true => Prompt::Raw(request.prompt),
        false => Prompt::Question {
            system: Some(request.system).filter(|text| !text.is_empty()),
            text: request.prompt,
            before: request.context,
        },
    };
    run(&server, request.common, prompt, Shape::Generate).await
}

/// Answers a conversation.
pub(super) async fn chat(
    State(server): State<Arc<Server>>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Refused> {
    let mut request: Chat = parse(body)?;
    let messages = request.check()?;
    let prompt = match messages.is_empty() {
        true => Prompt::Load,
        false => Prompt::Messages(messages),
    };
    run(&server, request.common, prompt, Shape::Chat).await
}

async fn run(
    server: &Arc<Server>,
    mut request: Common,
    prompt: Prompt,
    shape: Shape,
) -> Result<Response, Refused> {
    let model = server.library.find(&request.model)?;
    if super::operator::is_meant(server, &model).await? {
        return super::operator::answer(server, model, request, prompt, shape).await;
    }
    let settings = request.settings()?;
    let keep_alive = KeepAlive::read(request.keep_alive.as_ref())?;
    let prompt = match (prompt, keep_alive) {
        (Prompt::Load, KeepAlive::For(time)) if time.is_zero() => Prompt::Unload,
        (prompt, _) => prompt,
    };
    let (events, receiver) = mpsc::unbounded_channel();
    server.engine.submit(Job {
        model,
        prompt,
        settings,
        keep_alive,
        events,
    })?;
    match request.stream.unwrap_or(true) {
        true => answer::streamed(request.model, shape, receiver).await,
        false => answer::whole(request.model, shape, receiver).await,
    }
}
