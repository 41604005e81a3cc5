//! An answer as Ollama's objects: a stream of lines, or one.

use axum::Json;
use axum::body::{Body, Bytes};
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde_json::{Value, json};
use std::convert::Infallible;

use super::ask::{Answer, Piece};
use super::error::{Refused, line};
use crate::clock;
use crate::engine::{Likelihood, Summary};
use crate::reading::Part;

/// Which route's objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    Generate,
    Chat,
}

/// One answer's objects.
struct Writer {
    model: String,
    shape: Shape,
}

/// What one object says.
#[derive(Debug, Default)]
struct Said {
    text: String,
    thinking: String,
    calls: Vec<Value>,
    likely: Vec<Value>,
}

impl Said {
    fn add(&mut self, part: Part) {
        match part {
            Part::Text(text) => self.text.push_str(&text),
            Part::Thinking(text) => self.thinking.push_str(&text),
            Part::Call(call) => self.calls.push(json!({
                "function": { "name": call.name, "arguments": call.arguments }
            })),
        }
    }
}

impl Writer {
    fn object(&self, said: Said, done: bool) -> Value {
        let mut object = json!({ "model": self.model, "created_at": clock::now() });
        let set = |target: &mut Value| {
            if !said.thinking.is_empty() {
                target["thinking"] = said.thinking.as_str().into();
            }
            if !said.calls.is_empty() {
                target["tool_calls"] = said.calls.as_slice().into();
            }
        };
        match self.shape {
            Shape::Generate => {
                object["response"] = said.text.into();
                set(&mut object);
            }
            Shape::Chat => {
                let mut message = json!({ "role": "assistant", "content": said.text });
                set(&mut message);
                object["message"] = message;
            }
        }
        object["done"] = done.into();
        if !said.likely.is_empty() {
            object["logprobs"] = said.likely.into();
        }
        object
    }

    fn end(&self, said: Said, summary: &Summary) -> Value {
        let mut object = self.object(said, true);
        object["done_reason"] = summary.reason.into();
        if matches!(summary.reason, "load" | "unload") {
            return object;
        }
        if self.shape == Shape::Generate {
            object["context"] = summary.context.as_slice().into();
        }
        let nanoseconds = |time: std::time::Duration| u64::try_from(time.as_nanos()).ok();
        object["total_duration"] = nanoseconds(summary.total).into();
        object["load_duration"] = nanoseconds(summary.load).into();
        object["prompt_eval_count"] = summary.prompt_tokens.into();
        object["prompt_eval_duration"] = nanoseconds(summary.prompt).into();
        object["eval_count"] = summary.answer_tokens.into();
        object["eval_duration"] = nanoseconds(summary.answer).into();
        object
    }
}

/// A token's probability in both APIs' terms.
pub(super) fn likelihood(token: &Likelihood) -> Value {
    let one = |bytes: &[u8], logprob: f32| json!({ "token": String::from_utf8_lossy(bytes), "logprob": logprob, "bytes": bytes });
    let mut value = one(&token.bytes, token.logprob);
    let top = token
        .top
        .iter()
        .map(|(bytes, logprob)| one(bytes, *logprob));
    value["top_logprobs"] = top.collect();
    value
}

/// One object a line, as they come. A failure before the first text has its own status; one
/// after it is a line.
pub(super) async fn streamed(
    model: String,
    shape: Shape,
    answer: Answer,
) -> Result<Response, Refused> {
    let answer = answer.begun().await?;
    let state = Some((Writer { model, shape }, answer));
    let lines = stream::unfold(state, |state| async move {
        let (writer, mut answer) = state?;
        let mut said = Said::default();
        let (line, over) = loop {
            match answer.next().await {
                Piece::Part(part) => {
                    said.add(part);
                    break (writer.object(said, false), false);
                }
                // Stands in the line of its text.
                Piece::Token(token) => said.likely.push(likelihood(&token)),
                Piece::Vectors(_) => {}
                Piece::Done(summary) => break (writer.end(said, &summary), true),
                Piece::Failed(failure) => break (line(&failure.text), true),
            }
        };
        let next = (!over).then_some((writer, answer));
        Some((Ok::<_, Infallible>(Bytes::from(format!("{line}\n"))), next))
    });
    let body = Body::from_stream(lines);
    Ok(([(CONTENT_TYPE, "application/x-ndjson")], body).into_response())
}

/// One object with all of the answer.
pub(super) async fn whole(
    model: String,
    shape: Shape,
    mut answer: Answer,
) -> Result<Response, Refused> {
    let mut said = Said::default();
    loop {
        match answer.next().await {
            Piece::Part(part) => said.add(part),
            Piece::Token(token) => said.likely.push(likelihood(&token)),
            Piece::Vectors(_) => {}
            Piece::Done(summary) => {
                let object = Writer { model, shape }.end(said, &summary);
                return Ok(Json(object).into_response());
            }
            Piece::Failed(failure) => return Err(failure.into()),
        }
    }
}
