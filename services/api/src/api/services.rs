//! `/api/v1/services`: every service, and what can be done to one.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::http::{StatusCode, Uri};
use kos_manifest::signal;
use serde::{Deserialize, Serialize};

use crate::app::App;
use crate::control::Action;
use crate::error::ApiError;
use crate::live::{ServiceView, Snapshot};

/// Answer of `GET /api/v1/services`, and the data of each event of `/api/v1/events`.
#[derive(Serialize)]
pub struct ServiceList {
    /// In the order of their names.
    pub services: Vec<ServiceView>,
}

impl From<&Snapshot> for ServiceList {
    fn from(snapshot: &Snapshot) -> Self {
        ServiceList {
            services: snapshot.services.clone(),
        }
    }
}

/// `GET /api/v1/services`
pub async fn list(State(app): State<Arc<App>>) -> Result<Json<ServiceList>, ApiError> {
    let seen = seen(&app).await?;
    Ok(Json(ServiceList::from(&*seen)))
}

/// `GET /api/v1/services/{name}`
pub async fn show(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
) -> Result<Json<ServiceView>, ApiError> {
    // PID 1 is asked itself: its error says best what there is instead.
    let status = app.control.service(&name).await?;
    let cpu_percent = seen(&app)
        .await?
        .services
        .iter()
        .find(|view| view.status.name == name)
        .and_then(|view| view.cpu_percent);
    Ok(Json(ServiceView {
        status,
        cpu_percent,
    }))
}

/// Body of `POST /api/v1/services/{name}/quarantine`, which may be left out.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Why {
    reason: String,
}

/// What is said of a quarantine for which nobody gave a reason.
pub const NO_REASON: &str = "by the operator";

/// `POST /api/v1/services/{name}/{start|stop|restart|freeze|thaw|quarantine|release}`
pub async fn act(
    State(app): State<Arc<App>>,
    Path((name, action)): Path<(String, String)>,
    body: Option<Json<Why>>,
) -> Result<StatusCode, ApiError> {
    let action = Action::parse(&action).ok_or_else(|| {
        ApiError::NotFound(format!(
            "no action '{action}'; allowed: {}, kill",
            Action::NAMES
        ))
    })?;
    let reason = body.map_or_else(|| NO_REASON.to_owned(), |Json(why)| why.reason);
    app.control.act(&name, action, &reason).await?;
    app.live.nudge();
    Ok(StatusCode::ACCEPTED)
}

/// Body of `POST /api/v1/services/{name}/kill`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kill {
    signal: String,
}

/// `POST /api/v1/services/{name}/kill`
pub async fn kill(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    body: Result<Json<Kill>, JsonRejection>,
) -> Result<StatusCode, ApiError> {
    let Json(body) = body?;
    let signal = signal::number(&body.signal).ok_or_else(|| {
        let names: Vec<&str> = signal::names().collect();
        ApiError::BadRequest(format!(
            "no signal '{}'; allowed: {}",
            body.signal,
            names.join(", ")
        ))
    })?;
    app.control.kill(&name, signal).await?;
    app.live.nudge();
    Ok(StatusCode::ACCEPTED)
}

/// Any other path below `/api/v1`.
pub async fn no_such_route(uri: Uri) -> ApiError {
    ApiError::NotFound(format!("nothing is at {}", uri.path()))
}

/// What is true now, or the error that keeps it from being known.
pub async fn seen(app: &App) -> Result<Arc<Snapshot>, ApiError> {
    let seen = app.live.fresh().await;
    match &seen.error {
        None => Ok(seen),
        Some(error) => Err(error.clone().into()),
    }
}
