//! `/api/v1/logs`: the kept log of all services, in pages, followed, and as a file.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Json;
use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, header};
use axum::response::sse::Event;
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tokio::sync::{OwnedSemaphorePermit, watch};

use super::events::sse;
use crate::app::App;
use crate::error::ApiError;
use crate::journal::filter::Filter;
use crate::journal::reader::{self, Limit, Page};
use crate::journal::record::{Gap, Record};
use crate::journal::search::Search;
use crate::journal::shelf::Condition;
use crate::journal::{line, time};
use crate::store::clock;

/// Records of one answer at most.
const MAX_RECORDS: usize = 1000;
/// Records of one answer when nothing else is said.
const RECORDS: usize = 200;
/// How long one answer looks before it says how far it came.
const SEARCH_TIME: Duration = Duration::from_secs(5);
/// Names that can be asked for at once.
const MAX_SERVICES: usize = 64;
/// Records that a follower is not told of before it is told where it is, so that it need not
/// look at them again when it comes back.
const TOLD_AFTER: u64 = 500;

/// What can be asked for.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Wanted {
    /// Names with commas between them; all when absent.
    pub service: Option<String>,
    /// Least severe level: 0 to 7, or a name such as `warning`.
    pub level: Option<String>,
    /// First time: a date, milliseconds since 1970, or how long ago (`-15m`).
    pub since: Option<String>,
    /// Last time.
    pub until: Option<String>,
    /// Words, phrases and `field=value`.
    pub search: Option<String>,
    /// Records at most.
    pub limit: Option<usize>,
    /// Where to go on: what an answer gave as `older`, `newer` or an entry's `cursor`.
    pub cursor: Option<String>,
    /// `older` (the default) or `newer` than the cursor.
    pub direction: Option<Direction>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// Back in time.
    Older,
    /// Forth.
    Newer,
}

/// A page.
#[derive(Debug, Serialize)]
pub struct Answer {
    /// Oldest first.
    pub entries: Vec<Entry>,
    /// Cursor for what is older; absent when there is nothing.
    pub older: Option<String>,
    /// Cursor for what is newer, now or later.
    pub newer: String,
    /// Whether there is more in the direction that was asked for.
    pub more: bool,
    /// Whether lines behind the cursor have been deleted since it was given out.
    pub lost: bool,
    /// How the log is.
    pub log: Condition,
}

/// A record as clients see it.
#[derive(Debug, Serialize)]
pub struct Entry {
    /// Its place: what a follower resumes from.
    pub cursor: String,
    /// When PID 1 read the line.
    pub time_unix_ms: u64,
    /// The boot that it was said in.
    pub boot: String,
    /// A service, `init` or `kernel`.
    pub service: String,
    /// syslog severity.
    pub level: u8,
    /// What was said.
    pub message: String,
    /// The rest of a line that is a JSON object.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fields: Option<Map<String, Value>>,
    /// Set when lines are missing here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gap: Option<Gap>,
}

impl Entry {
    fn new(log: &str, record: &Record) -> Self {
        Entry {
            cursor: cursor(log, record.seq),
            time_unix_ms: record.time_unix_ms,
            boot: record.boot.clone(),
            service: record.service.clone(),
            level: record.level,
            message: record.message.clone(),
            fields: record.fields.clone(),
            gap: record.gap.clone(),
        }
    }
}

/// `GET /api/v1/logs?service=&level=&since=&until=&search=&limit=&cursor=&direction=`
pub async fn list(
    State(app): State<Arc<App>>,
    query: Result<Query<Wanted>, QueryRejection>,
) -> Result<Json<Answer>, ApiError> {
    let wanted = understood(query)?;
    Ok(Json(wanted.answer(&app).await?))
}

/// `GET /api/v1/logs/follow`: an event `log` for each record behind the cursor, or from now on; its
/// id is its cursor. An event `position` has an id and nothing else. `lost` says that lines behind
/// the cursor have been deleted.
pub async fn follow(
    State(app): State<Arc<App>>,
    query: Result<Query<Wanted>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let mut wanted = understood(query)?;
    let resumed = headers.get("last-event-id").and_then(|id| id.to_str().ok());
    if let Some(id) = resumed.filter(|id| !id.is_empty()) {
        wanted.cursor = Some(id.to_owned());
    }
    let filter = wanted.filter()?;
    let mut pending = VecDeque::new();
    let after = match wanted.place(&app) {
        Ok(Some(after)) => after,
        Ok(None) => newest(&app),
        // A browser would not come again after an error: it gets what there is of the other log.
        Err(_) if resumed.is_some() => {
            pending.push_back(Event::default().event("lost").data("{}"));
            0
        }
        Err(error) => return Err(error),
    };
    let follower = Follower {
        place: app.stream_place()?,
        published: app.shelf.watch(),
        app: Arc::clone(&app),
        filter,
        after,
        told: after,
        pending,
    };
    Ok(sse(&app, stream::unfold(follower, Follower::event)).into_response())
}

