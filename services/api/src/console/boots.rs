//! The page of boots: why the box went down, and how long its ways up and down took.

use std::sync::Arc;

use askama::Template;
use axum::extract::State;
use axum::response::Html;
use kos_sdk::control::{BootRecord, DownCause};

use super::page::named;
use super::show;
use super::view::Boot;
use crate::app::App;
use crate::error::ApiError;
use crate::store::clock;

#[derive(Template)]
#[template(path = "boots.html")]
struct BootsPage {
    hostname: String,
    boots: Vec<Row>,
}

/// One boot.
struct Row {
    started: String,
    ran: String,
    version: String,
    kernel: String,
    /// The badge's class and word.
    tone: &'static str,
    word: &'static str,
    detail: String,
    killed: Vec<String>,
    panic: String,
    console: String,
    up: String,
    down: String,
}

impl Row {
    fn new(boot: BootRecord) -> Result<Self, askama::Error> {
        let cause = DownCause::from_code(&boot.down.cause);
        let (tone, word) = said(cause);
        let started = i64::try_from(boot.started_unix_ms / 1000).unwrap_or(0);
        let has_way_down = !boot.down.phases.is_empty();
        Ok(Row {
            started: if started < clock::FLOOR {
                "with a clock that was not set".to_owned()
            } else {
                let stamp = clock::stamp(started).replace('T', " ");
                stamp.replace('Z', " UTC")
            },
            ran: show::duration(boot.seen_ms),
            tone,
            word,
            detail: match boot.down.by.as_str() {
                "" => boot.down.detail,
                by => format!("{by}: {}", boot.down.detail),
            },
            killed: boot
                .down
                .killed
                .into_iter()
                .map(|killed| format!("{}: {}", killed.name, killed.reason))
                .collect(),
            panic: boot.down.panic,
            console: boot.down.console,
            up: if boot.phases.is_empty() {
                String::new()
            } else {
                Boot::new(&boot.phases, boot.ready_ms).render()?
            },
            down: if has_way_down {
                Boot::down(&boot.down.phases).render()?
            } else {
                String::new()
            },
            version: boot.version,
            kernel: boot.kernel,
        })
    }
}

/// A cause for people, and how much it is to worry about.
fn said(cause: Option<DownCause>) -> (&'static str, &'static str) {
    match cause {
        None => ("good", "running"),
        Some(DownCause::Operator) => ("", "asked to"),
        Some(DownCause::Update) => ("", "update"),
        Some(DownCause::FactoryReset) => ("", "factory reset"),
        Some(DownCause::EssentialService) => ("bad", "a service failed"),
        Some(DownCause::FatalError) => ("bad", "PID 1 failed"),
        Some(DownCause::Watchdog) => ("bad", "watchdog"),
        Some(DownCause::KernelPanic) => ("bad", "kernel panic"),
        Some(DownCause::PowerLoss) => ("warn", "power loss or reset"),
    }
}

/// `GET /boots`
pub async fn show(State(app): State<Arc<App>>) -> Result<Html<String>, ApiError> {
    let boots = app.control.boots().await?;
    let boots = boots.into_iter().map(Row::new).collect::<Result<_, _>>()?;
    let page = BootsPage {
        hostname: named(app.live.latest().hostname()),
        boots,
    };
    Ok(Html(page.render()?))
}
