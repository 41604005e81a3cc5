//! Uploads, and models that are made, copied and deleted.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::{Body, BodyDataStream, Bytes};
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::{StreamExt, stream};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::convert::Infallible;
use tokio::sync::mpsc;

use super::Server;
use super::error::{Refused, line};
use super::models::blocking;
use super::request::{asked, named, parse, refuse, rejected};
use crate::library::{self, Digest, Name, Recipe};

/// Most files of one model.
const MAX_FILES: usize = 1100;

/// Where an upload goes on, and how much of it is here.
const OFFSET: HeaderName = HeaderName::from_static("upload-offset");
/// Says that the digest in the path is a label, because nobody knows that of the bytes yet.
const LABELLED: HeaderName = HeaderName::from_static("upload-labelled");
/// The largest upload that arrives and is thrown away when it is refused, and the time for it.
const DISCARDED: u64 = 256 * 1024 * 1024;
const DISCARD_LIMIT: Duration = Duration::from_secs(10);
/// What is read of a blob at once.
const PIECE: usize = 256 * 1024;

fn digest(text: &str) -> Result<Digest, Refused> {
    Digest::parse(text).ok_or_else(|| {
        let found: String = text.chars().take(100).collect();
        Refused::bad(format!(
            "invalid digest {found:?}, allowed: sha256: and 64 hexadecimal digits"
        ))
    })
}

fn name(text: &str) -> Result<Name, Refused> {
    let found = || text.chars().take(200).collect();
    let error = || library::Error::Name { name: found() };
    Name::parse(text).ok_or_else(|| error().into())
}

/// `HEAD /api/blobs/:digest`. When it is not here, `upload-offset` says how much of it is.
pub(super) async fn has_blob(
    State(server): State<Arc<Server>>,
    Path(text): Path<String>,
) -> Result<Response, Refused> {
    let digest = digest(&text)?;
    let store = &server.library.store;
    Ok(match store.length(&digest) {
        Some(_) => StatusCode::OK.into_response(),
        None => {
            let offset = HeaderValue::from(store.partial_length(&digest));
            (StatusCode::NOT_FOUND, [(OFFSET, offset)]).into_response()
        }
    })
}

/// `POST /api/blobs/:digest`. With `upload-offset: N` it goes on at byte N.
pub(super) async fn put_blob(
    State(server): State<Arc<Server>>,
    Path(text): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refused> {
    let digest = digest(&text)?;
    let labelled = headers.contains_key(LABELLED);
    let number = |key: &HeaderName| {
        let Some(value) = headers.get(key) else {
            return Ok(None);
        };
        let found = value
            .to_str()
            .ok()
            .and_then(|text| text.parse::<u64>().ok());
        let wrong = || Refused::bad(format!("{key} is {value:?}, allowed: a number of bytes"));
        found.map(Some).ok_or_else(wrong)
    };
    let offset = number(&OFFSET)?.unwrap_or(0);
    let length = number(&header::CONTENT_LENGTH)?;
    if server.library.store.length(&digest).is_some() {
        discard(body.into_data_stream(), length).await;
        return Ok(StatusCode::OK.into_response());
    }
    // Some pieces, so that reading and writing overlap; a slow disk holds up the client.
    let (sender, mut pieces) = mpsc::channel::<Option<Bytes>>(4);
    let writing = tokio::spawn(blocking(move || {
        let mut writing = server.library.store.begin(&digest, offset, length)?;
        if labelled {
            writing = writing.labelled();
        }
        loop {
            match pieces.blocking_recv() {
                Some(Some(bytes)) => writing.write(&bytes)?,
                Some(None) => return Ok(writing.finish()?),
                // What has come is kept, for the rest.
                None => return Err(Refused::bad("the upload broke off")),
            }
        }
    }));
    let mut body = body.into_data_stream();
    let whole = loop {
        let piece = tokio::select! {
            piece = body.next() => piece,
            // The writer has ended, and says below why.
            () = sender.closed() => break false,
        };
        match piece {
            Some(Ok(piece)) if sender.send(Some(piece.clone())).await.is_ok() => {}
            Some(_) => break false,
            None => break true,
        }
    };
    if sender.is_closed() {
        discard(body, length).await;
    }
    if whole {
        let _ = sender.send(None).await;
    }
    drop(sender);
    let found = writing
        .await
        .map_err(|error| Refused::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))??;
    Ok(match labelled {
        false => StatusCode::CREATED.into_response(),
        true => {
            let found = json!({ "digest": found.to_string() });
            (StatusCode::CREATED, Json(found)).into_response()
        }
    })
}

