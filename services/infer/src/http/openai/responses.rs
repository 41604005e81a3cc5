//! `POST /v1/responses`: a conversation in OpenAI's newer form. Nothing is kept from one request to
//! the next; what would need a memory is refused.

mod request;
mod write;

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;

use super::super::Server;
use super::super::error::Refused;
use super::super::request::rejected;
use super::{Body, Talk, answered};
use request::Request;

/// `POST /v1/responses`.
pub(in super::super) async fn respond(State(server): State<Arc<Server>>, body: Body) -> Response {
    answered(answer(&server, body).await)
}

async fn answer(server: &Arc<Server>, body: Body) -> Result<Response, Refused> {
    let mut request = Request::read(&body.map_err(rejected)?)?;
    let talk = Talk {
        messages: request.messages()?,
        tools: std::mem::take(&mut request.tools),
        format: request.format()?,
        think: request.think(),
        options: request.options()?,
        logprobs: request.logprobs()?,
        biases: Vec::new(),
    };
    let answer = talk.submit(server, &request.model).await?;
    write::answer(&request, answer).await
}
