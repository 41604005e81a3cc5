//! Bytes on their way: counted, bounded, and told of.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes};
use futures_util::stream;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tokio::sync::mpsc::Sender;
use tokio::time::timeout;

use super::client::{Fetched, STALL_LIMIT};
use super::error::Error;

/// How often a client is told how far it is.
const TOLD_EVERY: Duration = Duration::from_millis(200);

/// Lines to the client.
#[derive(Clone)]
pub struct Lines(pub Sender<Value>);

impl Lines {
    /// Says what is done now.
    pub async fn say(&self, status: &str) {
        // A client that has left takes this task with it.
        let _ = self.0.send(json!({ "status": status })).await;
    }
}

/// How far one blob is.
pub struct Progress {
    lines: Lines,
    status: String,
    digest: String,
    total: Option<u64>,
    completed: u64,
    told: Option<Instant>,
}

impl Progress {
    /// At the beginning, or where an earlier try ended.
    pub fn new(
        lines: &Lines,
        verb: &str,
        digest: &str,
        total: Option<u64>,
        completed: u64,
    ) -> Self {
        let hex = digest.strip_prefix("sha256:").unwrap_or(digest);
        let short = hex.get(..12).unwrap_or(hex);
        Self {
            lines: lines.clone(),
            status: format!("{verb} {short}"),
            digest: digest.to_owned(),
            total,
            completed,
            told: None,
        }
    }

    fn due(&self) -> bool {
        self.told.is_none_or(|told| told.elapsed() >= TOLD_EVERY)
    }

    /// Tells how far it is.
    pub async fn tell(&mut self) {
        self.told = Some(Instant::now());
        let mut line = json!({ "status": self.status, "digest": self.digest });
        if let Some(total) = self.total {
            line["total"] = total.into();
        }
        // Ollama leaves out a zero.
        if self.completed > 0 {
            line["completed"] = self.completed.into();
        }
        let _ = self.lines.0.send(line).await;
    }

    /// Tells that all of it is there.
    pub async fn whole(&mut self) {
        self.completed = self.total.unwrap_or(self.completed);
        self.tell().await;
    }
}

/// Why a body on its way broke off: who takes it only sees that it did.
#[derive(Clone, Default)]
pub struct Fate(Arc<Mutex<Option<Error>>>);

impl Fate {
    /// The true reason of an error of whoever took the body.
    pub fn of(&self, error: Error) -> Error {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.take().unwrap_or(error)
    }
}

/// The body of an answer on its way to somebody else. It fails when it breaks off, when nothing
/// comes for too long, and when it has another length than `length`.
pub fn passed(fetched: Fetched, length: Option<u64>, progress: Progress) -> (Body, Fate) {
    let fate = Fate::default();
    let known = fate.clone();
    let host = fetched.host.clone();
    let failed = move |reason: String| -> Step {
        let host = host.clone();
        let mut known = known.0.lock().unwrap_or_else(PoisonError::into_inner);
        *known = Some(Error::Broken {
            host,
            reason: reason.clone(),
        });
        Some((Err(reason), None))
    };
    let state = Some((fetched, progress, 0));
    let pieces = stream::unfold(state, move |state| {
        let failed = failed.clone();
        async move {
            let (mut fetched, mut progress, mut passed) = state?;
            loop {
                let piece = match timeout(STALL_LIMIT, fetched.body.frame()).await {
                    Ok(Some(Ok(frame))) => match frame.into_data() {
                        Ok(piece) => piece,
                        // Trailers.
                        Err(_) => continue,
                    },
                    Ok(Some(Err(error))) => return failed(error.to_string()),
                    Ok(None) if length.is_none_or(|length| length == passed) => return None,
                    Ok(None) => return failed(format!("it ended after {passed} bytes")),
                    Err(_) => return failed("nothing came for too long".to_owned()),
                };
                passed += piece.len() as u64;
                if length.is_some_and(|length| passed > length) {
                    return failed("it is longer than it said".to_owned());
                }
                progress.completed += piece.len() as u64;
                if progress.due() {
                    progress.tell().await;
                }
                return Some((
                    Ok::<Bytes, String>(piece),
                    Some((fetched, progress, passed)),
                ));
            }
        }
    });
    (Body::from_stream(pieces), fate)
}

type Step = Option<(Result<Bytes, String>, Option<(Fetched, Progress, u64)>)>;
