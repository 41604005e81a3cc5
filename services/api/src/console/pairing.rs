//! Pairing a browser: the code from the box's own console becomes a session cookie.

use std::sync::Arc;

use askama::Template;
use axum::extract::rejection::FormRejection;
use axum::extract::{Extension, Form, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use serde::Deserialize;

use super::page::named;
use crate::app::App;
use crate::auth::door::COOKIE;
use crate::error::ApiError;
use crate::serve::Peer;
use crate::store::sessions::LIFETIME;

#[derive(Template)]
#[template(path = "pair.html")]
struct PairPage {
    hostname: String,
    error: String,
    has_code: bool,
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

async fn pair(
    app: &App,
    peer: Peer,
    wish: Wish,
    headers: &HeaderMap,
) -> Result<Response, ApiError> {
    let next = wish
        .next
        .filter(|next| is_own_path(next))
        .unwrap_or_else(|| "/".to_owned());
    let page = |error: String| PairPage {
        hostname: named(app.live.latest().hostname()),
        error,
        has_code: app.door.has_code(),
        next: next.clone(),
    };
    let Some(code) = wish.code.filter(|code| !code.trim().is_empty()) else {
        return Ok(Html(page(String::new()).render()?).into_response());
    };
    if let Err(error) = app.door.try_code(&code, peer.0) {
        let status = error.status();
        let body = Html(page(error.to_string()).render()?);
        let mut response = (status, body).into_response();
        if let Some(wait) = error
            .into_response()
            .headers_mut()
            .remove(header::RETRY_AFTER)
        {
            response.headers_mut().insert(header::RETRY_AFTER, wait);
        }
        return Ok(response);
    }
    let token = app
        .store
        .create_session(&peer.0.to_string(), headers.get(header::USER_AGENT))
        .await?;
    tracing::info!("paired a browser at {}", peer.0);
    // Strict cookies are not sent with a navigation that another site started, redirects included.
    // This page is ours, and so is the navigation that it starts.
    let cookie = format!(
        "{COOKIE}={}; Path=/; Max-Age={LIFETIME}; HttpOnly; SameSite=Strict",
        token.reveal()
    );
    Ok((
        StatusCode::OK,
        [(header::SET_COOKIE, cookie)],
        Html(PairedPage { next }.render()?),
    )
        .into_response())
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
