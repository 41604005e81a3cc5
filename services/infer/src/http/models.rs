//! What models there are.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use serde_json::{Map, Value, json};

use super::Server;
use super::error::Refused;
use super::request::{Show, parse};
use crate::clock::rfc3339;
use crate::gguf;
use crate::library::{Model, Summary};

/// `GET /api/version`.
pub(super) async fn version() -> Json<Value> {
    Json(json!({ "version": env!("CARGO_PKG_VERSION") }))
}

/// Reads files on a thread of its own: the others go on being served.
pub(super) async fn blocking<T: Send + 'static>(
    act: impl FnOnce() -> Result<T, Refused> + Send + 'static,
) -> Result<T, Refused> {
    tokio::task::spawn_blocking(act).await.map_err(|error| {
        let status = axum::http::StatusCode::INTERNAL_SERVER_ERROR;
        Refused::new(status, format!("internal error: {error}"))
    })?
}

/// `GET /api/tags`.
pub(super) async fn tags(State(server): State<Arc<Server>>) -> Result<Json<Value>, Refused> {
    blocking(move || {
        let models = server.library.models()?;
        let models: Vec<_> = models
            .iter()
            .map(|model| entry(&server, model, model.bytes))
            .collect();
        Ok(Json(json!({ "models": models })))
    })
    .await
}

/// `GET /api/ps`.
pub(super) async fn running(State(server): State<Arc<Server>>) -> Result<Json<Value>, Refused> {
    blocking(move || {
        let models = server.engine.status().map(|status| {
            let mut entry = entry(&server, &status.model, status.bytes);
            if let Some(entry) = entry.as_object_mut() {
                entry.remove("modified_at");
                // For ever, as Ollama has it, is a time that nobody will see.
                let expires = status
                    .expires
                    .map_or_else(|| "2318-12-31T23:59:59.000000000Z".to_owned(), rfc3339);
                entry.insert("expires_at".to_owned(), expires.into());
                entry.insert("size_vram".to_owned(), 0.into());
                entry.insert("context_length".to_owned(), status.context.into());
            }
            entry
        });
        Ok(Json(
            json!({ "models": models.into_iter().collect::<Vec<_>>() }),
        ))
    })
    .await
}

/// One model in a list. A file that is damaged is listed, too: its owner should see it.
fn entry(server: &Server, model: &Model, bytes: u64) -> Value {
    let details = server.library.details(model);
    let (digest, summary) = match &details {
        Ok(details) => (details.digest.clone(), details.summary.clone()),
        Err(error) => {
            tracing::warn!("{}", crate::engine::Failure::internal(error).text);
            (String::new(), Summary::unknown())
        }
    };
    json!({
        "name": model.name,
        "model": model.name,
        "modified_at": rfc3339(model.modified),
        "size": bytes,
        "digest": digest,
        "details": summary,
    })
}

/// `POST /api/show`.
pub(super) async fn show(
    State(server): State<Arc<Server>>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Value>, Refused> {
    let request: Show = parse(body)?;
    blocking(move || {
        let model = server.library.find(&request.model)?;
        let details = server.library.details(&model)?;
        let (_, header) = model.open()?;
        let template = header
            .metadata
            .text("tokenizer.chat_template")
            .ok()
            .flatten();
        let license = header.metadata.text("general.license").ok().flatten();
        Ok(Json(json!({
            "license": license.unwrap_or_default(),
            "modelfile": format!("FROM {}\n", model.file_name()),
            "parameters": "",
            "template": template.unwrap_or_default(),
            "details": details.summary,
            "model_info": model_info(&header, request.verbose),
            "capabilities": ["completion"],
            "modified_at": rfc3339(model.modified),
        })))
    })
    .await
}

/// The metadata as JSON. Arrays (vocabularies) only when they were asked for.
fn model_info(header: &gguf::File, verbose: bool) -> Map<String, Value> {
    let mut info = Map::new();
    for (key, value) in header.metadata.iter() {
        let hidden = matches!(value, gguf::Value::Array(_)) && !verbose;
        info.insert(
            key.to_owned(),
            if hidden { Value::Null } else { plain(value) },
        );
    }
    let parameters: u64 = header.tensors.values().map(gguf::Tensor::elements).sum();
    info.insert("general.parameter_count".to_owned(), parameters.into());
    info
}

fn plain(value: &gguf::Value) -> Value {
    match value {
        gguf::Value::Unsigned(number) => (*number).into(),
        gguf::Value::Signed(number) => (*number).into(),
        gguf::Value::Float(number) => (*number).into(),
        gguf::Value::Bool(truth) => (*truth).into(),
        gguf::Value::String(text) => text.as_str().into(),
        gguf::Value::Array(values) => values.iter().map(plain).collect(),
    }
}
