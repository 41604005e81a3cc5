//! Answers as OpenAI's objects: server-sent events, or one object.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use axum::Json;
use axum::body::{Body, Bytes};
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde_json::{Value, json};

use super::super::answer::likelihood;
use super::super::ask::{Answer, Piece};
use super::super::error::{Refused, openai_failure};
use super::request::Common;
use crate::engine::Summary;
use crate::reading::{Call, Part};

/// Which route's objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    Chat,
    Completion,
}

/// Answers so far: with the time, an answer's name.
static COUNT: AtomicU64 = AtomicU64::new(0);

pub(super) fn unique(prefix: &str) -> String {
    let time = SystemTime::now().duration_since(UNIX_EPOCH);
    let time = time.map_or(0, |time| time.as_micros());
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("{prefix}{time:x}{count:x}")
}

struct Writer {
    shape: Shape,
    model: String,
    id: String,
    created: u64,
    usage: bool,
    calls: usize,
}

impl Writer {
    fn new(shape: Shape, model: &str, common: &Common) -> Self {
        let time = SystemTime::now().duration_since(UNIX_EPOCH);
        Self {
            shape,
            model: model.to_owned(),
            id: unique(match shape {
                Shape::Chat => "chatcmpl-",
                Shape::Completion => "cmpl-",
            }),
            created: time.map_or(0, |time| time.as_secs()),
            usage: common.tells_usage(),
            calls: 0,
        }
    }

    fn object(&self, kind: &str, choices: Value) -> Value {
        json!({
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": "kos",
            "choices": choices,
        })
    }

    fn call(call: &Call) -> Value {
        let arguments = Value::Object(call.arguments.clone()).to_string();
        json!({
            "id": unique("call_"),
            "type": "function",
            "function": { "name": call.name, "arguments": arguments },
        })
    }

    /// One chunk of a stream.
    fn chunk(&self, delta: Value, likely: Vec<Value>, reason: Option<&str>) -> Value {
        let logprobs = logprobs(self.shape, likely);
        match self.shape {
            Shape::Chat => self.object(
                "chat.completion.chunk",
                json!([{
                    "index": 0, "delta": delta, "logprobs": logprobs, "finish_reason": reason,
                }]),
            ),
            Shape::Completion => self.object(
                "text_completion",
                json!([{
                    "index": 0, "text": delta.get("content").cloned().unwrap_or_else(|| "".into()),
                    "logprobs": logprobs, "finish_reason": reason,
                }]),
            ),
        }
    }

    fn part(&mut self, part: Part) -> Value {
        match part {
            Part::Text(text) => json!({ "content": text }),
            Part::Thinking(text) => json!({ "reasoning": text }),
            Part::Call(call) => {
                let mut value = Self::call(&call);
                value["index"] = self.calls.into();
                self.calls += 1;
                json!({ "tool_calls": [value] })
            }
        }
    }

    fn reason(&self, summary: &Summary) -> &'static str {
        match summary.reason {
            "length" => "length",
            _ if self.calls > 0 => "tool_calls",
            _ => "stop",
        }
    }
}

fn usage(summary: &Summary) -> Value {
    json!({
        "prompt_tokens": summary.prompt_tokens,
        "completion_tokens": summary.answer_tokens,
        "total_tokens": summary.prompt_tokens + summary.answer_tokens,
    })
}

fn logprobs(shape: Shape, likely: Vec<Value>) -> Value {
    if likely.is_empty() {
        return Value::Null;
    }
    if shape == Shape::Chat {
        return json!({ "content": likely });
    }
    let tops = likely.iter().map(|token| {
        let top = token["top_logprobs"].as_array().into_iter().flatten();
        let pair = |one: &Value| {
            (
                one["token"].as_str().unwrap_or_default().to_owned(),
                one["logprob"].clone(),
            )
        };
        Value::Object(top.map(pair).collect())
    });
    let of = |key: &str| {
        likely
            .iter()
            .map(|token| token[key].clone())
            .collect::<Value>()
    };
    json!({
        "tokens": of("token"),
        "token_logprobs": of("logprob"),
        "top_logprobs": tops.collect::<Value>(),
    })
}

/// The answer, as the request wants it.
pub(super) async fn answer(
    shape: Shape,
    model: &str,
    common: &Common,
    answer: Answer,
) -> Result<Response, Refused> {
    let writer = Writer::new(shape, model, common);
    match common.stream.unwrap_or(false) {
        true => streamed(writer, answer).await,
        false => whole(writer, answer).await,
    }
}

fn event(value: &Value) -> Bytes {
    format!("data: {value}\n\n").into()
}

