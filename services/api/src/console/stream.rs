//! The event stream that keeps an open console up to date: pieces of HTML, each for a place of
//! the page, sent only when they have changed.

use std::collections::HashMap;
use std::convert::Infallible;
use std::fmt::Write;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use askama::Template;
use axum::extract::State;
use axum::response::sse::{Event, Sse};
use futures_util::{Stream, stream};
use tokio::sync::{OwnedSemaphorePermit, watch};

use super::machine::Machine;
use super::view::{Boot, Services, Status, Warnings};
use crate::api::events::sse;
use crate::app::App;
use crate::error::ApiError;
use crate::live::Snapshot;

/// `GET /console/stream`
pub async fn follow(
    State(app): State<Arc<App>>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>> + use<>>, ApiError> {
    let place = app.stream_place()?;
    let snapshots = app.live.watch();
    let viewer = Viewer {
        app: Arc::clone(&app),
        snapshots,
        sent: HashMap::new(),
        announced: String::new(),
        states: HashMap::new(),
        place,
    };
    Ok(sse(&app, stream::unfold(viewer, Viewer::event)))
}

/// One open console.
struct Viewer {
    app: Arc<App>,
    snapshots: watch::Receiver<Arc<Snapshot>>,
    /// A hash of what the page shows, by place. The text itself would be a megabyte for each of 64
    /// viewers of a thousand services; that two texts in a row have one hash is as good as never.
    sent: HashMap<&'static str, u64>,
    /// What was announced last.
    announced: String,
    /// State of each service, to announce changes to those who do not see them.
    states: HashMap<String, String>,
    #[expect(dead_code, reason = "given back when the page is closed")]
    place: OwnedSemaphorePermit,
}

impl Viewer {
    async fn event(mut self) -> Option<(Result<Event, Infallible>, Self)> {
        loop {
            self.snapshots.changed().await.ok()?;
            let snapshot = self.snapshots.borrow_and_update().clone();
            let condition = self.app.store.condition().await;
            let parts = [
                ("status", Status::from(&*snapshot).render()),
                (
                    "warnings",
                    Warnings::new(&snapshot, condition.warning()).render(),
                ),
                ("services", Services::from(&*snapshot).render()),
                ("machine", Machine::from(&*snapshot).render()),
                ("boot", Boot::from(&*snapshot).render()),
                ("announce", Ok(self.announcement(&snapshot))),
            ];
            let mut message = String::new();
            for (place, html) in parts {
                // A part that cannot be rendered stays as it is.
                let Ok(html) = html else { continue };
                let hash = hash(&html);
                if self.sent.get(place) != Some(&hash) {
                    // Writing to a string cannot fail.
                    let _ = write!(
                        message,
                        "<hx-partial hx-target=\"#{place}\" hx-swap=\"innerMorph\">{html}</hx-partial>"
                    );
                    self.sent.insert(place, hash);
                }
            }
            if !message.is_empty() {
                // An event's lines cannot hold carriage returns.
                return Some((Ok(Event::default().data(message.replace('\r', ""))), self));
            }
        }
    }

    /// The changes of state since the last time, as a sentence for screen readers.
    fn announcement(&mut self, snapshot: &Snapshot) -> String {
        let states: HashMap<String, String> = snapshot
            .services
            .iter()
            .map(|view| (view.status.name.clone(), view.status.state.clone()))
            .collect();
        let mut changes: Vec<String> = states
            .iter()
            .filter(|(name, state)| self.states.get(*name).is_some_and(|old| old != *state))
            // Names and states have letters and dashes only; PID 1 has checked them.
            .map(|(name, state)| format!("{name} is {state}."))
            .collect();
        changes.sort();
        self.states = states;
        // What was said stays, so that it is not cut off while being read.
        if !changes.is_empty() {
            self.announced = changes.join(" ");
        }
        self.announced.clone()
    }
}

fn hash(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}
