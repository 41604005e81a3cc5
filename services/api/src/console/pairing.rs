//! Pairing a browser: the code from the box's own console, or a signature by the owner's key,
//! becomes a session cookie.

use std::sync::Arc;

use askama::Template;
use axum::extract::rejection::FormRejection;
use axum::extract::{Extension, Form, Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use serde::Deserialize;

use super::page::named;
use crate::api::owner;
use crate::app::App;
use crate::auth::challenges;
use crate::auth::door::session_cookie;
use crate::auth::owner::NAMESPACE;
use crate::error::ApiError;
use crate::serve::Peer;
use crate::store::sessions::Token;

#[derive(Template)]
#[template(path = "pair.html")]
struct PairPage {
    hostname: String,
    error: String,
    has_code: bool,
    has_owner: bool,
    next: String,
}

#[derive(Template)]
#[template(path = "pair_key.html")]
struct KeyPage {
    hostname: String,
    error: String,
    nonce: String,
    namespace: &'static str,
    minutes: u64,
    next: String,
}

#[derive(Template)]
#[template(path = "paired.html")]
struct PairedPage {
    next: String,
}

/// What the link or the form carries.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Wish {
    code: Option<String>,
    next: Option<String>,
}

/// `GET /pair[?code=XXXX-XXXX]`: the link that `cargo xtask run` prints, or the form.
pub async fn open(
    State(app): State<Arc<App>>,
    Extension(peer): Extension<Peer>,
    Query(wish): Query<Wish>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    pair(&app, peer, wish, &headers).await
}

/// `POST /pair`
pub async fn submit(
    State(app): State<Arc<App>>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    form: Result<Form<Wish>, FormRejection>,
) -> Result<Response, ApiError> {
    let Form(wish) = form.map_err(|error| ApiError::BadRequest(error.body_text()))?;
    pair(&app, peer, wish, &headers).await
}

/// What the form of the owner's key carries: nothing at first, the signature then.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Signed {
    nonce: Option<String>,
    signature: Option<String>,
    next: Option<String>,
}

/// `POST /pair/key`: a nonce to sign, or its signature.
pub async fn with_key(
    State(app): State<Arc<App>>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    form: Result<Form<Signed>, FormRejection>,
) -> Result<Response, ApiError> {
    let Form(signed) = form.map_err(|error| ApiError::BadRequest(error.body_text()))?;
    let next = own_path(signed.next);
    let (status, error) = match (signed.nonce, signed.signature) {
        (Some(nonce), Some(signature)) => {
            match owner::open(&app, peer, &headers, &nonce, &signature).await {
                Ok(token) => return paired(&token, next),
                Err(error) => (error.status(), error.to_string()),
            }
        }
        _ => (StatusCode::OK, String::new()),
    };
    // The old nonce is used up: another try needs another one.
    match app.door.challenge(peer.0) {
        Ok(nonce) => {
            let page = KeyPage {
                hostname: named(app.live.latest().hostname()),
                error,
                nonce,
                namespace: NAMESPACE,
                minutes: challenges::LIFETIME.as_secs() / 60,
                next,
            };
            Ok((status, Html(page.render()?)).into_response())
        }
        Err(error) => refused(&app, &error, next),
    }
}

async fn pair(
    app: &App,
    peer: Peer,
    wish: Wish,
    headers: &HeaderMap,
) -> Result<Response, ApiError> {
    let next = own_path(wish.next);
    let Some(code) = wish.code.filter(|code| !code.trim().is_empty()) else {
        return Ok(Html(pair_page(app, String::new(), next).render()?).into_response());
    };
    if let Err(error) = app.door.try_code(&code, peer.0) {
        return refused(app, &error, next);
    }
    let token = app
        .store
        .create_session(&peer.0.to_string(), headers.get(header::USER_AGENT))
        .await?;
    tracing::info!("paired a browser at {}", peer.0);
    paired(&token, next)
}

fn pair_page(app: &App, error: String, next: String) -> PairPage {
    PairPage {
        hostname: named(app.live.latest().hostname()),
        error,
        has_code: app.door.has_code(),
        has_owner: app.door.has_owner(),
        next,
    }
}

/// The pairing page with what was wrong.
fn refused(app: &App, error: &ApiError, next: String) -> Result<Response, ApiError> {
    let body = Html(pair_page(app, error.to_string(), next).render()?);
    let mut response = (error.status(), body).into_response();
    if let Some(seconds) = error.retry_after() {
        let wait = HeaderValue::from(seconds);
        response.headers_mut().insert(header::RETRY_AFTER, wait);
    }
    Ok(response)
}

/// The page that carries a new session's cookie.
fn paired(token: &Token, next: String) -> Result<Response, ApiError> {
    // Strict cookies are not sent with a navigation that another site started, redirects included.
    // This page is ours, and so is the navigation that it starts.
    let cookie = [(header::SET_COOKIE, session_cookie(token))];
    Ok((StatusCode::OK, cookie, Html(PairedPage { next }.render()?)).into_response())
}

/// Where to go afterwards.
fn own_path(next: Option<String>) -> String {
    next.filter(|next| is_own_path(next))
        .unwrap_or_else(|| "/".to_owned())
}

/// A path of this box, and not a URL of another that looks like one.
fn is_own_path(path: &str) -> bool {
    path.starts_with('/')
        && !path.starts_with("//")
        && path
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && byte != b'\\')
}

#[cfg(test)]
mod tests {
    use super::is_own_path;

    #[test]
    fn only_own_paths_are_followed() {
        assert!(is_own_path("/"));
        assert!(is_own_path("/logs/infer"));
        for path in [
            "",
            "logs",
            "//evil.example",
            "/\\evil.example",
            "/\t/evil",
            "https://e",
        ] {
            assert!(!is_own_path(path), "{path}");
        }
    }
}
