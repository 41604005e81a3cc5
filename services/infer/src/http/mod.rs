//! Ollama's routes, over HTTP/1.1 on a Unix socket.

mod answer;
mod error;
mod generate;
mod models;
mod operator;
mod request;

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::{StatusCode, Uri};
use axum::routing::{get, post};

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
        .fallback(|uri: Uri| async move {
            Refused::new(StatusCode::NOT_FOUND, format!("there is no {}", uri.path()))
        })
        .method_not_allowed_fallback(|| async {
            Refused::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "method not allowed".to_owned(),
            )
        })
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(server)
}
