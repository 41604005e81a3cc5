//! `/api/v1/sessions`: who has paired.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::{Extension, Json};
use serde::Serialize;

use crate::app::App;
use crate::auth::door::Identity;
use crate::error::ApiError;
use crate::store::sessions::Session;

/// Answer of `GET /api/v1/sessions`.
#[derive(Serialize)]
pub struct SessionList {
    sessions: Vec<Listed>,
}

#[derive(Serialize)]
struct Listed {
    #[serde(flatten)]
    session: Session,
    /// Whether the request itself came in with it.
    current: bool,
}

/// `GET /api/v1/sessions`
pub async fn list(
    State(app): State<Arc<App>>,
    Extension(identity): Extension<Identity>,
) -> Result<Json<SessionList>, ApiError> {
    let sessions = app
        .store
        .sessions()
        .await?
        .into_iter()
        .map(|session| Listed {
            current: identity == Identity::Session(session.id),
            session,
        })
        .collect();
    Ok(Json(SessionList { sessions }))
}

/// `DELETE /api/v1/sessions/{id}`
pub async fn end(State(app): State<Arc<App>>, Path(id): Path<i64>) -> Result<StatusCode, ApiError> {
    if app.store.end_session(id).await? {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(ApiError::NotFound(format!("no session {id}")))
    }
}
