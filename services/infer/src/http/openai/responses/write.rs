//! A response as one object, or as events of its coming to be.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::Json;
use axum::body::{Body, Bytes};
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde_json::{Map, Value, json};

use super::super::super::answer::likelihood;
use super::super::super::ask::{Answer, Piece};
use super::super::super::error::Refused;
use super::super::write::unique;
use super::request::Request;
use crate::engine::{Failure, Summary};
use crate::reading::{Call, Part};

/// The answer, as the request wants it.
pub(super) async fn answer(request: &Request, answer: Answer) -> Result<Response, Refused> {
    let writer = Writer::new(request);
    match request.stream {
        true => streamed(writer, answer).await,
        false => whole(writer, answer).await,
    }
}

async fn whole(mut writer: Writer, mut answer: Answer) -> Result<Response, Refused> {
    loop {
        match answer.next().await {
            Piece::Done(summary) => {
                writer.finish(&summary);
                return Ok(Json(writer.response(&summary)).into_response());
            }
            Piece::Failed(failure) => return Err(failure.into()),
            piece => writer.take(piece),
        }
        writer.ready.clear();
    }
}

async fn streamed(mut writer: Writer, answer: Answer) -> Result<Response, Refused> {
    let answer = answer.begun().await?;
    for kind in ["response.created", "response.in_progress"] {
        let response = writer.object("in_progress", Value::Null);
        writer.event(kind, json!({ "response": response }));
    }
    let events = stream::unfold(
        (writer, Some(answer)),
        |(mut writer, mut answer)| async move {
            loop {
                if let Some(event) = writer.ready.pop_front() {
                    return Some((Ok::<_, Infallible>(event), (writer, answer)));
                }
                match answer.as_mut()?.next().await {
                    Piece::Done(summary) => {
                        answer = None;
                        writer.finish(&summary);
                        let response = writer.response(&summary);
                        let kind = match summary.reason {
                            "length" => "response.incomplete",
                            _ => "response.completed",
                        };
                        writer.event(kind, json!({ "response": response }));
                    }
                    Piece::Failed(failure) => {
                        answer = None;
                        let response = writer.failed(&failure);
                        writer.event("response.failed", json!({ "response": response }));
                    }
                    piece => writer.take(piece),
                }
            }
        },
    );
    let body = Body::from_stream(events);
    Ok(([(CONTENT_TYPE, "text/event-stream")], body).into_response())
}

/// The item that is being written.
struct Open {
    id: String,
    thinking: bool,
    text: String,
    likely: Vec<Value>,
}

struct Writer {
    id: String,
    created: u64,
    model: String,
    echo: Map<String, Value>,
    /// Whole items.
    items: Vec<Value>,
    open: Option<Open>,
    /// Probabilities of tokens whose text is still to come.
    likely: Vec<Value>,
    /// Events so far.
    count: u64,
    ready: VecDeque<Bytes>,
}

impl Writer {
    fn new(request: &Request) -> Self {
        let time = SystemTime::now().duration_since(UNIX_EPOCH);
        Self {
            id: unique("resp_"),
            created: time.map_or(0, |time| time.as_secs()),
            model: request.model.clone(),
            echo: request.echo.clone(),
            items: Vec::new(),
            open: None,
            likely: Vec::new(),
            count: 0,
            ready: VecDeque::new(),
        }
    }

    fn event(&mut self, kind: &str, mut event: Value) {
        event["type"] = kind.into();
        event["sequence_number"] = self.count.into();
        self.count += 1;
        let text = format!("event: {kind}\ndata: {event}\n\n");
        self.ready.push_back(text.into());
    }

    /// An event of the item that is being written.
    fn of_item(&mut self, kind: &str, mut event: Value) {
        event["output_index"] = self.items.len().into();
        self.event(kind, event);
    }

    fn take(&mut self, piece: Piece) {
        match piece {
            Piece::Token(token) => self.likely.push(likelihood(&token)),
            Piece::Part(Part::Text(text)) => self.say(&text, false),
            Piece::Part(Part::Thinking(text)) => self.say(&text, true),
            Piece::Part(Part::Call(call)) => self.call(&call),
            Piece::Vectors(_) | Piece::Done(_) | Piece::Failed(_) => {}
        }
    }

    fn say(&mut self, text: &str, thinking: bool) {
        if self
            .open
            .as_ref()
            .is_some_and(|open| open.thinking != thinking)
        {
            self.close("completed");
        }
        let mut open = match self.open.take() {
            Some(open) => open,
            None => self.begin(thinking),
        };
        let likely = std::mem::take(&mut self.likely);
        open.text.push_str(text);
        let mut delta = json!({ "item_id": open.id, "content_index": 0, "delta": text });
        let kind = match thinking {
            true => "response.reasoning_text.delta",
            false => {
                delta["logprobs"] = likely.as_slice().into();
                open.likely.extend(likely);
                "response.output_text.delta"
            }
        };
        self.open = Some(open);
        self.of_item(kind, delta);
    }

