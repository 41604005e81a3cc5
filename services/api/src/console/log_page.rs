//! The log view: a page of its own, or the piece of it that the console opens in a dialog.

use std::sync::Arc;

use askama::Template;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::response::Html;
use kos_sdk::control::LogEntry;

use super::page::named;
use crate::api::logs::tail;
use crate::app::App;
use crate::error::ApiError;
use crate::guard::is_htmx;
use crate::store::clock;

/// Lines that the view begins with.
const LINES: u32 = 500;

#[derive(Template)]
#[template(path = "log.html")]
struct LogPageView {
    hostname: String,
    names: Vec<String>,
    log: Log,
}

#[derive(Template)]
#[template(path = "part_log.html")]
struct Log {
    name: String,
    next: u64,
    lines: Vec<Line>,
}

struct Line {
    cursor: u64,
    level: u8,
    stamp: String,
    clock: String,
    message: String,
}

impl From<LogEntry> for Line {
    fn from(entry: LogEntry) -> Self {
        let seconds = i64::try_from(entry.time_unix_ms / 1000).unwrap_or(0);
        let stamp = clock::stamp(seconds);
        let whole = stamp.trim_end_matches('Z');
        Line {
            cursor: entry.cursor,
            level: entry.level.min(7),
            clock: whole
                .split_once('T')
                .map_or("", |(_, time)| time)
                .to_owned(),
            stamp: format!("{whole}.{:03}Z", entry.time_unix_ms % 1000),
            message: entry.message,
        }
    }
}

impl LogPageView {
    fn log_html(&self) -> Result<String, askama::Error> {
        self.log.render()
    }
}

/// `GET /logs/{name}`
pub async fn show(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Result<Html<String>, ApiError> {
    let page = tail(&app.control, &name, LINES).await?;
    let log = Log {
        name,
        next: page.next,
        lines: page.entries.into_iter().map(Line::from).collect(),
    };
    if is_htmx(&headers) {
        return Ok(Html(log.render()?));
    }
    let snapshot = app.live.fresh().await;
    let view = LogPageView {
        hostname: named(snapshot.hostname()),
        names: snapshot
            .services
            .iter()
            .map(|view| view.status.name.clone())
            .chain(["init".to_owned(), "kernel".to_owned()])
            .collect(),
        log,
    };
    Ok(Html(view.render()?))
}
