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
use crate::library::{Model, Opened, Summary};

/// The version of Ollama whose API this is: clients refuse an older one than they were made for. That of kOS
/// is in `/api/v1/system`.
const OLLAMA: &str = "0.13.0";

/// `GET /api/version`.
pub(super) async fn version() -> Json<Value> {
    Json(json!({ "version": OLLAMA }))
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
        let models = server.engine.status().into_iter().map(|status| {
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
        Ok(Json(json!({ "models": models.collect::<Vec<_>>() })))
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
        let model = server.library.find(request.model()?)?;
        let details = server.library.details(&model)?;
        let opened = model.open()?;
        let text = |key| opened.metadata().text(key).ok().flatten();
        let made = &model.made;
        let own = || {
            text("tokenizer.chat_template")
                .unwrap_or_default()
                .to_owned()
        };
        let template = made.template.clone().unwrap_or_else(own);
        let license = match made.licenses.is_empty() {
            true => text("general.license").unwrap_or_default().to_owned(),
            false => made.licenses.join("\n"),
        };
        let mut shown = json!({
            "license": license,
            "modelfile": modelfile(&model),
            "parameters": parameters(&made.parameters).join("\n"),
            "template": template,
            "details": details.summary,
            "model_info": model_info(&opened, request.verbose),
            "capabilities": details.capabilities,
            "modified_at": rfc3339(model.modified),
        });
        if let Some(system) = &made.system {
            shown["system"] = system.as_str().into();
        }
        if !made.messages.is_empty() {
            shown["messages"] = made.messages.as_slice().into();
        }
        Ok(Json(shown))
    })
    .await
}

/// Options as lines of a Modelfile, `key value`.
fn parameters(all: &Map<String, Value>) -> Vec<String> {
    let mut lines = Vec::new();
    for (key, value) in all {
        let values = match value {
            Value::Array(values) => values.as_slice(),
            value => std::slice::from_ref(value),
        };
        lines.extend(values.iter().map(|value| format!("{key:<30} {value}")));
    }
    lines
}

fn modelfile(model: &Model) -> String {
    let made = &model.made;
    let from = match model.path.as_os_str().is_empty() {
        true => model.name.clone(),
        false => model.path.display().to_string(),
    };
    let mut text = format!("FROM {from}\n");
    let mut block = |key: &str, value: &str| {
        text.push_str(&format!("{key} \"\"\"{value}\"\"\"\n"));
    };
    if let Some(template) = &made.template {
        block("TEMPLATE", template);
    }
    if let Some(system) = &made.system {
        block("SYSTEM", system);
    }
    made.licenses
        .iter()
        .for_each(|license| block("LICENSE", license));
    for line in parameters(&made.parameters) {
        text.push_str(&format!("PARAMETER {line}\n"));
    }
    text
}

/// The metadata as JSON. Arrays (vocabularies) only when they were asked for.
fn model_info(opened: &Opened, verbose: bool) -> Map<String, Value> {
    let mut info = Map::new();
    for (key, value) in opened.metadata().iter() {
        let hidden = matches!(value, gguf::Value::Array(_)) && !verbose;
        info.insert(
            key.to_owned(),
            if hidden { Value::Null } else { plain(value) },
        );
    }
    let parameters = opened.parameters();
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
