//! `/api/v1/system/factory-reset`: everything on the data partition goes, the box starts anew.
//!
//! The host name has to be typed: it is the one thing that tells this box from the one in the next
//! browser tab. PID 1 does the rest: it stops everything, marks the partition, and makes the file
//! system anew when the box has started again.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Extension, State};
use axum::http::StatusCode;
use serde::Deserialize;

use super::services::seen;
use crate::app::App;
use crate::auth::door::Identity;
use crate::error::ApiError;
use crate::serve::Peer;

/// Longest wrong confirmation that an error repeats.
const SHOWN: usize = 80;

/// Body of `POST /api/v1/system/factory-reset`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reset {
    confirm: String,
}

/// `POST /api/v1/system/factory-reset {"confirm": "HOST NAME"}`
pub async fn reset(
    State(app): State<Arc<App>>,
    Extension(peer): Extension<Peer>,
    Extension(identity): Extension<Identity>,
    body: Result<Json<Reset>, JsonRejection>,
) -> Result<StatusCode, ApiError> {
    let Json(body) = body?;
    order(&app, &body.confirm, "over the API", peer, identity).await?;
    Ok(StatusCode::ACCEPTED)
}

/// Orders the reset, when the host name was typed, and writes down who did.
///
/// # Errors
/// When the confirmation is another text, or PID 1 refuses or is away.
pub async fn order(
    app: &App,
    confirm: &str,
    how: &str,
    peer: Peer,
    identity: Identity,
) -> Result<(), ApiError> {
    let seen = seen(app).await?;
    let hostname = seen.hostname();
    // Host names have no case, and phones like to begin with a capital.
    if hostname.is_empty() || !confirm.trim().eq_ignore_ascii_case(hostname) {
        let found: String = confirm.escape_default().take(SHOWN).collect();
        return Err(ApiError::BadRequest(format!(
            "confirm: found '{found}', allowed: '{hostname}', the host name of this box"
        )));
    }
    let reason = format!("asked for {how} from {} ({identity})", peer.0);
    tracing::warn!("factory reset {reason}");
    app.control
        .factory_reset(&reason)
        .await
        .inspect_err(|error| tracing::error!("no factory reset: {error}"))?;
    Ok(())
}
