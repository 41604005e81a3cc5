//! `POST /api/pull` and `POST /api/push`, in Ollama's form.

use std::convert::Infallible;
use std::sync::Arc;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::address::{Reference, Source};
use super::body::Lines;
use super::client::Client;
use super::error::Error;
use super::infer::Infer;
use super::pull::Pull;
use super::push::Push;
use super::token::Credentials;
use crate::app::{App, stopped};
use crate::error::ApiError;

/// Lines that wait for a client that reads slowly.
const WAITING_LINES: usize = 32;

#[derive(Deserialize)]
struct Asked {
    #[serde(default)]
    model: Option<String>,
    /// As `model` was called before: Ollama's own client sends both, one of them empty.
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    insecure: Option<bool>,
    #[serde(default)]
    stream: Option<bool>,
    #[serde(default)]
    username: Option<String>,
    #[serde(default)]
    password: Option<String>,
}

impl Asked {
    fn read(body: &Bytes) -> Result<Self, ApiError> {
        let asked: Self = serde_json::from_slice(body)
            .map_err(|error| ApiError::BadRequest(format!("bad JSON: {error}")))?;
        Ok(asked)
    }

    /// The model that is meant; empty when none is.
    fn model(&self) -> &str {
        let given = [&self.model, &self.name].into_iter().flatten();
        given
            .map(String::as_str)
            .find(|text| !text.is_empty())
            .unwrap_or_default()
    }

    fn insecure(&self) -> bool {
        self.insecure.unwrap_or_default()
    }

    fn credentials(&mut self) -> Option<Credentials> {
        let name = self.username.take().filter(|name| !name.is_empty())?;
        let password = self.password.take().unwrap_or_default();
        Some(Credentials { name, password })
    }
}

/// `POST /api/pull`.
///
/// # Errors
/// When the name is none, or too many are under way.
pub async fn pull(State(app): State<Arc<App>>, body: Bytes) -> Result<Response, ApiError> {
    let mut asked = Asked::read(&body)?;
    let source = Source::parse(asked.model(), asked.insecure()).map_err(refused)?;
    let (client, infer) = ends(&app, asked.insecure())?;
    let pull = Pull {
        client,
        infer,
        credentials: asked.credentials(),
    };
    run(&app, asked.stream, |lines| async move {
        pull.run(source, &lines).await
    })
    .await
}

/// `POST /api/push`.
///
/// # Errors
/// When the name is none, or too many are under way.
pub async fn push(State(app): State<Arc<App>>, body: Bytes) -> Result<Response, ApiError> {
    let mut asked = Asked::read(&body)?;
    let reference = Reference::parse(asked.model(), asked.insecure()).map_err(refused)?;
    let (client, infer) = ends(&app, asked.insecure())?;
    let push = Push {
        client,
        infer,
        credentials: asked.credentials(),
    };
    run(&app, asked.stream, |lines| async move {
        push.run(&reference, &lines).await
    })
    .await
}

fn ends(app: &App, insecure: bool) -> Result<(Client, Infer), ApiError> {
    let client = Client::new(app.options.network.clone(), insecure).map_err(refused)?;
    Ok((client, Infer::new(app.options.infer.clone())))
}

fn refused(error: Error) -> ApiError {
    ApiError::BadRequest(error.to_string())
}

/// Ends with the answer that it belongs to.
struct Work(JoinHandle<Result<(), Error>>);

impl Drop for Work {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Does the work and passes on its lines; a client that leaves ends it. What has come is kept.
async fn run<F>(
    app: &Arc<App>,
    stream: Option<bool>,
    work: impl FnOnce(Lines) -> F,
) -> Result<Response, ApiError>
where
    F: Future<Output = Result<(), Error>> + Send + 'static,
{
    let place = app.transfer_place()?;
    let (sender, mut lines) = mpsc::channel(WAITING_LINES);
    let working = work(Lines(sender));
    let stopping = app.stopping.clone();
    let work = tokio::spawn(async move {
        let _place = place;
        tokio::select! {
            done = working => done,
            () = stopped(stopping) => Err(Error::Away("the box stops".to_owned())),
        }
    });
    let mut work = Work(work);
    if stream == Some(false) {
        while lines.recv().await.is_some() {}
        return match end(&mut work).await {
            None => Ok(Json(json!({ "status": "success" })).into_response()),
            Some(error) => Err(ApiError::Transfer(error)),
        };
    }
    let lines = stream::unfold(Some((lines, work)), |state| async move {
        let (mut lines, mut work) = state?;
        let (line, next) = match lines.recv().await {
            Some(line) => (line, Some((lines, work))),
            None => (json!({ "error": end(&mut work).await? }), None),
        };
        Some((Ok::<_, Infallible>(written(&line)), next))
    });
    let kind = [(CONTENT_TYPE, "application/x-ndjson")];
    Ok((kind, Body::from_stream(lines)).into_response())
}

/// Why it failed, if it did.
async fn end(work: &mut Work) -> Option<String> {
    match (&mut work.0).await {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(error.to_string()),
        Err(error) => Some(error.to_string()),
    }
}

fn written(line: &Value) -> Bytes {
    format!("{line}\n").into()
}
