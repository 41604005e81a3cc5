//! The engine's events as Ollama's objects: a stream of lines, or one.

use axum::Json;
use axum::body::{Body, Bytes};
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde_json::{Value, json};
use std::convert::Infallible;
use tokio::sync::mpsc::UnboundedReceiver;

use super::error::{Refused, line};
use crate::clock;
use crate::engine::{Event, Failure, Refusal, Summary};

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

impl Writer {
    fn object(&self, text: &str, done: bool) -> Value {
        let mut object = json!({ "model": self.model, "created_at": clock::now() });
        match self.shape {
            Shape::Generate => object["response"] = text.into(),
            Shape::Chat => object["message"] = json!({ "role": "assistant", "content": text }),
        }
        object["done"] = done.into();
        object
    }

    fn end(&self, text: &str, summary: &Summary) -> Value {
        let mut object = self.object(text, true);
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

    /// An event as a line of the stream.
    fn line(&self, event: &Event) -> Bytes {
        let value = match event {
            Event::Text(text) => self.object(text, false),
            Event::Done(summary) => self.end("", summary),
            Event::Failed(failure) => line(&failure.text),
        };
        format!("{value}\n").into()
    }
}

/// The event that comes when the engine ended without one.
fn lost() -> Event {
    Event::Failed(Failure::new(
        Refusal::Internal,
        "the engine ended before the answer did",
    ))
}

/// One object a line, as they come. A failure before the first text has its own status; one
/// after it is a line.
pub(super) async fn streamed(
    model: String,
    shape: Shape,
    mut events: UnboundedReceiver<Event>,
) -> Result<Response, Refused> {
    let first = match events.recv().await.unwrap_or_else(lost) {
        Event::Failed(failure) => return Err(failure.into()),
        event => event,
    };
    let state = Some((Writer { model, shape }, Some(first), events));
    // Dropped by the server when its client leaves: with it goes the receiver, and the engine
    // sees that before its next token.
    let lines = stream::unfold(state, |state| async move {
        let (writer, first, mut events) = state?;
        let event = match first {
            Some(event) => event,
            None => events.recv().await.unwrap_or_else(lost),
        };
        let line = writer.line(&event);
        let next = matches!(event, Event::Text(_)).then_some((writer, None, events));
        Some((Ok::<_, Infallible>(line), next))
    });
    let body = Body::from_stream(lines);
    Ok(([(CONTENT_TYPE, "application/x-ndjson")], body).into_response())
}

/// One object with all of the answer.
pub(super) async fn whole(
    model: String,
    shape: Shape,
    mut events: UnboundedReceiver<Event>,
) -> Result<Response, Refused> {
    let mut answer = String::new();
    loop {
        match events.recv().await.unwrap_or_else(lost) {
            Event::Text(text) => answer.push_str(&text),
            Event::Done(summary) => {
                let object = Writer { model, shape }.end(&answer, &summary);
                return Ok(Json(object).into_response());
            }
            Event::Failed(failure) => return Err(failure.into()),
        }
    }
}
