//! The door: turns what a request carries into an [`Identity`], or refuses.

use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use axum::http::{HeaderMap, header};

use super::code::PairingCode;
use super::tries::WrongTries;
use crate::error::ApiError;
use crate::store::database::Store;
use crate::store::sessions::Token;

/// Name of the session cookie.
pub const COOKIE: &str = "kos_session";

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Identity {
    /// Someone with the pairing code itself.
    Code,
    /// The session with this id.
    Session(i64),
}

/// The pairing code and the wrong tries at it.
pub struct Door {
    code: Option<PairingCode>,
    tries: Mutex<WrongTries>,
}

impl Door {
    /// A door for this boot's code; without one, only sessions of earlier boots come in.
    pub fn new(code: Option<PairingCode>) -> Self {
        Door {
            code,
            tries: Mutex::default(),
        }
    }

    /// Whether there is a code at all.
    pub fn has_code(&self) -> bool {
        self.code.is_some()
    }

    /// Tries a pairing code.
    ///
    /// # Errors
    /// When it is wrong, or when there were too many wrong ones lately.
    pub fn try_code(&self, guess: &str, peer: IpAddr) -> Result<(), ApiError> {
        let now = Instant::now();
        // The lock is held over the comparison: tries in parallel cannot pass the limit.
        let mut tries = self.tries.lock().unwrap_or_else(PoisonError::into_inner);
        tries.check(peer, now).map_err(ApiError::TooManyTries)?;
        if self.code.as_ref().is_some_and(|code| code.matches(guess)) {
            return Ok(());
        }
        tries.record(peer, now);
        tracing::warn!("wrong pairing code from {peer}");
        Err(ApiError::Unauthorized(
            "that is not the pairing code".into(),
        ))
    }

    /// Who sends this request.
    ///
    /// # Errors
    /// When it carries nothing, or nothing valid.
    pub async fn identify(
        &self,
        headers: &HeaderMap,
        peer: IpAddr,
        store: &Store,
    ) -> Result<Identity, ApiError> {
        if let Some(secret) = bearer(headers) {
            return match Token::parse(secret) {
                Some(token) => store
                    .session(&token)
                    .await?
                    .map(Identity::Session)
                    .ok_or_else(|| ApiError::Unauthorized("that session has ended".into())),
                None => self.try_code(secret, peer).map(|()| Identity::Code),
            };
        }
        for token in cookies(headers) {
            if let Some(session) = store.session(&token).await? {
                return Ok(Identity::Session(session));
            }
        }
        Err(ApiError::Unauthorized(
            "pair first: open /pair, or send 'Authorization: Bearer' with the pairing code \
             (on the box's own console) or a session token"
                .into(),
        ))
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, secret) = value.split_once(' ')?;
    scheme
        .eq_ignore_ascii_case("bearer")
        .then_some(secret.trim())
}

/// Every well-formed session token among the cookies: boxes behind forwarded ports of one host
/// share their cookies, so that another box's may be there too.
fn cookies(headers: &HeaderMap) -> impl Iterator<Item = Token> {
    headers
        .get_all(header::COOKIE)
        .into_iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .filter(|(name, _)| *name == COOKIE)
        .filter_map(|(_, value)| Token::parse(value))
        // Enough for any honest browser; each costs a look-up.
        .take(4)
}
