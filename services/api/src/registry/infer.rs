//! The inference service as the keeper of blobs and manifests.

use std::path::PathBuf;

use axum::body::{Body, Bytes};
use hyper::header::{CONTENT_LENGTH, HOST, HeaderName};
use hyper::http::request::Builder;
use hyper::{Method, Request, StatusCode};
use serde_json::{Value, json};
use tokio::net::UnixStream;

use super::client::{Fetched, exchange};
use super::error::Error;

const OFFSET: HeaderName = HeaderName::from_static("upload-offset");
const LABELLED: HeaderName = HeaderName::from_static("upload-labelled");

/// Its socket.
pub struct Infer {
    socket: PathBuf,
}

/// How much of a blob it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Held {
    /// All of it.
    Whole,
    /// So many bytes.
    Part(u64),
}

/// A blob, or the rest of one, on its way to it.
pub struct Upload<'a> {
    /// What it is.
    pub digest: &'a str,
    /// The digest only names the part: nobody knows that of the bytes.
    pub labelled: bool,
    /// Where it goes on.
    pub offset: u64,
    /// How much comes, if that is known.
    pub length: Option<u64>,
    /// The bytes.
    pub body: Body,
}

impl Infer {
    /// By its socket.
    pub fn new(socket: PathBuf) -> Self {
        Self { socket }
    }

    async fn send(&self, request: Builder, body: Body) -> Result<Fetched, Error> {
        let away = |error: &dyn std::fmt::Display| Error::Away(error.to_string());
        let stream = UnixStream::connect(&self.socket).await;
        let stream = stream.map_err(|error| away(&error))?;
        let request = request.header(HOST, "kos-infer").body(body);
        let request = request.map_err(|error| away(&error))?;
        exchange(stream, "kos-infer".to_owned(), request).await
    }

    /// How much of a blob is there.
    pub async fn held(&self, digest: &str) -> Result<Held, Error> {
        let path = format!("/api/blobs/{digest}");
        let request = Request::builder().method(Method::HEAD).uri(path);
        let answer = self.send(request, Body::empty()).await?;
        match answer.parts.status {
            StatusCode::OK => Ok(Held::Whole),
            StatusCode::NOT_FOUND => {
                let offset = answer.header(&OFFSET).and_then(|text| text.parse().ok());
                Ok(Held::Part(offset.unwrap_or(0)))
            }
            _ => Err(refused(answer).await),
        }
    }

    /// Hands over a blob; returns its digest when that was not known.
    pub async fn upload(&self, upload: Upload<'_>) -> Result<Option<String>, Error> {
        let path = format!("/api/blobs/{}", upload.digest);
        let mut request = Request::builder().method(Method::POST).uri(path);
        request = request.header(OFFSET, upload.offset);
        if let Some(length) = upload.length {
            request = request.header(CONTENT_LENGTH, length);
        }
        if upload.labelled {
            request = request.header(LABELLED, "1");
        }
        let answer = self.send(request, upload.body).await?;
        if !answer.parts.status.is_success() {
            return Err(refused(answer).await);
        }
        let text = answer.text().await?;
        let value: Option<Value> = serde_json::from_slice(&text).ok();
        Ok(value.and_then(|value| Some(value["digest"].as_str()?.to_owned())))
    }

    /// Gives a model its manifest.
    pub async fn put_manifest(&self, name: &str, manifest: Bytes) -> Result<(), Error> {
        let path = format!("/api/manifests/{name}");
        let request = Request::builder().method(Method::PUT).uri(path);
        let answer = self.send(request, Body::from(manifest)).await?;
        done(answer).await
    }

    /// A model's manifest.
    pub async fn manifest(&self, name: &str) -> Result<Bytes, Error> {
        let request = Request::builder().uri(format!("/api/manifests/{name}"));
        let answer = self.send(request, Body::empty()).await?;
        match answer.parts.status.is_success() {
            true => answer.text().await,
            false => Err(refused(answer).await),
        }
    }

    /// A blob's bytes.
    pub async fn blob(&self, digest: &str) -> Result<Fetched, Error> {
        let request = Request::builder().uri(format!("/api/blobs/{digest}"));
        let answer = self.send(request, Body::empty()).await?;
        match answer.parts.status.is_success() {
            true => Ok(answer),
            false => Err(refused(answer).await),
        }
    }

    /// Makes a model of a file that is there.
    pub async fn create(&self, name: &str, digest: &str) -> Result<(), Error> {
        let body = json!({
            "model": name, "files": { (format!("{name}.gguf")): digest }, "stream": false,
        });
        let request = Request::builder().method(Method::POST).uri("/api/create");
        let answer = self.send(request, Body::from(body.to_string())).await?;
        done(answer).await
    }
}

async fn done(answer: Fetched) -> Result<(), Error> {
    match answer.parts.status.is_success() {
        true => Ok(()),
        false => Err(refused(answer).await),
    }
}

/// Its own words.
async fn refused(answer: Fetched) -> Error {
    let status = answer.parts.status;
    let text = answer.text().await.unwrap_or_default();
    let value: Option<Value> = serde_json::from_slice(&text).ok();
    let words = value.and_then(|value| Some(value["error"].as_str()?.to_owned()));
    let text = words.unwrap_or_else(|| format!("the inference service answered {status}"));
    Error::Store { status, text }
}
