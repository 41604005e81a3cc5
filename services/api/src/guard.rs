//! What every request passes before its handler: size, name, origin, identity; and the headers
//! that every response gets.

use std::sync::Arc;
use std::time::Duration;

use askama::Template;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Redirect, Response};
use serde_json::json;

use crate::app::App;
use crate::auth::origin;
use crate::console::page::Message;
use crate::error::{ApiError, Said};
use crate::serve::Peer;

/// Time for a handler to begin its answer. Streams begin at once; what remains is the reading of
/// small bodies and calls to PID 1, which have their own, shorter limit.
const HANDLER_LIMIT: Duration = Duration::from_secs(60);

/// Pages load nothing from elsewhere and run no inline script.
const CONTENT_POLICY: &str = "default-src 'self'; object-src 'none'; base-uri 'none'; \
                              form-action 'self'; frame-ancestors 'none'";

/// Headers of every response; pages and data of this box are never kept by a cache.
pub async fn headers(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, CONTENT_POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        // Not "no-referrer": with it browsers send our own forms with 'Origin: null', and the check
        // of the origin would refuse them. Other sites get no referrer with either.
        (header::REFERRER_POLICY, "same-origin"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (
            HeaderName::from_static("cross-origin-resource-policy"),
            "same-origin",
        ),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers
        .entry(header::CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
    response
}

/// Says errors to people as a page; programs get them as JSON, those that speak OpenAI's API in its
/// form.
pub async fn pages(request: Request, next: Next) -> Response {
    let wants_page = wants_page(&request);
    let is_openai = request.uri().path().starts_with("/v1/");
    let response = next.run(request).await;
    if is_openai && let Some(Said(text)) = response.extensions().get() {
        let kind = match response.status() {
            StatusCode::UNAUTHORIZED => "authentication_error",
            status if status.is_server_error() => "server_error",
            _ => "invalid_request_error",
        };
        let error = json!({ "message": text, "type": kind, "param": null, "code": null });
        let (mut parts, _) = response.into_parts();
        parts.headers.remove(header::CONTENT_LENGTH);
        let body = json!({ "error": error }).to_string();
        return Response::from_parts(parts, Body::from(body));
    }
    let Some(Said(text)) = response.extensions().get().filter(|_| wants_page) else {
        return response;
    };
    let page = Message {
        title: match response.status() {
            StatusCode::NOT_FOUND => "Not here",
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => "Not allowed",
            _ => "Not done",
        }
        .to_owned(),
        text: text.clone(),
    };
    let Ok(page) = page.render() else {
        return response;
    };
    let (mut parts, _) = response.into_parts();
    parts.headers.remove(header::CONTENT_LENGTH);
    parts.headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/html; charset=utf-8"),
    );
    Response::from_parts(parts, Body::from(page))
}

/// Refuses foreign names and foreign pages.
pub async fn origin(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    match check_origin(&app, &request) {
        Ok(()) => next.run(request).await,
        Err(error) => error.into_response(),
    }
}

fn check_origin(app: &App, request: &Request) -> Result<(), ApiError> {
    let latest = app.live.latest();
    let hostname = latest.hostname();
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let host = hosts.next().and_then(|host| host.to_str().ok());
    // A request line with a whole URL must name the same host.
    let authority = request.uri().authority().map(|part| part.as_str());
    let consistent = hosts.next().is_none() && (authority.is_none() || authority == host);
    let host = host.unwrap_or_default();
    if !consistent || !origin::host_allowed(host, hostname) {
        return Err(ApiError::Misdirected(format!(
            "this box is not '{}'; call it by {}",
            host.escape_default(),
            origin::allowed_names(hostname)
        )));
    }
    if !origin::same_site(request.method(), request.headers(), host) {
        return Err(ApiError::Forbidden(
            "this request comes from a page of another site".into(),
        ));
    }
    Ok(())
}

/// Lets in who has paired; sends browsers to the pairing page and tells programs what to send.
pub async fn identity(State(app): State<Arc<App>>, mut request: Request, next: Next) -> Response {
    let peer = peer(&request);
    match app
        .door
        .identify(request.headers(), peer.0, &app.store)
        .await
    {
        Ok(identity) => {
            request.extensions_mut().insert(identity);
            next.run(request).await
        }
        Err(error @ ApiError::Unauthorized(_)) if is_page(&request) => {
            tracing::debug!("to the pairing page: {error}");
            let next = request.uri().path();
            if next == "/" {
                Redirect::to("/pair").into_response()
            } else {
                Redirect::to(&format!("/pair?next={next}")).into_response()
            }
        }
        Err(error) => error.into_response(),
    }
}

/// Ends handlers that take too long to begin.
pub async fn time_limit(request: Request, next: Next) -> Response {
    match tokio::time::timeout(HANDLER_LIMIT, next.run(request)).await {
        Ok(response) => response,
        Err(_) => ApiError::TimedOut.into_response(),
    }
}

/// The client's address.
pub fn peer(request: &Request) -> Peer {
    request
        .extensions()
        .get()
        .copied()
        .unwrap_or(Peer(std::net::Ipv4Addr::UNSPECIFIED.into()))
}

/// Whether a person has asked for a page.
fn is_page(request: &Request) -> bool {
    request.method() == Method::GET && wants_page(request)
}

/// Whether a person waits for a page, rather than a script for data.
fn wants_page(request: &Request) -> bool {
    !request.uri().path().starts_with("/api/")
        && !request.uri().path().starts_with("/v1/")
        && !is_htmx(request.headers())
        && request
            .headers()
            .get(header::ACCEPT)
            .and_then(|accept| accept.to_str().ok())
            .is_some_and(|accept| accept.contains("text/html"))
}

/// Whether htmx asks, which wants a piece of a page.
pub fn is_htmx(headers: &HeaderMap) -> bool {
    headers.contains_key("hx-request")
}