/// Lets what nobody wants arrive: a client that is still sending would see a broken connection
/// instead of the answer.
async fn discard(mut body: BodyDataStream, length: Option<u64>) {
    if length.is_none_or(|length| length <= DISCARDED) {
        let rest = async { while let Some(Ok(_)) = body.next().await {} };
        // However long it goes on after that is its own affair.
        let _ = tokio::time::timeout(DISCARD_LIMIT, rest).await;
    }
}

/// `GET /api/blobs/:digest`.
pub(super) async fn get_blob(
    State(server): State<Arc<Server>>,
    Path(text): Path<String>,
) -> Result<Response, Refused> {
    let digest = digest(&text)?;
    let opened = blocking(move || {
        let store = &server.library.store;
        let file = std::fs::File::open(store.blob(&digest));
        let file = file.and_then(|file| Ok((file.metadata()?.len(), file)));
        file.map_err(|error| {
            let status = match error.kind() {
                std::io::ErrorKind::NotFound => StatusCode::NOT_FOUND,
                _ => StatusCode::INTERNAL_SERVER_ERROR,
            };
            Refused::new(status, format!("blob {digest}: {error}"))
        })
    });
    let (length, file) = opened.await?;
    let pieces = stream::try_unfold(file, |mut file| async move {
        let read = tokio::task::spawn_blocking(move || {
            let mut piece = vec![0; PIECE];
            let read = std::io::Read::read(&mut file, &mut piece)?;
            piece.truncate(read);
            Ok::<_, std::io::Error>((piece, file))
        });
        let (piece, file) = read.await.map_err(std::io::Error::other)??;
        Ok::<_, std::io::Error>((!piece.is_empty()).then(|| (Bytes::from(piece), file)))
    });
    let length = [(header::CONTENT_LENGTH, length)];
    Ok((length, Body::from_stream(pieces)).into_response())
}

/// `PUT /api/manifests/NAME`: a registry's manifest, whose blobs are here.
pub(super) async fn put_manifest(
    State(server): State<Arc<Server>>,
    Path(text): Path<String>,
    body: Result<Bytes, BytesRejection>,
) -> Result<StatusCode, Refused> {
    let name = name(&text)?;
    let body = body.map_err(rejected)?;
    blocking(move || Ok(server.library.register(&name, &body)?)).await?;
    Ok(StatusCode::CREATED)
}

/// `GET /api/manifests/NAME`.
pub(super) async fn get_manifest(
    State(server): State<Arc<Server>>,
    Path(text): Path<String>,
) -> Result<Response, Refused> {
    let text = blocking(move || Ok(server.library.manifest(&text)?)).await?;
    let kind = [(header::CONTENT_TYPE, library::MANIFEST_TYPE)];
    Ok((kind, text).into_response())
}

#[derive(Debug, Deserialize)]
struct Create {
    #[serde(default)]
    model: Option<String>,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    modelfile: Option<String>,
    #[serde(default)]
    from: Option<String>,
    #[serde(default)]
    files: Option<Map<String, Value>>,
    #[serde(default)]
    adapters: Value,
    #[serde(default)]
    quantize: Value,
    #[serde(default)]
    template: Option<String>,
    #[serde(default)]
    system: Option<String>,
    #[serde(default)]
    parameters: Option<Map<String, Value>>,
    #[serde(default)]
    messages: Option<Vec<Said>>,
    #[serde(default)]
    license: Option<Licenses>,
    #[serde(default)]
    stream: Option<bool>,
}

#[derive(Debug, Deserialize)]
struct Said {
    role: String,
    content: String,
}

#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "a text or an array of texts")]
enum Licenses {
    One(String),
    Many(Vec<String>),
}