    fn begin(&mut self, thinking: bool) -> Open {
        let open = Open {
            id: unique(if thinking { "rs_" } else { "msg_" }),
            thinking,
            text: String::new(),
            likely: Vec::new(),
        };
        let mut item = open.item("in_progress");
        item["content"] = json!([]);
        self.of_item("response.output_item.added", json!({ "item": item }));
        let part = json!({ "item_id": open.id, "content_index": 0, "part": open.part() });
        self.of_item("response.content_part.added", part);
        open
    }

    /// Ends the item that is being written.
    fn close(&mut self, status: &str) {
        let Some(open) = self.open.take() else { return };
        let mut done = json!({ "item_id": open.id, "content_index": 0, "text": open.text });
        let kind = match open.thinking {
            true => "response.reasoning_text.done",
            false => {
                done["logprobs"] = open.likely.as_slice().into();
                "response.output_text.done"
            }
        };
        self.of_item(kind, done);
        let part = json!({ "item_id": open.id, "content_index": 0, "part": open.part() });
        self.of_item("response.content_part.done", part);
        self.whole_item(open.item(status));
    }

    fn whole_item(&mut self, item: Value) {
        self.of_item("response.output_item.done", json!({ "item": item }));
        self.items.push(item);
    }

    fn call(&mut self, call: &Call) {
        self.close("completed");
        self.likely.clear();
        let arguments = Value::Object(call.arguments.clone()).to_string();
        let id = unique("fc_");
        let mut item = json!({
            "type": "function_call",
            "id": id,
            "call_id": unique("call_"),
            "name": call.name,
            "arguments": "",
            "status": "in_progress",
        });
        self.of_item("response.output_item.added", json!({ "item": item }));
        let delta = json!({ "item_id": id, "delta": arguments });
        self.of_item("response.function_call_arguments.delta", delta);
        let done = json!({ "item_id": id, "name": call.name, "arguments": arguments });
        self.of_item("response.function_call_arguments.done", done);
        item["arguments"] = arguments.into();
        item["status"] = "completed".into();
        self.whole_item(item);
    }

    /// The end of the last item. An answer without a word is an empty message.
    fn finish(&mut self, summary: &Summary) {
        if self.items.is_empty() && self.open.is_none() {
            self.open = Some(self.begin(false));
        }
        self.close(match summary.reason {
            "length" => "incomplete",
            _ => "completed",
        });
    }

    /// The response as it is now.
    fn object(&self, status: &str, usage: Value) -> Value {
        let mut object = json!({
            "id": self.id,
            "object": "response",
            "created_at": self.created,
            "status": status,
            "background": false,
            "error": null,
            "incomplete_details": null,
            "model": self.model,
            "output": self.items,
            "usage": usage,
        });
        if let Some(object) = object.as_object_mut() {
            object.extend(self.echo.clone());
        }
        object
    }

    fn response(&self, summary: &Summary) -> Value {
        let usage = json!({
            "input_tokens": summary.prompt_tokens,
            "input_tokens_details": { "cached_tokens": 0 },
            "output_tokens": summary.answer_tokens,
            "output_tokens_details": { "reasoning_tokens": 0 },
            "total_tokens": summary.prompt_tokens + summary.answer_tokens,
        });
        match summary.reason {
            "length" => {
                let mut object = self.object("incomplete", usage);
                object["incomplete_details"] = json!({ "reason": "max_output_tokens" });
                object
            }
            _ => self.object("completed", usage),
        }
    }

    fn failed(&self, failure: &Failure) -> Value {
        let mut object = self.object("failed", Value::Null);
        object["error"] = json!({ "code": "server_error", "message": failure.text });
        object
    }
}

impl Open {
    fn part(&self) -> Value {
        match self.thinking {
            true => json!({ "type": "reasoning_text", "text": self.text }),
            false => json!({
                "type": "output_text",
                "text": self.text,
                "annotations": [],
                "logprobs": self.likely,
            }),
        }
    }

    fn item(&self, status: &str) -> Value {
        let (id, content) = (&self.id, [self.part()]);
        match self.thinking {
            true => json!({
                "type": "reasoning", "id": id, "summary": [], "content": content, "status": status,
            }),
            false => json!({
                "type": "message", "id": id, "role": "assistant", "content": content,
                "status": status,
            }),
        }
    }
}
