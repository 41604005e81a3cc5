//! The door: turns what a request carries into an [`Identity`], or refuses.

use std::fmt;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use axum::http::{HeaderMap, header};

use super::challenges::{Challenges, Refusal};
use super::code::PairingCode;
use super::owner::OwnerKey;
use super::tries::WrongTries;
use crate::error::ApiError;
use crate::store::database::Store;
use crate::store::sessions::{LIFETIME, Token};

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

impl fmt::Display for Identity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Identity::Code => formatter.write_str("pairing code"),
            Identity::Session(id) => write!(formatter, "session {id}"),
        }
    }
}

/// The pairing code, the owner's key, and the wrong tries at both.
pub struct Door {
    code: Option<PairingCode>,
    owner: Option<OwnerKey>,
    challenges: Mutex<Challenges>,
    tries: Mutex<WrongTries>,
}

impl Door {
    /// A door for this boot's code and the owner's key; without either, only sessions of earlier
    /// boots come in.
    pub fn new(code: Option<PairingCode>, owner: Option<OwnerKey>) -> Self {
        Door {
            code,
            owner,
            challenges: Mutex::default(),
            tries: Mutex::default(),
        }
    }

    /// Whether there is a code at all.
    pub fn has_code(&self) -> bool {
        self.code.is_some()
    }

    /// Whether the owner gave a key.
    pub fn has_owner(&self) -> bool {
        self.owner.is_some()
    }

    /// Tries a pairing code.
    ///
    /// # Errors
    /// When it is wrong, or when there were too many wrong ones lately.
    pub fn try_code(&self, guess: &str, peer: IpAddr) -> Result<(), ApiError> {
        let now = Instant::now();
        // The lock is held over the comparison: tries in parallel cannot pass the limit.
        let mut tries = lock(&self.tries);
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

    /// A nonce for the owner to sign.
    ///
    /// # Errors
    /// When the box has no owner's key, after too many wrong tries, or when too many nonces wait.
    pub fn challenge(&self, peer: IpAddr) -> Result<String, ApiError> {
        self.owner_key()?;
        let now = Instant::now();
        lock(&self.tries)
            .check(peer, now)
            .map_err(ApiError::TooManyTries)?;
        lock(&self.challenges)
            .issue(peer, now)
            .map_err(|refusal| match refusal {
                Refusal::Full(seconds) => ApiError::TooManyChallenges(seconds),
                Refusal::NoRandomness(error) => ApiError::NoRandomness(error),
            })
    }

    /// Tries the owner's signature over a nonce of [`Door::challenge`]. The nonce is used up,
    /// whatever comes of it.
    ///
    /// # Errors
    /// When the nonce does not wait, the signature is not the owner's, or when there were too many
    /// wrong tries lately.
    pub fn try_owner(&self, nonce: &str, signature: &str, peer: IpAddr) -> Result<(), ApiError> {
        let owner = self.owner_key()?;
        let now = Instant::now();
        // Held over the check, as for the code.
        let mut tries = lock(&self.tries);
        tries.check(peer, now).map_err(ApiError::TooManyTries)?;
        let refusal = if lock(&self.challenges).take(nonce, now) {
            match owner.check(nonce, signature) {
                Ok(()) => return Ok(()),
                Err(error) => error.to_string(),
            }
        } else {
            "that nonce does not wait for a signature: it was used, is older than 120 s, or was \
             never given; ask for another one"
                .to_owned()
        };
        tries.record(peer, now);
        tracing::warn!("wrong try with the owner's key from {peer}: {refusal}");
        Err(ApiError::Unauthorized(refusal))
    }

    fn owner_key(&self) -> Result<&OwnerKey, ApiError> {
        self.owner.as_ref().ok_or_else(|| {
            ApiError::NotFound(
                "this box has no owner's key; 'owner-key' in kos-box.toml on its first partition \
                 gives it one"
                    .into(),
            )
        })
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

/// The header that puts a session into a browser.
pub fn session_cookie(token: &Token) -> String {
    format!(
        "{COOKIE}={}; Path=/; Max-Age={LIFETIME}; HttpOnly; SameSite=Strict",
        token.reveal()
    )
}

/// Whoever panicked with it has left it whole: every change here is one step.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
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