/// `GET /api/v1/logs/download`: everything that fits, oldest first, one JSON object in a line.
pub async fn download(
    State(app): State<Arc<App>>,
    query: Result<Query<Wanted>, QueryRejection>,
) -> Result<Response, ApiError> {
    let wanted = understood(query)?;
    let filter = wanted.filter()?;
    let after = wanted.place(&app)?.unwrap_or(0);
    // What comes while it is read is not a part of it, or it might never end.
    let last = newest(&app);
    let place = app.stream_place()?;
    let start = Some((app, filter, after, place));
    let lines = stream::unfold(start, move |state| async move {
        let (app, filter, after, place) = state?;
        let page = Look::Newer(after)
            .look(&app, filter.clone(), MAX_RECORDS)
            .await;
        let page = match page {
            Ok(page) => page,
            Err(error) => return Some((Err(error), None)),
        };
        let log = app.shelf.look().log.clone();
        let mut text = Vec::new();
        for record in page.records.iter().filter(|record| record.seq <= last) {
            // Writing a structure of texts and numbers into memory cannot fail.
            let _ = serde_json::to_writer(&mut text, &Entry::new(&log, record));
            text.push(b'\n');
        }
        let next = (page.more && page.newer < last).then_some((app, filter, page.newer, place));
        Some((Ok(text), next))
    });
    let headers = [
        (header::CONTENT_TYPE, "application/x-ndjson"),
        (
            header::CONTENT_DISPOSITION,
            "attachment; filename=\"kos-log.jsonl\"",
        ),
    ];
    Ok((headers, Body::from_stream(lines)).into_response())
}

fn understood(query: Result<Query<Wanted>, QueryRejection>) -> Result<Wanted, ApiError> {
    let Query(wanted) = query.map_err(|error| ApiError::BadRequest(error.body_text()))?;
    Ok(wanted)
}

impl Wanted {
    /// The page that is asked for.
    ///
    /// # Errors
    /// When the question cannot be understood, or the log cannot be read.
    pub async fn answer(&self, app: &App) -> Result<Answer, ApiError> {
        let filter = self.filter()?;
        let records = self.limit.unwrap_or(RECORDS).clamp(1, MAX_RECORDS);
        let place = self.place(app)?;
        let look = match self.direction.unwrap_or(Direction::Older) {
            Direction::Older => Look::Older(place.unwrap_or(u64::MAX)),
            Direction::Newer => Look::Newer(place.unwrap_or(0)),
        };
        let page = look.look(app, filter, records).await?;
        let content = app.shelf.look();
        let entries = page.records.iter();
        Ok(Answer {
            entries: entries
                .map(|record| Entry::new(&content.log, record))
                .collect(),
            older: (page.older > 0).then(|| cursor(&content.log, page.older)),
            newer: cursor(&content.log, page.newer),
            more: page.more,
            lost: page.lost,
            log: content.condition.clone(),
        })
    }

    fn filter(&self) -> Result<Filter, ApiError> {
        let wrong = |error: &dyn std::fmt::Display| ApiError::BadRequest(error.to_string());
        let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        let services: Vec<String> = given(&self.service).map_or_else(Vec::new, |names| {
            let names = names.split(',').map(str::trim);
            names
                .filter(|name| !name.is_empty())
                .map(str::to_owned)
                .collect()
        });
        if services.len() > MAX_SERVICES {
            let found = services.len();
            return Err(wrong(&format!(
                "service: found {found} names, allowed: {MAX_SERVICES}"
            )));
        }
        let level = match given(&self.level) {
            None => 7,
            Some(text) => level(&text).ok_or_else(|| {
                let found: String = text.chars().take(40).collect();
                wrong(&format!(
                    "level: found '{found}', allowed: 0 to 7, emerg, alert, crit, err, warning, \
                     notice, info, debug"
                ))
            })?,
        };
        let now = u64::try_from(clock::now()).unwrap_or(0) * 1000;
        let at = |key, text: &Option<String>, otherwise| match given(text) {
            Some(text) => time::parse(key, &text, now).map_err(|error| wrong(&error)),
            None => Ok(otherwise),
        };
        let search = Search::parse(self.search.as_deref().unwrap_or_default());
        Ok(Filter {
            services,
            level,
            since: at("since", &self.since, 0)?,
            until: at("until", &self.until, u64::MAX)?,
            search: search.map_err(|error| wrong(&error))?,
        })
    }

