//! The page of boots: why the box went down, and how long its ways up and down took.

use std::sync::Arc;

use askama::Template;
use axum::extract::State;
use axum::response::Html;
use kos_sdk::control::{BootRecord, DownCause, KilledService};

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
    /// When, for people and for programs; nothing when the clock was not set.
    started: String,
    stamp: String,
    ran: String,
    version: String,
    kernel: String,
    /// The badge's class and word.
    tone: &'static str,
    word: &'static str,
    detail: String,
    killed: Vec<KilledService>,
    /// What the kernel said last, and what that is called.
    kernel_text: Vec<KernelLine>,
    kernel_says: &'static str,
    up: String,
    down: String,
}

/// A line of the kernel's.
struct KernelLine {
    text: String,
    /// An error, or worse.
    is_bad: bool,
}

impl KernelLine {
    /// `<3>[   12.3] text`: the level is shown as a colour.
    fn new(line: &str) -> Self {
        let parts = line.strip_prefix('<').and_then(|rest| rest.split_once('>'));
        let parsed = parts.and_then(|(level, text)| Some((level.parse::<u32>().ok()?, text)));
        match parsed {
            Some((level, text)) => KernelLine {
                text: text.to_owned(),
                // The bits above these are the facility.
                is_bad: level & 7 <= 3,
            },
            None => KernelLine {
                text: line.to_owned(),
                is_bad: false,
            },
        }
    }
}

impl Row {
    fn new(boot: BootRecord) -> Result<Self, askama::Error> {
        let cause = DownCause::from_code(&boot.down.cause);
        let (tone, word) = said(cause);
        let started = i64::try_from(boot.started_unix_ms / 1000).unwrap_or(0);
        let has_way_down = !boot.down.phases.is_empty();
        let stamp = if started < clock::FLOOR {
            String::new()
        } else {
            clock::stamp(started)
        };
        // A panic's own text says more than the console's end, and holds it.
        let (kernel_says, kernel_text) = if boot.down.panic.is_empty() {
            ("The end of the kernel's console", &boot.down.console)
        } else {
            ("The kernel's last messages", &boot.down.panic)
        };
        Ok(Row {
            started: stamp.replace('T', " ").replace('Z', " UTC"),
            stamp,
            kernel_text: kernel_text.lines().map(KernelLine::new).collect(),
            kernel_says,
            ran: show::duration(boot.seen_ms),
            tone,
            word,
            detail: match boot.down.by.as_str() {
                "" => boot.down.detail,
                by => format!("{}, asked by {by}", boot.down.detail),
            },
            killed: boot.down.killed,
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
        Some(DownCause::Operator) => ("", "on request"),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_becomes_a_colour() {
        let read = |line| {
            let line = KernelLine::new(line);
            (line.text, line.is_bad)
        };
        assert_eq!(
            read("<0>[ 1.2] Kernel panic"),
            ("[ 1.2] Kernel panic".to_owned(), true)
        );
        assert_eq!(read("<12>kos: ready"), ("kos: ready".to_owned(), false));
        assert_eq!(read("<c>x"), ("<c>x".to_owned(), false));
        assert_eq!(read("Panic#1 Part1"), ("Panic#1 Part1".to_owned(), false));
    }
}
