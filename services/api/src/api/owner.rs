//! `/api/v1/owner`: pairing with the owner's key instead of the code.
//!
//! The box knows the public half, an Ed25519 key of OpenSSH: `owner-key` in `kos-box.toml` on its
//! first partition. Whoever has the private half comes in like this, from any machine:
//!
//! ```text
//! POST /api/v1/owner/challenge
//!   -> 200 {"nonce": "…", "namespace": "kos-owner", "valid_s": 120}
//! printf %s NONCE | ssh-keygen -Y sign -n kos-owner -f ~/.ssh/id_ed25519
//!   -> -----BEGIN SSH SIGNATURE----- …
//! POST /api/v1/owner/session {"nonce": "…", "signature": "-----BEGIN SSH SIGNATURE-----\n…"}
//!   -> 200 {"token": "…", "valid_s": 2592000}, and the same session as a cookie
//! ```
//!
//! The signature may be over the nonce alone or over the nonce and a line's end. A nonce is good
//! for one try, right or wrong. 401 says why a signature was refused, 404 that the box has no
//! owner's key, 429 that there were too many wrong tries (they count together with wrong pairing
//! codes) and 503 that too many nonces wait; the last two say in `Retry-After` for how long. The
//! token then goes into `Authorization: Bearer`, and is listed and ended as any other session.
//!
//! What the signature does not say is which box it opens: whoever can stand between the owner and
//! the box could pass it on. So could they read the session itself; plain HTTP is for a network
//! that one trusts.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Extension, State};
use axum::http::{HeaderMap, HeaderName, header};
use serde::{Deserialize, Serialize};

use crate::app::App;
use crate::auth::door::session_cookie;
use crate::auth::{challenges, owner};
use crate::error::ApiError;
use crate::serve::Peer;
use crate::store::sessions::{LIFETIME, Token};

/// Answer of `POST /api/v1/owner/challenge`.
#[derive(Serialize)]
pub struct Challenge {
    /// What is to be signed.
    nonce: String,
    /// For `ssh-keygen -n`.
    namespace: &'static str,
    /// How long it waits, in seconds.
    valid_s: u64,
}

/// Body of `POST /api/v1/owner/session`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Proof {
    nonce: String,
    signature: String,
}

/// Answer of `POST /api/v1/owner/session`.
#[derive(Serialize)]
pub struct Opened {
    /// The session's token.
    token: String,
    /// How long it lasts, in seconds.
    valid_s: i64,
}

/// `POST /api/v1/owner/challenge`
pub async fn challenge(
    State(app): State<Arc<App>>,
    Extension(peer): Extension<Peer>,
) -> Result<Json<Challenge>, ApiError> {
    Ok(Json(Challenge {
        nonce: app.door.challenge(peer.0)?,
        namespace: owner::NAMESPACE,
        valid_s: challenges::LIFETIME.as_secs(),
    }))
}

/// `POST /api/v1/owner/session`
pub async fn session(
    State(app): State<Arc<App>>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    body: Result<Json<Proof>, JsonRejection>,
) -> Result<([(HeaderName, String); 1], Json<Opened>), ApiError> {
    let Json(proof) = body?;
    let token = open(&app, peer, &headers, &proof.nonce, &proof.signature).await?;
    let opened = Opened {
        token: token.reveal(),
        valid_s: LIFETIME,
    };
    Ok(([(header::SET_COOKIE, session_cookie(&token))], Json(opened)))
}

/// A session for whoever signed.
///
/// # Errors
/// When the signature is not the owner's, or the store fails.
pub async fn open(
    app: &App,
    peer: Peer,
    headers: &HeaderMap,
    nonce: &str,
    signature: &str,
) -> Result<Token, ApiError> {
    app.door.try_owner(nonce.trim(), signature, peer.0)?;
    let token = app
        .store
        .create_session(&peer.0.to_string(), headers.get(header::USER_AGENT))
        .await?;
    tracing::info!("paired with the owner's key from {}", peer.0);
    Ok(token)
}