    /// The record that the cursor names.
    fn place(&self, app: &App) -> Result<Option<u64>, ApiError> {
        let Some(text) = self.cursor.as_deref().filter(|text| !text.is_empty()) else {
            return Ok(None);
        };
        let found: String = text.chars().take(40).collect();
        let (log, seq) = text
            .split_once('-')
            .and_then(|(log, seq)| Some((log, seq.parse().ok()?)))
            .ok_or_else(|| {
                ApiError::BadRequest(format!(
                    "cursor: found '{found}', allowed: what an answer gave"
                ))
            })?;
        if log != app.shelf.look().log {
            return Err(ApiError::BadRequest(format!(
                "cursor: found '{found}', which is of another log: the box has another disk, or none, \
                 or was reset"
            )));
        }
        Ok(Some(seq))
    }
}

fn level(text: &str) -> Option<u8> {
    match text.parse() {
        Ok(level @ 0..=7) => Some(level),
        Ok(_) => None,
        Err(_) => line::severity(text),
    }
}

fn cursor(log: &str, seq: u64) -> String {
    format!("{log}-{seq}")
}

fn newest(app: &App) -> u64 {
    let content = app.shelf.look();
    let in_memory = content.recent.back().map(|record| record.seq);
    let in_files = content
        .files
        .iter()
        .filter_map(|file| Some(file.range?.last))
        .max();
    in_memory.or(in_files).unwrap_or(0)
}

/// A place and a direction.
enum Look {
    Older(u64),
    Newer(u64),
}

impl Look {
    /// Reads a page, when it is its turn.
    async fn look(self, app: &App, filter: Filter, records: usize) -> Result<Page, ApiError> {
        let limit = Limit {
            records,
            deadline: Instant::now() + SEARCH_TIME,
        };
        if let Look::Newer(after) = self
            && reader::is_in_memory(&app.shelf, after)
        {
            // Those who follow do not wait behind those who search.
            return Ok(reader::newer(&app.shelf, &filter, after, limit));
        }
        // Never closed.
        let turn = Arc::clone(&app.searches).acquire_owned().await;
        let shelf = Arc::clone(&app.shelf);
        let looked = tokio::task::spawn_blocking(move || {
            let limit = Limit {
                deadline: Instant::now() + SEARCH_TIME,
                ..limit
            };
            let page = match self {
                Look::Older(before) => reader::older(&shelf, &filter, before, limit),
                Look::Newer(after) => reader::newer(&shelf, &filter, after, limit),
            };
            drop(turn);
            page
        });
        looked
            .await
            .map_err(|error| ApiError::Log(error.to_string()))
    }
}

/// One client that follows. It asks for what comes next when it has taken what was before: a slow
/// one holds a page and a number, and nothing grows.
struct Follower {
    app: Arc<App>,
    filter: Filter,
    published: watch::Receiver<u64>,
    after: u64,
    told: u64,
    pending: VecDeque<Event>,
    #[expect(dead_code, reason = "given back when the client leaves")]
    place: OwnedSemaphorePermit,
}

impl Follower {
    async fn event(mut self) -> Option<(Result<Event, Infallible>, Self)> {
        loop {
            if let Some(event) = self.pending.pop_front() {
                return Some((Ok(event), self));
            }
            self.published.mark_unchanged();
            let look = Look::Newer(self.after);
            // The stream ends; the client comes again with the last id and learns why.
            let page = look
                .look(&self.app, self.filter.clone(), RECORDS)
                .await
                .ok()?;
            let is_more = page.more;
            self.add(page);
            if self.pending.is_empty() && !is_more {
                self.published.changed().await.ok()?;
            }
        }
    }

    fn add(&mut self, page: Page) {
        let log = self.app.shelf.look().log.clone();
        if page.lost {
            self.pending
                .push_back(Event::default().event("lost").data("{}"));
        }
        for record in &page.records {
            // A plain structure always has a JSON form.
            let data = serde_json::to_string(&Entry::new(&log, record)).unwrap_or_default();
            let id = cursor(&log, record.seq);
            self.pending
                .push_back(Event::default().event("log").id(id).data(data));
            self.told = record.seq;
        }
        self.after = page.newer;
        if self.after.saturating_sub(self.told) >= TOLD_AFTER {
            self.told = self.after;
            let id = cursor(&log, self.after);
            self.pending
                .push_back(Event::default().event("position").id(id).data("{}"));
        }
    }
}
