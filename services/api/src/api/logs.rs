//! `/api/v1/services/{name}/log`: a service's lines, or those of `init` or the `kernel`.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::HeaderMap;
use axum::response::sse::Event;
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use kos_sdk::control::{LogEntry, LogPage};
use serde::Deserialize;
use tokio::sync::OwnedSemaphorePermit;

use super::events::sse;
use crate::app::App;
use crate::control::{Control, ControlError};
use crate::error::ApiError;

/// Lines of one answer at most, and of one call to PID 1.
const MAX_LINES: u32 = 1000;
/// Calls to PID 1 at most to find the end of a log; a ring that grows faster than it is read has
/// no end.
const MAX_PAGES: usize = 50;
/// How long PID 1 holds a call while there is nothing new.
const WAIT_MS: u32 = 20_000;

/// What can be asked for.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Wanted {
    /// First line wanted; the oldest when absent.
    cursor: Option<u64>,
    /// Lines at most.
    max: Option<u32>,
    /// The last so many lines, instead of those from `cursor` on.
    tail: Option<u32>,
    /// `1`: server-sent events that go on.
    follow: Option<u8>,
}

/// `GET /api/v1/services/{name}/log?cursor=&max=&tail=&follow=1`
pub async fn read(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    query: Result<Query<Wanted>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let Query(wanted) = query.map_err(|error| ApiError::BadRequest(error.body_text()))?;
    let resumed = headers
        .get("last-event-id")
        .and_then(|id| id.to_str().ok()?.parse::<u64>().ok())
        .map(|last| last.saturating_add(1));
    let max = wanted.max.unwrap_or(MAX_LINES).clamp(1, MAX_LINES);
    let page = match (wanted.tail, resumed) {
        (Some(lines), None) => tail(&app.control, &name, lines.min(MAX_LINES)).await?,
        _ => {
            let cursor = resumed.or(wanted.cursor).unwrap_or(0);
            let page = app.control.read_log(&name, cursor, max, 0).await?;
            if page.next < cursor {
                // The cursor is of an earlier boot: this log begins anew.
                app.control.read_log(&name, 0, max, 0).await?
            } else {
                page
            }
        }
    };
    if wanted.follow.unwrap_or(0) == 0 {
        return Ok(Json(page).into_response());
    }
    let follower = Follower {
        place: app.stream_place()?,
        app: Arc::clone(&app),
        next: page.next,
        pending: VecDeque::new(),
        name,
    };
    let follower = follower.with(page);
    Ok(sse(&app, stream::unfold(follower, Follower::event)).into_response())
}

/// The last `lines` lines of a log.
///
/// # Errors
/// When PID 1 refuses or is away.
pub async fn tail(control: &Control, name: &str, lines: u32) -> Result<LogPage, ControlError> {
    let mut entries: VecDeque<LogEntry> = VecDeque::new();
    let mut next = 0;
    for _ in 0..MAX_PAGES {
        let page = control.read_log(name, next, MAX_LINES, 0).await?;
        next = page.next;
        if page.entries.is_empty() {
            break;
        }
        entries.extend(page.entries);
        let surplus = entries.len().saturating_sub(lines as usize);
        entries.drain(..surplus);
    }
    Ok(LogPage {
        entries: entries.into(),
        next,
        // What is before the tail was not asked for.
        dropped: 0,
    })
}

/// One client that follows one log.
struct Follower {
    app: Arc<App>,
    name: String,
    next: u64,
    pending: VecDeque<Event>,
    #[expect(dead_code, reason = "given back when the client leaves")]
    place: OwnedSemaphorePermit,
}

impl Follower {
    fn with(mut self, page: LogPage) -> Self {
        if page.dropped > 0 {
            let data = serde_json::json!({ "dropped": page.dropped }).to_string();
            self.pending
                .push_back(Event::default().event("dropped").data(data));
        }
        self.next = page.next;
        self.pending.extend(page.entries.iter().map(|entry| {
            // A plain structure always has a JSON form.
            let data = serde_json::to_string(entry).unwrap_or_default();
            Event::default()
                .event("log")
                .id(entry.cursor.to_string())
                .data(data)
        }));
        self
    }

    async fn event(mut self) -> Option<(Result<Event, Infallible>, Self)> {
        loop {
            if let Some(event) = self.pending.pop_front() {
                return Some((Ok(event), self));
            }
            let read = self
                .app
                .control
                .read_log(&self.name, self.next, MAX_LINES, WAIT_MS)
                .await;
            match read {
                Ok(page) => self = self.with(page),
                // The stream ends; the client comes again with the last id and learns why.
                Err(error) => {
                    tracing::debug!("log of {}: {error}", self.name);
                    return None;
                }
            }
        }
    }
}
