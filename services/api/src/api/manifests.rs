//! `/api/v1/services/NAME/manifest` and `/api/v1/reload`: what services there are, and what they may.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::header;
use axum::response::IntoResponse;
use kos_sdk::control::ReloadReport;

use crate::app::App;
use crate::error::ApiError;

/// `GET /api/v1/services/{name}/manifest`: its text.
pub async fn show(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
) -> Result<impl IntoResponse, ApiError> {
    let text = app.control.manifest(&name).await?;
    Ok((
        [(header::CONTENT_TYPE, "application/toml; charset=utf-8")],
        text,
    ))
}

/// `PUT /api/v1/services/{name}/manifest`: the body is the manifest.
pub async fn replace(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    text: String,
) -> Result<Json<ReloadReport>, ApiError> {
    let report = app.control.set_manifest(&name, &text).await?;
    app.live.nudge();
    Ok(Json(report))
}

/// `DELETE /api/v1/services/{name}/manifest`
pub async fn remove(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
) -> Result<Json<ReloadReport>, ApiError> {
    let report = app.control.remove_manifest(&name).await?;
    app.live.nudge();
    Ok(Json(report))
}

/// `POST /api/v1/reload`
pub async fn reload(State(app): State<Arc<App>>) -> Result<Json<ReloadReport>, ApiError> {
    let report = app.control.reload().await?;
    app.live.nudge();
    Ok(Json(report))
}

/// `GET /api/v1/services/{name}/facts`: limits, dependencies, pressure.
pub async fn facts(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
) -> Result<impl IntoResponse, ApiError> {
    Ok(Json(app.control.facts(&name).await?))
}
