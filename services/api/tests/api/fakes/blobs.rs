//! What an inference service keeps of models, in memory: blobs that may be parts, and manifests.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, head};
use futures_util::StreamExt;
use sha2::{Digest, Sha256};

/// All of it, shared with the test.
#[derive(Clone, Default)]
pub struct Blobs(Arc<Mutex<Kept>>);

#[derive(Default)]
struct Kept {
    whole: BTreeMap<String, Vec<u8>>,
    parts: BTreeMap<String, Vec<u8>>,
    manifests: BTreeMap<String, Bytes>,
}

pub fn digest(bytes: &[u8]) -> String {
    let hash = Sha256::digest(bytes);
    let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

impl Blobs {
    pub fn router(self) -> Router {
        Router::new()
            .route("/api/blobs/{digest}", head(has).get(read).post(put))
            .route("/api/manifests/{*name}", get(manifest).put(put_manifest))
            .with_state(self)
    }

    pub fn whole(&self, digest: &str) -> Option<Vec<u8>> {
        self.0.lock().unwrap().whole.get(digest).cloned()
    }

    pub fn part(&self, digest: &str) -> usize {
        let kept = self.0.lock().unwrap();
        kept.parts.get(digest).map_or(0, Vec::len)
    }

    pub fn manifest(&self, name: &str) -> Option<Bytes> {
        self.0.lock().unwrap().manifests.get(name).cloned()
    }

    pub fn add(&self, bytes: &[u8]) {
        let mut kept = self.0.lock().unwrap();
        kept.whole.insert(digest(bytes), bytes.to_vec());
    }

    pub fn add_manifest(&self, name: &str, text: String) {
        let mut kept = self.0.lock().unwrap();
        kept.manifests.insert(name.to_owned(), text.into());
    }
}

async fn has(State(blobs): State<Blobs>, Path(digest): Path<String>) -> Response {
    match blobs.whole(&digest) {
        Some(_) => StatusCode::OK.into_response(),
        None => {
            let offset = blobs.part(&digest).to_string();
            (StatusCode::NOT_FOUND, [("upload-offset", offset)]).into_response()
        }
    }
}

async fn read(State(blobs): State<Blobs>, Path(digest): Path<String>) -> Response {
    match blobs.whole(&digest) {
        Some(bytes) => bytes.into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

async fn put(
    State(blobs): State<Blobs>,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let offset = headers
        .get("upload-offset")
        .map(|text| text.to_str().unwrap());
    let offset: usize = offset.unwrap_or("0").parse().unwrap();
    blobs
        .0
        .lock()
        .unwrap()
        .parts
        .entry(name.clone())
        .or_default()
        .truncate(offset);
    let mut body = body.into_data_stream();
    while let Some(piece) = body.next().await {
        let Ok(piece) = piece else {
            return StatusCode::BAD_REQUEST.into_response();
        };
        let mut kept = blobs.0.lock().unwrap();
        kept.parts.entry(name.clone()).or_default().extend(piece);
    }
    let mut kept = blobs.0.lock().unwrap();
    let bytes = kept.parts.remove(&name).unwrap_or_default();
    let found = digest(&bytes);
    if found != name && !headers.contains_key("upload-labelled") {
        let text = format!("{{\"error\":\"digest mismatch, expected {name}, got {found}\"}}");
        return (StatusCode::BAD_REQUEST, text).into_response();
    }
    kept.whole.insert(found.clone(), bytes);
    (StatusCode::CREATED, format!("{{\"digest\":\"{found}\"}}")).into_response()
}

async fn manifest(State(blobs): State<Blobs>, Path(name): Path<String>) -> Response {
    match blobs.manifest(&name) {
        Some(text) => text.into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

async fn put_manifest(
    State(blobs): State<Blobs>,
    Path(name): Path<String>,
    body: Bytes,
) -> StatusCode {
    blobs.0.lock().unwrap().manifests.insert(name, body);
    StatusCode::CREATED
}
