//! The log of the whole box as a page: rendered here with what the address asks for, then followed
//! and searched by `journal.js`. Without JavaScript the form asks again.

use std::sync::Arc;

use askama::Template;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::Html;

use super::page::named;
use super::show;
use crate::api::journal::{Answer, Entry, Wanted};
use crate::app::App;
use crate::error::ApiError;
use crate::store::clock;

/// Levels that can be chosen, as people think of them.
const LEVELS: [(&str, &str); 4] = [
    ("", "all levels"),
    ("info", "no debug"),
    ("warning", "warnings"),
    ("err", "errors"),
];

/// Times that can be chosen.
const TIMES: [(&str, &str); 5] = [
    ("", "any time"),
    ("-15m", "15 minutes"),
    ("-1h", "an hour"),
    ("-1d", "a day"),
    ("-7d", "7 days"),
];

#[derive(Template)]
#[template(path = "journal.html")]
struct JournalPage {
    hostname: String,
    services: Vec<Choice>,
    levels: Vec<Choice>,
    times: Vec<Choice>,
    since: String,
    until: String,
    search: String,
    error: String,
    newer: String,
    older: String,
    problem: String,
    size: String,
    lines: Vec<Line>,
}

struct Choice {
    value: String,
    name: String,
    is_chosen: bool,
}

struct Line {
    cursor: String,
    level: u8,
    stamp: String,
    service: String,
    message: String,
    fields: Vec<(String, String)>,
    is_gap: bool,
    /// Said in another boot than the line before.
    begins_boot: bool,
}

/// `GET /logs?service=&level=&since=&until=&search=`
pub async fn show(
    State(app): State<Arc<App>>,
    query: Result<Query<Wanted>, QueryRejection>,
) -> Result<Html<String>, ApiError> {
    let Query(wanted) = query.map_err(|error| ApiError::BadRequest(error.body_text()))?;
    let (answer, error) = match wanted.answer(&app).await {
        Ok(answer) => (answer, String::new()),
        // The form stays, with what was typed, and says what is wrong with it.
        Err(ApiError::BadRequest(error)) => (Wanted::default().answer(&app).await?, error),
        Err(error) => return Err(error),
    };
    let snapshot = app.live.fresh().await;
    let names = snapshot
        .services
        .iter()
        .map(|view| view.status.name.as_str());
    let names: Vec<&str> = names.chain(["init", "kernel"]).collect();
    let chosen = text(&wanted.service);
    let mut services: Vec<(&str, &str)> = vec![("", "all services")];
    services.extend(names.iter().map(|name| (*name, *name)));
    if !chosen.is_empty() && !names.contains(&chosen) {
        services.push((chosen, chosen));
    }
    let page = JournalPage {
        hostname: named(snapshot.hostname()),
        services: choices(&services, chosen),
        levels: choices(&LEVELS, text(&wanted.level)),
        times: choices(&TIMES, text(&wanted.since)),
        since: text(&wanted.since).to_owned(),
        until: text(&wanted.until).to_owned(),
        search: text(&wanted.search).to_owned(),
        newer: answer.newer.clone(),
        older: answer.older.clone().unwrap_or_default(),
        problem: answer.log.problem.clone().unwrap_or_default(),
        size: format!(
            "{} of {}, {} days",
            show::bytes(answer.log.bytes),
            show::bytes(answer.log.max_bytes),
            answer.log.max_age_days
        ),
        lines: if error.is_empty() {
            lines(answer)
        } else {
            Vec::new()
        },
        error,
    };
    Ok(Html(page.render()?))
}

fn text(given: &Option<String>) -> &str {
    given.as_deref().unwrap_or_default()
}

fn choices(all: &[(&str, &str)], chosen: &str) -> Vec<Choice> {
    all.iter()
        .map(|(value, name)| Choice {
            value: (*value).to_owned(),
            name: (*name).to_owned(),
            is_chosen: *value == chosen,
        })
        .collect()
}

fn lines(answer: Answer) -> Vec<Line> {
    let mut boot: Option<String> = None;
    let mut lines = Vec::with_capacity(answer.entries.len());
    for entry in answer.entries {
        let begins_boot = boot.as_ref().is_some_and(|boot| *boot != entry.boot);
        boot = Some(entry.boot.clone());
        lines.push(Line::new(entry, begins_boot));
    }
    lines
}

impl Line {
    fn new(entry: Entry, begins_boot: bool) -> Self {
        let seconds = i64::try_from(entry.time_unix_ms / 1000).unwrap_or(0);
        let stamp = clock::stamp(seconds);
        let whole = stamp.trim_end_matches('Z');
        let fields = entry.fields.unwrap_or_default().into_iter();
        Line {
            cursor: entry.cursor,
            level: entry.level.min(7),
            stamp: format!("{whole}.{:03}Z", entry.time_unix_ms % 1000),
            service: entry.service,
            message: entry.message,
            fields: fields
                .map(|(name, value)| match value {
                    serde_json::Value::String(text) => (name, text),
                    other => (name, other.to_string()),
                })
                .collect(),
            is_gap: entry.gap.is_some(),
            begins_boot,
        }
    }
}
