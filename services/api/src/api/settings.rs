//! `/api/v1/settings`: the owner's small choices.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;

use crate::app::App;
use crate::error::ApiError;
use crate::store::settings::Settings;

/// Longest model name that is stored.
const MAX_MODEL: usize = 256;

/// `GET /api/v1/settings`
pub async fn show(State(app): State<Arc<App>>) -> Result<Json<Settings>, ApiError> {
    Ok(Json(app.store.settings().await?))
}

/// `PUT /api/v1/settings`
pub async fn replace(
    State(app): State<Arc<App>>,
    body: Result<Json<Settings>, JsonRejection>,
) -> Result<Json<Settings>, ApiError> {
    let Json(settings) = body?;
    if settings
        .default_model
        .as_ref()
        .is_some_and(|model| model.len() > MAX_MODEL)
    {
        return Err(ApiError::BadRequest(format!(
            "default_model is longer than {MAX_MODEL} bytes"
        )));
    }
    app.store.put_settings(&settings).await?;
    Ok(Json(settings))
}
