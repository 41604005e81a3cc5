//! From the inference service to a registry.

use axum::body::Body;
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderValue, LOCATION};
use hyper::{Method, StatusCode};

use super::address::Reference;
use super::body::{Lines, Progress, passed};
use super::client::{Client, follow};
use super::error::Error;
use super::infer::Infer;
use super::pull::{Layer, MANIFEST, layers};
use super::token::{Credentials, Session};

/// One push.
pub struct Push {
    /// What connects.
    pub client: Client,
    /// Who has it.
    pub infer: Infer,
    /// Who asks the registry.
    pub credentials: Option<Credentials>,
}

impl Push {
    /// Does it, telling each step.
    pub async fn run(mut self, reference: &Reference, lines: &Lines) -> Result<(), Error> {
        lines.say("retrieving manifest").await;
        let manifest = self.infer.manifest(&reference.name()).await?;
        let mut session = Session::new(&self.client, self.credentials.take());
        for layer in layers("kos-infer", &manifest)? {
            let mut progress = Progress::new(lines, "pushing", &layer.digest, Some(layer.size), 0);
            progress.tell().await;
            let there = reference.uri(&format!("blobs/{}", layer.digest))?;
            let nothing = HeaderMap::new();
            let answer = session.get(Method::HEAD, &there, &nothing).await?;
            match answer.parts.status {
                StatusCode::OK => progress.whole().await,
                StatusCode::NOT_FOUND => {
                    self.blob(&mut session, reference, &layer, progress).await?;
                }
                _ => return Err(answer.refused().await),
            }
        }
        lines.say("pushing manifest").await;
        let uri = reference.uri(&format!("manifests/{}", reference.tag))?;
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(MANIFEST));
        let body = Some(Body::from(manifest));
        let answer = session.send(Method::PUT, &uri, &headers, body).await?;
        answer.success().await?;
        lines.say("success").await;
        Ok(())
    }

    /// Sends a blob: a place for it is asked for, then it goes there in one piece.
    async fn blob(
        &self,
        session: &mut Session<'_>,
        reference: &Reference,
        layer: &Layer,
        progress: Progress,
    ) -> Result<(), Error> {
        let uri = reference.uri("blobs/uploads/")?;
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_LENGTH, HeaderValue::from(0));
        let answer = session.send(Method::POST, &uri, &headers, None).await?;
        let answer = answer.success().await?;
        let place = answer.header(LOCATION).unwrap_or_default();
        let separator = if place.contains('?') { '&' } else { '?' };
        let place = format!("{place}{separator}digest={}", layer.digest);
        let place = follow(&uri, &place).ok_or_else(|| Error::Answer {
            host: answer.host.clone(),
            problem: "no place for an upload".to_owned(),
        })?;
        let bytes = self.infer.blob(&layer.digest).await?;
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_LENGTH, HeaderValue::from(layer.size));
        let octets = HeaderValue::from_static("application/octet-stream");
        headers.insert(CONTENT_TYPE, octets);
        let (body, fate) = passed(bytes, Some(layer.size), progress);
        // The token is for the registry, not for wherever it sends the bytes.
        let answer = match place.authority() == uri.authority() {
            true => {
                session
                    .send(Method::PUT, &place, &headers, Some(body))
                    .await
            }
            false => self.client.send(Method::PUT, &place, &headers, body).await,
        };
        let answer = answer.map_err(|error| fate.of(error))?;
        answer.success().await.map(drop)
    }
}
