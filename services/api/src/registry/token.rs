//! Who asks a registry: nobody, or somebody with a name and a password, which become a token where
//! the registry wants one.

use axum::body::Body;
use hyper::header::{AUTHORIZATION, HeaderMap, HeaderValue, WWW_AUTHENTICATE};
use hyper::{Method, StatusCode, Uri};
use serde::Deserialize;

use super::client::{Client, Fetched};
use super::error::Error;

/// A name and a password. Neither is ever shown.
pub struct Credentials {
    /// The name.
    pub name: String,
    /// The password.
    pub password: String,
}

/// Requests to one registry, with what it wants to see.
pub struct Session<'a> {
    /// What connects.
    pub client: &'a Client,
    credentials: Option<Credentials>,
    authorization: Option<HeaderValue>,
}

/// What a registry asks for (RFC 9110, 11.6.1).
#[derive(Debug, PartialEq)]
enum Challenge {
    Basic,
    Bearer { realm: String, query: String },
}

#[derive(Deserialize)]
struct Granted {
    #[serde(default)]
    token: String,
    #[serde(default)]
    access_token: String,
}

impl<'a> Session<'a> {
    /// A session in which nothing was asked yet.
    pub fn new(client: &'a Client, credentials: Option<Credentials>) -> Self {
        Self {
            client,
            credentials,
            authorization: None,
        }
    }

    /// Gets something, with a token if that is what it takes.
    pub async fn get(
        &mut self,
        method: Method,
        uri: &Uri,
        headers: &HeaderMap,
    ) -> Result<Fetched, Error> {
        let asked = self.headers(headers);
        let answer = self.client.get(method.clone(), uri, &asked).await?;
        match self.authorize(&answer).await? {
            false => Ok(answer),
            true => {
                let asked = self.headers(headers);
                self.client.get(method, uri, &asked).await
            }
        }
    }

    /// Sends something, with a token if that is what it takes. A body that can be sent only once
    /// comes after a request that has brought the token.
    pub async fn send(
        &mut self,
        method: Method,
        uri: &Uri,
        headers: &HeaderMap,
        body: Option<Body>,
    ) -> Result<Fetched, Error> {
        let once = body.is_some();
        let asked = self.headers(headers);
        let body = body.unwrap_or_default();
        let answer = self.client.send(method.clone(), uri, &asked, body).await?;
        if once || !self.authorize(&answer).await? {
            return Ok(answer);
        }
        let asked = self.headers(headers);
        self.client.send(method, uri, &asked, Body::empty()).await
    }

    fn headers(&self, headers: &HeaderMap) -> HeaderMap {
        let mut all = headers.clone();
        if let Some(value) = &self.authorization {
            all.insert(AUTHORIZATION, value.clone());
        }
        all
    }

    /// Whether there is something new to show after a refusal.
    async fn authorize(&mut self, answer: &Fetched) -> Result<bool, Error> {
        if answer.parts.status != StatusCode::UNAUTHORIZED {
            return Ok(false);
        }
        let wrong = |problem: &str| Error::Answer {
            host: answer.host.clone(),
            problem: problem.to_owned(),
        };
        let basic = self.credentials.as_ref().map(basic);
        match answer.header(WWW_AUTHENTICATE).and_then(Challenge::parse) {
            Some(Challenge::Basic) => {
                let before = std::mem::replace(&mut self.authorization, basic);
                Ok(before.is_none() && self.authorization.is_some())
            }
            Some(Challenge::Bearer { realm, query }) => {
                let separator = if realm.contains('?') { '&' } else { '?' };
                let address = format!("{realm}{separator}{query}");
                let uri: Uri = address.parse().map_err(|_| wrong("no realm for tokens"))?;
                let mut headers = HeaderMap::new();
                if let Some(basic) = basic {
                    headers.insert(AUTHORIZATION, basic);
                }
                let granted = self.client.get(Method::GET, &uri, &headers).await?;
                let text = granted.success().await?.text().await?;
                let granted: Granted =
                    serde_json::from_slice(&text).map_err(|_| wrong("no token"))?;
                let token = match granted.token.is_empty() {
                    true => granted.access_token,
                    false => granted.token,
                };
                let value = HeaderValue::from_str(&format!("Bearer {token}"));
                let mut value = value.map_err(|_| wrong("a token that is none"))?;
                value.set_sensitive(true);
                self.authorization = Some(value);
                Ok(!token.is_empty())
            }
            None => Ok(false),
        }
    }
}

