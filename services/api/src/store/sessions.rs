//! Sessions: a random token in a browser's cookie or a program's configuration, its digest here.

use axum::http::HeaderValue;
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::clock;
use super::database::Store;

/// How long a session lasts: a month, so that a browser in weekly use pairs once a month.
pub const LIFETIME: i64 = 30 * 86_400;
/// Sessions at most; pairing once more ends the one that was used longest ago.
const MAX_SESSIONS: i64 = 200;
/// `last_used` is written no more often than this: it is for people.
const USED_STEP: i64 = 60;
/// Longest name of a client that is kept.
const MAX_AGENT: usize = 200;

/// 256 random bits. Only its holder knows it; the store knows its digest.
pub struct Token([u8; 32]);

impl Token {
    /// A new one.
    fn new() -> Result<Self, getrandom::Error> {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes)?;
        Ok(Token(bytes))
    }

    /// The token in a cookie or header; `None` when it is not 64 hexadecimal digits.
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.as_bytes();
        if digits.len() != 64 {
            return None;
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            let pair = std::str::from_utf8(pair).ok()?;
            if !pair.bytes().all(|digit| digit.is_ascii_hexdigit()) {
                return None;
            }
            *byte = u8::from_str_radix(pair, 16).ok()?;
        }
        Some(Token(bytes))
    }

    /// As its holder gets it.
    pub fn reveal(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// What is stored. The token has 256 random bits, so that a plain digest cannot be reversed,
    /// and looking it up by index tells nothing about it.
    fn digest(&self) -> Vec<u8> {
        Sha256::digest(self.0).to_vec()
    }
}

/// A session as its owner sees it.
#[derive(Debug, Clone, Serialize)]
pub struct Session {
    /// Its number, to end it by.
    pub id: i64,
    /// Seconds since 1970, as the other times.
    pub created: i64,
    /// When it ends.
    pub expires: i64,
    /// When it was used last, to the minute.
    pub last_used: i64,
    /// Address that paired.
    pub peer: String,
    /// What the client called itself.
    pub agent: String,
}

impl Store {
    /// Makes a session.
    ///
    /// # Errors
    /// When the store or the random source fails.
    pub async fn create_session(
        &self,
        peer: &str,
        agent: Option<&HeaderValue>,
    ) -> Result<Token, sqlx::Error> {
        let token = Token::new().map_err(|error| sqlx::Error::Protocol(error.to_string()))?;
        let digest = token.digest();
        let agent: String = agent
            .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
            .unwrap_or_default()
            .chars()
            .filter(|letter| !letter.is_control())
            .take(MAX_AGENT)
            .collect();
        let now = clock::now();
        let (digest, agent) = (&digest, &agent);
        self.with_pool(move |pool| async move {
            let mut transaction = pool.begin().await?;
            sqlx::query(
                "DELETE FROM sessions WHERE id IN
                 (SELECT id FROM sessions ORDER BY last_used DESC LIMIT -1 OFFSET ?)",
            )
            .bind(MAX_SESSIONS - 1)
            .execute(&mut *transaction)
            .await?;
            sqlx::query(
                "INSERT INTO sessions (token_hash, created, expires, last_used, peer, agent)
                 VALUES (?, ?, ?, ?, ?, ?)",
            )
            .bind(digest)
            .bind(now)
            .bind(now + LIFETIME)
            .bind(now)
            .bind(peer)
            .bind(agent)
            .execute(&mut *transaction)
            .await?;
            transaction.commit().await
        })
        .await?;
        Ok(token)
    }

    /// The id of the session with this token, when it is valid.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn session(&self, token: &Token) -> Result<Option<i64>, sqlx::Error> {
        let digest = &token.digest();
        let row: Option<(i64, i64, i64, i64)> = self
            .with_pool(move |pool| async move {
                sqlx::query_as(
                    "SELECT id, created, expires, last_used FROM sessions WHERE token_hash = ?",
                )
                .bind(digest)
                .fetch_optional(&pool)
                .await
            })
            .await?;
        let Some((id, created, expires, last_used)) = row else {
            return Ok(None);
        };
        let now = clock::now();
        // A session made before the clock was set starts to count once it is.
        let expires = if created < clock::FLOOR && now >= clock::FLOOR {
            now + LIFETIME
        } else {
            expires
        };
        if now >= expires {
            return Ok(None);
        }
        if (now - last_used).abs() >= USED_STEP {
            self.with_pool(move |pool| async move {
                sqlx::query(
                    "UPDATE sessions SET last_used = ?, expires = ?,
                     created = CASE WHEN created < ? THEN ? ELSE created END WHERE id = ?",
                )
                .bind(now)
                .bind(expires)
                .bind(if now < clock::FLOOR { 0 } else { clock::FLOOR })
                .bind(now)
                .bind(id)
                .execute(&pool)
                .await
            })
            .await?;
        }
        Ok(Some(id))
    }

    /// Every valid session, the last used first.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn sessions(&self) -> Result<Vec<Session>, sqlx::Error> {
        let rows: Vec<(i64, i64, i64, i64, String, String)> = self
            .with_pool(move |pool| async move {
                sqlx::query_as(
                    "SELECT id, created, expires, last_used, peer, agent FROM sessions
                     WHERE expires > ? OR created < ? ORDER BY last_used DESC, id DESC",
                )
                .bind(clock::now())
                .bind(clock::FLOOR)
                .fetch_all(&pool)
                .await
            })
            .await?;
        Ok(rows
            .into_iter()
            .map(|(id, created, expires, last_used, peer, agent)| Session {
                id,
                created,
                expires,
                last_used,
                peer,
                agent,
            })
            .collect())
    }

    /// Ends a session; false when there was none.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn end_session(&self, id: i64) -> Result<bool, sqlx::Error> {
        self.with_pool(move |pool| async move {
            let done = sqlx::query("DELETE FROM sessions WHERE id = ?")
                .bind(id)
                .execute(&pool)
                .await?;
            Ok(done.rows_affected() > 0)
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::Token;

    #[test]
    fn a_token_survives_its_text_and_nothing_else_is_one() {
        let token = Token::new().unwrap();
        let again = Token::parse(&token.reveal()).unwrap();
        assert_eq!(token.digest(), again.digest());
        for text in ["", "A0B1-C2D3", &"g".repeat(64), &"+1".repeat(32)] {
            assert!(Token::parse(text).is_none(), "{text}");
        }
    }
}
