//! An inference service that knows one sentence: Ollama's routes on a Unix socket.
//!
//! The prompt says how it behaves: with `die` in it, the connection breaks after three lines; with
//! `silence`, nothing comes after the first.

use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use futures_util::{Stream, stream};
use serde_json::{Value, json};
use tokio::net::UnixListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::blobs::Blobs;

const WORDS: &str = "A box with one file in it: a small kernel, a PID 1 written in Rust, and a \
                     model that answers.\n\nIt keeps no secrets from you.";

/// The fake, and what it has seen.
pub struct FakeInfer {
    /// Requests whose client has left before the end.
    pub left: watch::Receiver<usize>,
    /// The models that it keeps.
    pub blobs: Blobs,
    task: JoinHandle<()>,
}

#[derive(Clone)]
struct Shared {
    left: Arc<watch::Sender<usize>>,
    pace: Duration,
    has_model: bool,
}

impl FakeInfer {
    /// Serves at `socket` from now on; each word takes `pace`.
    pub fn start(socket: &Path, pace: Duration, has_model: bool) -> Self {
        let (sender, left) = watch::channel(0);
        let blobs = Blobs::default();
        let router = Router::new()
            .route("/", get(async || "Ollama is running"))
            .route(
                "/api/version",
                get(async || Json(json!({ "version": "0.1.0" }))),
            )
            .route("/api/tags", get(tags))
            .route("/api/echo", post(echo))
            .route("/api/generate", post(generate))
            .route("/api/chat", post(chat))
            .with_state(Shared {
                left: Arc::new(sender),
                pace,
                has_model,
            })
            .merge(blobs.clone().router());
        let listener = UnixListener::bind(socket).unwrap();
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        FakeInfer { left, blobs, task }
    }

    /// Ends it; the socket's file stays, as after a crash.
    pub async fn stop(&mut self) {
        self.task.abort();
        let _ = (&mut self.task).await;
    }
}

async fn tags(State(shared): State<Shared>) -> Json<Value> {
    let model = json!({
        "name": "tiny-llama:latest", "model": "tiny-llama:latest", "size": 1_200_000,
        "details": { "family": "llama", "parameter_size": "1.1M", "quantization_level": "Q8_0" }
    });
    let models = if shared.has_model {
        vec![model]
    } else {
        vec![]
    };
    Json(json!({ "models": models }))
}

/// Says which headers and how many bytes arrived.
async fn echo(headers: HeaderMap, body: Bytes) -> Json<Value> {
    let names: Vec<&str> = headers.keys().map(|name| name.as_str()).collect();
    Json(json!({ "headers": names, "bytes": body.len() }))
}

async fn generate(State(shared): State<Shared>, Json(asked): Json<Value>) -> Response {
    let prompt = asked["prompt"].as_str().unwrap_or_default().to_owned();
    lines(
        shared,
        prompt,
        |word| json!({ "response": word, "done": false }),
    )
}

async fn chat(State(shared): State<Shared>, Json(asked): Json<Value>) -> Response {
    let last = asked["messages"].as_array().and_then(|all| all.last());
    let prompt = last.and_then(|message| message["content"].as_str());
    let prompt = prompt.unwrap_or_default().to_owned();
    if asked["model"] == "operator" {
        // Whoever asks says the call that is to be understood.
        let message = json!({ "role": "assistant", "content": prompt });
        return Json(json!({ "message": message, "done": true })).into_response();
    }
    lines(
        shared,
        prompt,
        |word| json!({ "message": { "role": "assistant", "content": word }, "done": false }),
    )
}

fn lines(shared: Shared, prompt: String, line: fn(&str) -> Value) -> Response {
    let body = Body::from_stream(words(shared, prompt, line));
    ([(header::CONTENT_TYPE, "application/x-ndjson")], body).into_response()
}

/// Counts a client that leaves: dropped before `done` is set.
struct Presence {
    shared: Shared,
    done: bool,
}

impl Drop for Presence {
    fn drop(&mut self) {
        if !self.done {
            self.shared.left.send_modify(|left| *left += 1);
        }
    }
}

fn words(
    shared: Shared,
    prompt: String,
    line: fn(&str) -> Value,
) -> impl Stream<Item = Result<String, &'static str>> {
    let presence = Presence {
        shared,
        done: false,
    };
    stream::unfold((0, presence), move |(number, mut presence)| {
        let prompt = prompt.clone();
        async move {
            let words: Vec<&str> = WORDS.split_inclusive(' ').collect();
            if presence.done {
                return None;
            }
            if number == 1 && prompt.contains("silence") {
                std::future::pending::<Infallible>().await;
            }
            if number == 3 && prompt.contains("die") {
                presence.done = true;
                return Some((Err("dies"), (number, presence)));
            }
            tokio::time::sleep(presence.shared.pace).await;
            let value = match words.get(number) {
                Some(word) => line(word),
                None => {
                    presence.done = true;
                    let took = u64::try_from(presence.shared.pace.as_nanos()).unwrap();
                    json!({
                        "done": true, "done_reason": "stop", "eval_count": number,
                        "prompt_eval_count": prompt.split(' ').count(),
                        "eval_duration": took * number as u64, "total_duration": took * 30,
                    })
                }
            };
            Some((Ok(format!("{value}\n")), (number + 1, presence)))
        }
    })
}