async fn streamed(writer: Writer, answer: Answer) -> Result<Response, Refused> {
    let answer = answer.begun().await?;
    let mut first = VecDeque::new();
    if writer.shape == Shape::Chat {
        let role = json!({ "role": "assistant", "content": "" });
        first.push_back(event(&writer.chunk(role, Vec::new(), None)));
    }
    let state = (Some((writer, answer)), first);
    let events = stream::unfold(state, |(state, mut ready)| async move {
        if let Some(event) = ready.pop_front() {
            return Some((Ok::<_, Infallible>(event), (state, ready)));
        }
        let (mut writer, mut answer) = state?;
        let mut likely = Vec::new();
        loop {
            match answer.next().await {
                Piece::Token(token) => likely.push(likelihood(&token)),
                Piece::Vectors(_) => {}
                Piece::Part(part) => {
                    let delta = writer.part(part);
                    let chunk = event(&writer.chunk(delta, likely, None));
                    return Some((Ok(chunk), (Some((writer, answer)), ready)));
                }
                Piece::Done(summary) => {
                    let reason = writer.reason(&summary);
                    let last = event(&writer.chunk(json!({}), likely, Some(reason)));
                    if writer.usage {
                        let mut chunk = writer.chunk(json!({}), Vec::new(), None);
                        chunk["choices"] = json!([]);
                        chunk["usage"] = usage(&summary);
                        ready.push_back(event(&chunk));
                    }
                    ready.push_back("data: [DONE]\n\n".into());
                    return Some((Ok(last), (None, ready)));
                }
                Piece::Failed(failure) => {
                    return Some((Ok(event(&openai_failure(failure))), (None, ready)));
                }
            }
        }
    });
    let body = Body::from_stream(events);
    Ok(([(CONTENT_TYPE, "text/event-stream")], body).into_response())
}

async fn whole(mut writer: Writer, mut answer: Answer) -> Result<Response, Refused> {
    let (mut text, mut thinking) = (String::new(), String::new());
    let (mut calls, mut likely) = (Vec::new(), Vec::new());
    let summary = loop {
        match answer.next().await {
            Piece::Part(Part::Text(more)) => text.push_str(&more),
            Piece::Part(Part::Thinking(more)) => thinking.push_str(&more),
            Piece::Part(Part::Call(call)) => calls.push(Writer::call(&call)),
            Piece::Token(token) => likely.push(likelihood(&token)),
            Piece::Vectors(_) => {}
            Piece::Done(summary) => break summary,
            Piece::Failed(failure) => return Err(failure.into()),
        }
    };
    writer.calls = calls.len();
    let reason = writer.reason(&summary);
    let logprobs = logprobs(writer.shape, likely);
    let mut object = match writer.shape {
        Shape::Completion => writer.object(
            "text_completion",
            json!([{ "index": 0, "text": text, "logprobs": logprobs, "finish_reason": reason }]),
        ),
        Shape::Chat => {
            let content = match text.is_empty() && !calls.is_empty() {
                true => Value::Null,
                false => text.into(),
            };
            let mut message = json!({ "role": "assistant", "content": content });
            if !thinking.is_empty() {
                message["reasoning"] = thinking.into();
            }
            if !calls.is_empty() {
                message["tool_calls"] = calls.into();
            }
            let choice = json!({
                "index": 0, "message": message, "logprobs": logprobs, "finish_reason": reason,
            });
            writer.object("chat.completion", json!([choice]))
        }
    };
    object["usage"] = usage(&summary);
    Ok(Json(object).into_response())
}

/// A vector's numbers, little-endian, as base64.
pub(super) fn base64(vector: &[f32]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let bytes: Vec<u8> = vector
        .iter()
        .flat_map(|number| number.to_le_bytes())
        .collect();
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let number = three.iter().chain([0, 0].iter()).take(3);
        let number = number.fold(0u32, |number, &byte| number << 8 | u32::from(byte));
        for place in 0..4 {
            let digit = (number >> (18 - 6 * place) & 63) as usize;
            text.push(if place <= three.len() {
                LETTERS[digit] as char
            } else {
                '='
            });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    #[test]
    fn numbers_as_base64() {
        // Python: base64.b64encode(struct.pack("<2f", 1.0, -2.5))
        assert_eq!(super::base64(&[1.0, -2.5]), "AACAPwAAIMA=");
        assert_eq!(super::base64(&[0.5]), "AAAAPw==");
        assert_eq!(super::base64(&[1.0, 2.0, 3.0]), "AACAPwAAAEAAAEBA");
    }
}