impl Create {
    fn recipe(self) -> Result<Recipe, Refused> {
        refuse(
            asked(&self.adapters) && self.adapters != json!({}),
            "adapters",
        )?;
        refuse(asked(&self.quantize), "quantize")?;
        let files = self.files.unwrap_or_default();
        if files.len() > MAX_FILES {
            let found = files.len();
            return Err(Refused::bad(format!(
                "files has {found} entries, allowed: at most {MAX_FILES}"
            )));
        }
        let files = files.into_iter().map(|(name, value)| {
            let text = value.as_str();
            let text =
                text.ok_or_else(|| Refused::bad(format!("files has {value}, allowed: a digest")))?;
            Ok((name, digest(text)?))
        });
        let files = files.collect::<Result<Vec<_>, Refused>>()?;
        let parameters = self.parameters.unwrap_or_default();
        // A model whose options are out of range would refuse every request.
        super::request::settings(&Map::new(), parameters.clone())?;
        let full = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        let mut messages = Vec::new();
        for said in self.messages.unwrap_or_default() {
            if !["system", "user", "assistant"].contains(&said.role.as_str()) {
                let role = said.role;
                return Err(Refused::bad(format!(
                    "message role {role:?} is not valid, allowed: system, user, assistant"
                )));
            }
            messages.push(json!({ "role": said.role, "content": said.content }));
        }
        Ok(Recipe {
            from: full(&self.from),
            files,
            template: full(&self.template),
            system: full(&self.system),
            parameters,
            messages,
            licenses: match self.license {
                None => Vec::new(),
                Some(Licenses::One(text)) => vec![text],
                Some(Licenses::Many(texts)) => texts,
            },
        })
    }
}

/// `POST /api/create`.
pub(super) async fn create(
    State(server): State<Arc<Server>>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Refused> {
    let request: Create = parse(body)?;
    let parts = request.from.is_some() || request.files.is_some();
    if !parts
        && request
            .modelfile
            .as_ref()
            .is_some_and(|text| !text.is_empty())
    {
        let text = "modelfile is not read here; allowed: its parts, as from, files, template, system, \
                    parameters, messages and license, which Ollama's clients make of it";
        return Err(Refused::bad(text));
    }
    let name = name(named(&request.model, &request.name)?)?;
    let streams = request.stream.unwrap_or(true);
    let recipe = request.recipe()?;
    // The steps are few: one for each layer.
    let (sender, mut steps) = mpsc::unbounded_channel();
    let making = blocking(move || {
        // A client that has left does not stop a model that is nearly made.
        let tell = |step: String| drop(sender.send(json!({ "status": step })));
        Ok(server.library.make(&name, recipe, &tell)?)
    });
    if !streams {
        making.await?;
        return Ok(Json(json!({ "status": "success" })).into_response());
    }
    let making = tokio::spawn(making);
    let first = steps.recv().await;
    if first.is_none() {
        // It ended before its first step.
        making.await.map_err(|error| {
            Refused::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
        })??;
        return Ok(Json(json!({ "status": "success" })).into_response());
    }
    let state = Some((first, steps, making));
    let lines = stream::unfold(state, |state| async move {
        let (first, mut steps, making) = state?;
        let step = match first {
            Some(step) => Some(step),
            None => steps.recv().await,
        };
        let (value, next) = match step {
            Some(step) => (step, Some((None, steps, making))),
            None => match making.await {
                Ok(Ok(())) => (json!({ "status": "success" }), None),
                Ok(Err(refused)) => (line(refused.text()), None),
                Err(error) => (line(&error.to_string()), None),
            },
        };
        Some((Ok::<_, Infallible>(Bytes::from(format!("{value}\n"))), next))
    });
    let body = Body::from_stream(lines);
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], body).into_response())
}

#[derive(Debug, Deserialize)]
struct Copy {
    source: String,
    destination: String,
}

/// `POST /api/copy`.
pub(super) async fn copy(
    State(server): State<Arc<Server>>,
    body: Result<Bytes, BytesRejection>,
) -> Result<StatusCode, Refused> {
    let request: Copy = parse(body)?;
    let to = name(&request.destination)?;
    blocking(move || Ok(server.library.copy(&request.source, &to)?)).await?;
    Ok(StatusCode::OK)
}

#[derive(Debug, Deserialize)]
struct Delete {
    #[serde(default)]
    model: Option<String>,
    #[serde(default)]
    name: Option<String>,
}

/// `DELETE /api/delete`.
pub(super) async fn delete(
    State(server): State<Arc<Server>>,
    body: Result<Bytes, BytesRejection>,
) -> Result<StatusCode, Refused> {
    let request: Delete = parse(body)?;
    let model = named(&request.model, &request.name)?.to_owned();
    blocking(move || Ok(server.library.delete(&model)?)).await?;
    Ok(StatusCode::OK)
}
