//! `/api/v1/boots`: what is kept of each boot.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use kos_sdk::control::BootRecord;

use crate::app::App;
use crate::error::ApiError;

/// `GET /api/v1/boots`: newest first; the first is the one that runs, and has no end yet.
pub async fn list(State(app): State<Arc<App>>) -> Result<Json<Vec<BootRecord>>, ApiError> {
    Ok(Json(app.control.boots().await?))
}
