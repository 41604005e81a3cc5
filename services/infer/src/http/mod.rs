//! Ollama's and OpenAI's routes, over HTTP/1.1 on a Unix socket.

mod answer;
mod ask;
mod error;
mod generate;
mod manage;
mod models;
mod openai;
mod operator;
mod request;

use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request};
use axum::http::header::CONTENT_LENGTH;
use axum::http::{StatusCode, Uri};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, head, post};

use crate::engine::Engine;
use crate::library::Library;
use crate::operator::desk::Desk;
use error::Refused;

/// Largest request body. A prompt of the longest contexts in use (131,072 tokens) has some
/// 600 KB; a client that gets back its `context` as numbers sends about as much again.
const MAX_BODY: usize = 8 * 1024 * 1024;

/// What every route needs.
pub struct Server {
    /// The models there are.
    pub library: Library,
    /// What computes.
    pub engine: Arc<Engine>,
    /// Where the operator answers, which is no model for the engine.
    pub operator: Desk,
}

/// All routes.
pub fn router(server: Arc<Server>) -> Router {
    Router::new()
        .route("/", get(|| async { "Ollama is running" }))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/api/version", get(models::version))
        .route("/api/tags", get(models::tags))
        .route("/api/ps", get(models::running))
        .route("/api/show", post(models::show))
        .route("/api/generate", post(generate::generate))
        .route("/api/chat", post(generate::chat))
        .route("/api/embed", post(generate::embed))
        .route("/api/embeddings", post(generate::embeddings))
        .route("/api/create", post(manage::create))
        .route("/api/copy", post(manage::copy))
        .route("/api/delete", delete(manage::delete))
        // An upload has no size limit but the disk's, which the store keeps.
        .route(
            "/api/blobs/{digest}",
            head(manage::has_blob)
                .get(manage::get_blob)
                .post(manage::put_blob),
        )
        .route(
            "/api/manifests/{*name}",
            get(manage::get_manifest).put(manage::put_manifest),
        )
        .route("/v1/chat/completions", post(openai::chat))
        .route("/v1/responses", post(openai::respond))
        .route("/v1/completions", post(openai::completions))
        .route("/v1/embeddings", post(openai::embeddings))
        .route("/v1/models", get(openai::models))
        .route("/v1/models/{*id}", get(openai::model))
        .fallback(|uri: Uri| async move {
            let text = format!("there is no {}", uri.path());
            refused(&uri, Refused::new(StatusCode::NOT_FOUND, text))
        })
        .method_not_allowed_fallback(|uri: Uri| async move {
            let text = "method not allowed".to_owned();
            refused(&uri, Refused::new(StatusCode::METHOD_NOT_ALLOWED, text))
        })
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(from_fn(refuse_large))
        .with_state(server)
}

/// Refuses a body that says that it is too large before any of it is taken. Uploads are the store's to
/// judge.
async fn refuse_large(request: Request, next: Next) -> Response {
    let length = request.headers().get(CONTENT_LENGTH);
    let length = length.and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    let upload = request.uri().path().starts_with("/api/blobs/");
    if !upload && length.is_some_and(|length| length > MAX_BODY as u64) {
        return refused(request.uri(), request::too_large());
    }
    next.run(request).await
}

/// Whether a route would take a body, without asking anything of a model: the part of the routes that
/// `fuzz/` feeds.
///
/// # Errors
/// Why it would not, in words.
pub fn check_body(path: &str, body: &[u8]) -> Result<(), String> {
    let outcome = match path {
        "/api/chat" => request::check_chat(body),
        "/api/generate" => request::check_generate(body),
        "/v1/chat/completions" => openai::check_chat(body),
        "/v1/completions" => openai::check_completion(body),
        path => Err(Refused::bad(format!("{path} takes no such body"))),
    };
    outcome.map_err(|refused| refused.text().to_owned())
}

/// An error in the words of the API that was meant.
fn refused(uri: &Uri, refused: Refused) -> Response {
    match uri.path().starts_with("/v1/") {
        true => refused.openai(),
        false => refused.into_response(),
    }
}
