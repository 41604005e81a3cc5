//! Ollama's and OpenAI's routes, passed through to the inference service over its Unix socket.
//!
//! Nothing is buffered. A client that leaves takes its upstream connection with it, which is how
//! the inference service learns to stop. When the upstream dies in the middle of a stream of lines,
//! a last line tells the client.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Uri, header};
use axum::response::Response;
use futures_util::stream;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio::task::AbortHandle;

use crate::app::{App, stopped};
use crate::error::ApiError;

/// Largest body towards the inference service, which takes no larger one. An upload of a model
/// has no limit here; the inference service keeps room on the disk.
const MAX_BODY: usize = 8 * 1024 * 1024;
/// Where models are uploaded.
const UPLOADS: &str = "/api/blobs/";
/// Time for a body that is too large to arrive and be thrown away.
const DISCARD_LIMIT: Duration = Duration::from_secs(10);
/// The inference service's name in PID 1's list.
const SERVICE: &str = "infer";

/// Headers that belong to one connection, and those that are nobody's business upstream.
const NOT_PASSED: [&str; 14] = [
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "host",
    "authorization",
    "cookie",
    "origin",
    "referer",
    "expect",
];

/// Passes one request through.
///
/// # Errors
/// When the inference service is away, or goes away before it answers.
pub async fn pass(State(app): State<Arc<App>>, request: Request) -> Result<Response, ApiError> {
    let (parts, body) = request.into_parts();
    let most = match parts.uri.path().starts_with(UPLOADS) {
        true => usize::MAX,
        false => MAX_BODY,
    };
    let declared = parts
        .headers
        .get(header::CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    if declared.is_some_and(|length| length > most) {
        // A client that is still sending would see a broken connection instead of the answer.
        // However long it goes on after that is its own affair.
        let _ = tokio::time::timeout(DISCARD_LIMIT, discard(body)).await;
        return Err(ApiError::TooLarge(MAX_BODY));
    }
    let Ok(stream) = UnixStream::connect(&app.options.infer).await else {
        return Err(ApiError::InferenceAway(why_not_ready(&app).await));
    };
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| died(&error))?;
    let upstream = Upstream(
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!("connection to the inference service: {error}");
            }
        })
        .abort_handle(),
    );

    let target = parts
        .uri
        .path_and_query()
        .map_or("/", |target| target.as_str());
    let mut request = Request::new(Limited::new(body, most));
    *request.method_mut() = parts.method;
    *request.uri_mut() = target
        .parse::<Uri>()
        .map_err(|error| ApiError::BadRequest(error.to_string()))?;
    *request.headers_mut() = passed(&parts.headers);
    request
        .headers_mut()
        .insert(header::HOST, HeaderValue::from_static("kos-infer"));
    let (answer, body) = sender
        .send_request(request)
        .await
        .map_err(|error| {
            if is_too_large(&error) {
                ApiError::TooLarge(MAX_BODY)
            } else {
                died(&error)
            }
        })?
        .into_parts();

    let is_lines = answer
        .headers
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"application/x-ndjson"));
    let relay = Relay {
        body,
        // Held with the body: dropped when the client leaves or the answer is complete.
        _upstream: upstream,
        app: Arc::clone(&app),
        is_lines,
        at_line_start: true,
        ended: false,
    };
    let mut response = Response::new(Body::from_stream(stream::unfold(relay, Relay::next)));
    *response.status_mut() = answer.status;
    *response.headers_mut() = passed(&answer.headers);
    Ok(response)
}

/// The task that drives the upstream connection; ends with this value.
struct Upstream(AbortHandle);

impl Drop for Upstream {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// An answer on its way to the client.
struct Relay {
    body: Incoming,
    _upstream: Upstream,
    app: Arc<App>,
    is_lines: bool,
    at_line_start: bool,
    ended: bool,
}

impl Relay {
    async fn next(mut self) -> Option<(Result<Bytes, String>, Self)> {
        while !self.ended {
            let frame = tokio::select! {
                frame = self.body.frame() => frame?.map_err(|error| error.to_string()),
                () = stopped(self.app.stopping.clone()) => Err("the API service stops".to_owned()),
            };
            match frame {
                Ok(frame) => {
                    // Trailers are not passed on: Ollama has none.
                    if let Ok(data) = frame.into_data()
                        && let Some(last) = data.last()
                    {
                        self.at_line_start = *last == b'\n';
                        return Some((Ok(data), self));
                    }
                }
                Err(error) => {
                    self.ended = true;
                    let reason = self.reason(&error).await;
                    tracing::warn!("{reason}");
                    // Other answers have a length, or their client sees the chunks break off.
                    let last = if self.is_lines {
                        Ok(self.error_line(&reason))
                    } else {
                        Err(reason)
                    };
                    return Some((last, self));
                }
            }
        }
        None
    }

    async fn reason(&self, error: &str) -> String {
        if *self.app.stopping.borrow() {
            return "the answer was cut off: the API service stops".to_owned();
        }
        // PID 1 may know more by now than that the connection broke.
        let seen = self.app.live.fresh().await;
        let why = seen
            .service(SERVICE)
            .filter(|service| service.state != "ready")
            .map_or_else(
                || error.to_owned(),
                |service| format!("{}, {}", service.state, service.reason),
            );
        format!("the inference service went away in the middle of the answer: {why}")
    }

    fn error_line(&self, reason: &str) -> Bytes {
        let start = if self.at_line_start { "" } else { "\n" };
        format!("{start}{}\n", serde_json::json!({ "error": reason })).into()
    }
}

/// Why nobody answers on the inference service's socket.
async fn why_not_ready(app: &App) -> String {
    let seen = app.live.fresh().await;
    let why = match (seen.service(SERVICE), &seen.error) {
        (Some(service), None) if service.state == "ready" => {
            "ready, but nobody answers on its socket".to_owned()
        }
        (Some(service), None) => format!("{}, {}", service.state, service.reason),
        (_, Some(error)) => error.to_string(),
        (None, None) => "this image has none".to_owned(),
    };
    format!("the inference service is not ready: {why}")
}

async fn discard(mut body: Body) {
    while let Some(Ok(_)) = body.frame().await {}
}

fn died(error: &hyper::Error) -> ApiError {
    ApiError::InferenceDied(format!(
        "the inference service went away before it answered: {error}"
    ))
}

fn is_too_large(error: &hyper::Error) -> bool {
    let mut source: Option<&dyn std::error::Error> = Some(error);
    while let Some(error) = source {
        if error.is::<LengthLimitError>() {
            return true;
        }
        source = error.source();
    }
    false
}

fn passed(headers: &HeaderMap) -> HeaderMap {
    headers
        .iter()
        .filter(|(name, _)| !NOT_PASSED.contains(&name.as_str()))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}
