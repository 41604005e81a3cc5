//! The page that resets the box: what goes, what stays, and the host name to type.

use std::sync::Arc;

use askama::Template;
use axum::extract::rejection::FormRejection;
use axum::extract::{Extension, Form, State};
use axum::response::{Html, IntoResponse, Response};
use serde::Deserialize;

use super::page::named;
use super::show;
use crate::api::reset;
use crate::app::App;
use crate::auth::door::Identity;
use crate::error::ApiError;
use crate::live::Snapshot;
use crate::serve::Peer;

#[derive(Template)]
#[template(path = "reset.html")]
struct ResetPage {
    hostname: String,
    /// What `/data` is and how much is on it.
    data: String,
    error: String,
}

#[derive(Template)]
#[template(path = "reset_done.html")]
struct ResetDone {
    hostname: String,
}

/// What the form carries.
#[derive(Deserialize)]
pub struct Confirmation {
    confirm: String,
}

/// `GET /factory-reset`
pub async fn open(State(app): State<Arc<App>>) -> Result<Html<String>, ApiError> {
    let snapshot = app.live.fresh().await;
    Ok(Html(page(&snapshot, String::new()).render()?))
}

/// `POST /factory-reset`
pub async fn submit(
    State(app): State<Arc<App>>,
    Extension(peer): Extension<Peer>,
    Extension(identity): Extension<Identity>,
    form: Result<Form<Confirmation>, FormRejection>,
) -> Result<Response, ApiError> {
    let Form(form) = form.map_err(|error| ApiError::BadRequest(error.body_text()))?;
    let ordered = reset::order(&app, &form.confirm, "in the console", peer, identity).await;
    let snapshot = app.live.latest();
    if let Err(error) = ordered {
        let page = page(&snapshot, error.to_string()).render()?;
        return Ok((error.status(), Html(page)).into_response());
    }
    let done = ResetDone {
        hostname: named(snapshot.hostname()),
    };
    Ok(Html(done.render()?).into_response())
}

fn page(snapshot: &Snapshot, error: String) -> ResetPage {
    let data = snapshot.system.as_ref().map(|system| {
        let used = system.data_bytes.saturating_sub(system.data_free);
        if system.data_kind == "disk" && system.data_problem.is_empty() {
            let device = system.data_detail.trim_end_matches('.');
            format!("{device}, {} used.", show::disk_bytes(used))
        } else {
            system.data_detail.clone()
        }
    });
    ResetPage {
        hostname: named(snapshot.hostname()),
        data: data.unwrap_or_default(),
        error,
    }
}
