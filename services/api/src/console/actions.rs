//! What the console's buttons do, as forms that work without JavaScript.

use std::sync::Arc;

use askama::Template;
use axum::extract::rejection::FormRejection;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::response::{Html, IntoResponse, Redirect, Response};
use axum::{Extension, Form};
use serde::Deserialize;

use super::page::{Message, named};
use crate::api::services::NO_REASON;
use crate::app::App;
use crate::auth::door::Identity;
use crate::control::{Action, ControlError, Power};
use crate::error::ApiError;
use crate::guard::is_htmx;
use crate::store::clock;

/// What is said in the page after a button was pressed.
#[derive(Template)]
#[template(path = "part_notice.html")]
struct Notice {
    text: String,
    is_error: bool,
    /// `reboot` or `poweroff`: the box goes away, the page waits for it.
    leaving: &'static str,
}

/// What the form of a quarantine says.
#[derive(Deserialize)]
pub struct Why {
    #[serde(default)]
    reason: String,
}

/// `POST /services/{name}/{start|stop|restart|freeze|thaw|quarantine|release}`
pub async fn service(
    State(app): State<Arc<App>>,
    Path((name, action)): Path<(String, String)>,
    headers: HeaderMap,
    form: Result<Form<Why>, FormRejection>,
) -> Result<Response, ApiError> {
    let action = Action::parse(&action)
        .ok_or_else(|| ApiError::NotFound(format!("no action '{action}'")))?;
    // A form without fields may come without a body.
    let reason = form.map(|Form(why)| why.reason).unwrap_or_default();
    let reason = match reason.trim() {
        "" => NO_REASON,
        reason => reason,
    };
    let done = app.control.act(&name, action, reason).await;
    app.live.nudge();
    // What happened shows in the table; only a refusal needs words.
    let text = match &done {
        Ok(()) => String::new(),
        Err(error) => format!("{name}: {error}"),
    };
    answer(&headers, done, text, "", &format!("/services/{name}"))
}

/// `GET /power`: without JavaScript, the page that asks.
pub async fn power_page(State(app): State<Arc<App>>) -> Result<Html<String>, ApiError> {
    let page = PowerPage {
        hostname: named(app.live.latest().hostname()),
    };
    Ok(Html(page.render()?))
}

#[derive(Template)]
#[template(path = "power.html")]
struct PowerPage {
    hostname: String,
}

/// `POST /power/{reboot|poweroff}`
pub async fn power(
    State(app): State<Arc<App>>,
    Path(act): Path<String>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let power = Power::parse(&act).ok_or_else(|| ApiError::NotFound(format!("no act '{act}'")))?;
    let done = app.control.power(power).await;
    let (text, leaving) = match (&done, power) {
        (Err(error), _) => (error.to_string(), ""),
        (Ok(()), Power::Reboot) => (
            "The box restarts. This page comes back by itself.".to_owned(),
            "reboot",
        ),
        (Ok(()), Power::Off) => ("The box turns off.".to_owned(), "poweroff"),
    };
    answer(&headers, done, text, leaving, "/")
}

fn answer(
    headers: &HeaderMap,
    done: Result<(), ControlError>,
    text: String,
    leaving: &'static str,
    back: &str,
) -> Result<Response, ApiError> {
    if is_htmx(headers) {
        let notice = Notice {
            text,
            is_error: done.is_err(),
            leaving,
        };
        return Ok(Html(notice.render()?).into_response());
    }
    if text.is_empty() {
        return Ok(Redirect::to(back).into_response());
    }
    let status = done
        .err()
        .map_or(axum::http::StatusCode::OK, |error| error.status());
    let page = Message {
        title: if leaving.is_empty() {
            "Not done"
        } else {
            "Done"
        }
        .to_owned(),
        text,
    };
    Ok((status, Html(page.render()?)).into_response())
}

#[derive(Template)]
#[template(path = "sessions.html")]
struct SessionsPage {
    hostname: String,
    sessions: Vec<SessionRow>,
}

struct SessionRow {
    id: i64,
    agent: String,
    peer: String,
    created: String,
    last_used: String,
    expires: String,
    current: bool,
}

/// `2026-11-23 05:58 UTC`
fn minute(seconds: i64) -> String {
    let stamp = clock::stamp(seconds).replace('T', " ");
    // The seconds and the zone are the last four characters.
    format!("{} UTC", &stamp[..stamp.len() - 4])
}

/// `GET /sessions`
pub async fn sessions(
    State(app): State<Arc<App>>,
    Extension(identity): Extension<Identity>,
) -> Result<Html<String>, ApiError> {
    let sessions = app.store.sessions().await?;
    let page = SessionsPage {
        hostname: named(app.live.latest().hostname()),
        sessions: sessions
            .into_iter()
            .map(|session| SessionRow {
                current: identity == Identity::Session(session.id),
                id: session.id,
                agent: session.agent,
                peer: session.peer,
                created: minute(session.created),
                last_used: minute(session.last_used),
                expires: minute(session.expires),
            })
            .collect(),
    };
    Ok(Html(page.render()?))
}

/// `POST /sessions/{id}/end`
pub async fn end_session(
    State(app): State<Arc<App>>,
    Path(id): Path<i64>,
) -> Result<Redirect, ApiError> {
    // One that is gone already is gone as wanted.
    app.store.end_session(id).await?;
    Ok(Redirect::to("/sessions"))
}