impl Challenge {
    fn parse(text: &str) -> Option<Self> {
        let (scheme, rest) = text.split_once(' ').unwrap_or((text, ""));
        if scheme.eq_ignore_ascii_case("basic") {
            return Some(Self::Basic);
        }
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let (mut realm, mut query) = (None, Vec::new());
        let mut rest = rest.trim_start();
        // A value in quotes may hold a comma: scopes do.
        while let Some((key, after)) = rest.split_once('=') {
            let (value, after) = match after.strip_prefix('"') {
                Some(quoted) => quoted.split_once('"')?,
                None => after.split_at(after.find(',').unwrap_or(after.len())),
            };
            match key.trim() {
                "realm" => realm = Some(value.to_owned()),
                key @ ("service" | "scope") => query.push(format!("{key}={}", escaped(value))),
                _ => {}
            }
            rest = after.trim_start_matches([',', ' ']);
        }
        Some(Self::Bearer {
            realm: realm?,
            query: query.join("&"),
        })
    }
}

/// A value in a query.
fn escaped(value: &str) -> String {
    let letter = |byte: u8| match byte {
        b'-' | b'_' | b'.' | b'~' | b':' | b'/' | b',' => char::from(byte).to_string(),
        _ if byte.is_ascii_alphanumeric() => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    value.bytes().map(letter).collect()
}

/// A name and a password as RFC 7617 has them.
fn basic(credentials: &Credentials) -> HeaderValue {
    let Credentials { name, password } = credentials;
    let text = format!("Basic {}", base64(format!("{name}:{password}").as_bytes()));
    let value = HeaderValue::from_str(&text);
    let mut value = value.expect("letters of base64 are letters of a header");
    value.set_sensitive(true);
    value
}

fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let number = three.iter().chain([0, 0].iter()).take(3);
        let number = number.fold(0_u32, |number, &byte| number << 8 | u32::from(byte));
        for place in 0..4 {
            let digit = (number >> (18 - 6 * place) & 63) as usize;
            text.push(match place <= three.len() {
                true => LETTERS[digit].into(),
                false => '=',
            });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_read() {
        let text = "Bearer realm=\"https://auth.example/token\",service=\"registry.example\", \
                    scope=\"repository:me/tiny:pull,push\"";
        let wanted = Challenge::Bearer {
            realm: "https://auth.example/token".to_owned(),
            query: "service=registry.example&scope=repository:me/tiny:pull,push".to_owned(),
        };
        assert_eq!(Challenge::parse(text), Some(wanted));
        assert_eq!(
            Challenge::parse("Basic realm=\"x\""),
            Some(Challenge::Basic)
        );
        for none in [
            "",
            "Digest x",
            "Bearer",
            "Bearer service=\"x\"",
            "Bearer realm=\"x",
        ] {
            assert_eq!(Challenge::parse(none), None, "{none:?}");
        }
    }

    #[test]
    fn credentials_are_encoded_and_not_shown() {
        let credentials = Credentials {
            name: "Aladdin".to_owned(),
            password: "open sesame".to_owned(),
        };
        // The example of RFC 7617.
        let value = basic(&credentials);
        assert_eq!(
            value.to_str().unwrap(),
            "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="
        );
        assert!(!format!("{value:?}").contains("QWxh"));
    }
}
