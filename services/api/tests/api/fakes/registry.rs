//! A registry on this machine that breaks connections, asks for tokens, and lies, as it is told.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, Path, Query, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use futures_util::{StreamExt, stream};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::blobs::digest;

/// What it has, and what it was asked.
#[derive(Default)]
pub struct Shelf {
    pub blobs: BTreeMap<String, Vec<u8>>,
    pub manifests: BTreeMap<String, Bytes>,
    /// Bytes after which blobs break off, one for each time.
    pub cuts: Vec<usize>,
    /// Where requests for blobs began.
    pub begins: Vec<usize>,
    /// Wanted of everybody, when there is one.
    pub token: Option<String>,
    /// `Authorization` of requests for a token.
    pub shown: Vec<String>,
}

#[derive(Clone)]
struct Shared {
    shelf: Arc<Mutex<Shelf>>,
    host: String,
}

/// The registry.
pub struct Registry {
    shared: Shared,
    task: JoinHandle<()>,
}

impl Registry {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let shared = Shared {
            shelf: Arc::default(),
            host: listener.local_addr().unwrap().to_string(),
        };
        let guarded = Router::new()
            .route(
                "/v2/{space}/{model}/manifests/{tag}",
                get(manifest).put(put_manifest),
            )
            .route("/v2/{space}/{model}/blobs/{digest}", get(blob))
            .route("/v2/{space}/{model}/blobs/uploads/", post(place))
            .route("/upload", put(upload))
            .layer(DefaultBodyLimit::disable())
            .layer(from_fn_with_state(shared.clone(), guard));
        let router = guarded
            .route("/token", get(token))
            .route("/files/{digest}/{name}", get(file))
            .with_state(shared.clone());
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Registry { shared, task }
    }

    pub fn host(&self) -> &str {
        &self.shared.host
    }

    pub fn shelf(&self) -> MutexGuard<'_, Shelf> {
        self.shared.shelf.lock().unwrap()
    }

    /// Puts a model there; returns its file's digest.
    pub fn publish(&self, name: &str, file: &[u8]) -> String {
        let mut shelf = self.shelf();
        let mut layer = |kind: &str, bytes: &[u8]| {
            shelf.blobs.insert(digest(bytes), bytes.to_vec());
            let kind = format!("application/vnd.ollama.image.{kind}");
            json!({ "mediaType": kind, "digest": digest(bytes), "size": bytes.len() })
        };
        let manifest = json!({
            "schemaVersion": 2, "config": layer("config", b"{}"), "layers": [layer("model", file)],
        });
        let text = manifest.to_string().into();
        shelf.manifests.insert(format!("{name}:latest"), text);
        digest(file)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn guard(State(shared): State<Shared>, request: Request, next: Next) -> Response {
    let wanted = shared.shelf.lock().unwrap().token.clone();
    let shown = request.headers().get(header::AUTHORIZATION).cloned();
    match wanted {
        Some(token) if shown.is_none_or(|shown| shown != format!("Bearer {token}")) => {
            let challenge = format!(
                "Bearer realm=\"http://{}/token\",service=\"s\",scope=\"repository:a/b:pull\"",
                shared.host
            );
            let headers = [(header::WWW_AUTHENTICATE, challenge)];
            (StatusCode::UNAUTHORIZED, headers).into_response()
        }
        _ => next.run(request).await,
    }
}

async fn token(State(shared): State<Shared>, headers: HeaderMap) -> String {
    let mut shelf = shared.shelf.lock().unwrap();
    let shown = headers.get(header::AUTHORIZATION);
    shelf
        .shown
        .push(shown.map_or("", |shown| shown.to_str().unwrap()).to_owned());
    json!({ "token": shelf.token }).to_string()
}

type Name = Path<(String, String, String)>;

async fn manifest(State(shared): State<Shared>, Path((space, model, tag)): Name) -> Response {
    let shelf = shared.shelf.lock().unwrap();
    match shelf.manifests.get(&format!("{space}/{model}:{tag}")) {
        Some(text) => text.clone().into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

async fn put_manifest(
    State(shared): State<Shared>,
    Path((space, model, tag)): Name,
    body: Bytes,
) -> StatusCode {
    let mut shelf = shared.shelf.lock().unwrap();
    shelf
        .manifests
        .insert(format!("{space}/{model}:{tag}"), body);
    StatusCode::CREATED
}

async fn blob(
    State(shared): State<Shared>,
    Path((_, _, digest)): Name,
    headers: HeaderMap,
) -> Response {
    bytes(&shared, &digest, &headers)
}

async fn file(
    State(shared): State<Shared>,
    Path((digest, _)): Path<(String, String)>,
    headers: HeaderMap,
) -> Response {
    bytes(&shared, &digest, &headers)
}

fn bytes(shared: &Shared, digest: &str, headers: &HeaderMap) -> Response {
    let mut shelf = shared.shelf.lock().unwrap();
    let Some(all) = shelf.blobs.get(digest).cloned() else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let range = headers
        .get(header::RANGE)
        .map(|range| range.to_str().unwrap());
    let begin = range.map(|range| {
        let begin = range
            .strip_prefix("bytes=")
            .unwrap()
            .strip_suffix('-')
            .unwrap();
        begin.parse::<usize>().unwrap()
    });
    let rest = all[begin.unwrap_or(0)..].to_vec();
    shelf.begins.push(begin.unwrap_or(0));
    let length = rest.len().to_string();
    let range = format!(
        "bytes {}-{}/{}",
        begin.unwrap_or(0),
        all.len() - 1,
        all.len()
    );
    let status = match begin {
        Some(_) => StatusCode::PARTIAL_CONTENT,
        None => StatusCode::OK,
    };
    let headers = [
        (header::CONTENT_LENGTH, length),
        (header::CONTENT_RANGE, range),
        (header::ETAG, format!("\"{digest}\"")),
    ];
    let cut = (!shelf.cuts.is_empty() && rest.len() > shelf.cuts[0]).then(|| shelf.cuts.remove(0));
    let body = match cut {
        None => Body::from(rest),
        Some(cut) => {
            let beginning = Bytes::from(rest[..cut].to_vec());
            let broken = stream::once(async { Err("cut".to_owned()) });
            Body::from_stream(stream::iter([Ok(beginning)]).chain(broken))
        }
    };
    (status, headers, body).into_response()
}

async fn place() -> Response {
    (
        StatusCode::ACCEPTED,
        [(header::LOCATION, "/upload?state=1")],
    )
        .into_response()
}

async fn upload(
    State(shared): State<Shared>,
    Query(query): Query<BTreeMap<String, String>>,
    body: Bytes,
) -> Result<StatusCode, Infallible> {
    let found = digest(&body);
    if query["digest"] != found {
        return Ok(StatusCode::BAD_REQUEST);
    }
    shared
        .shelf
        .lock()
        .unwrap()
        .blobs
        .insert(found, body.to_vec());
    Ok(StatusCode::CREATED)
}

/// The lines of a pull or push.
pub fn lines(text: &str) -> Vec<Value> {
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}
