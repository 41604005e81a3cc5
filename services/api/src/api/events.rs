//! `/api/v1/events`: every change of the services, as server-sent events.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::{Stream, StreamExt, stream};

use super::services::ServiceList;
use crate::app::{App, stopped};
use crate::error::ApiError;

/// A comment this often keeps middle boxes from closing a quiet stream, and shows a dead one.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// `GET /api/v1/events`: an event `services` with the whole list at once and at each change, or an
/// event `error` when PID 1 does not answer.
pub async fn follow(
    State(app): State<Arc<App>>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>> + use<>>, ApiError> {
    let place = app.stream_place()?;
    app.live.fresh().await;
    let mut snapshots = app.live.watch();
    // The first one is sent at once.
    snapshots.mark_changed();
    let events = stream::unfold(
        (snapshots, String::new(), place),
        async |(mut snapshots, mut sent, place)| {
            loop {
                snapshots.changed().await.ok()?;
                let snapshot = snapshots.borrow_and_update().clone();
                let (name, data) = match &snapshot.error {
                    None => (
                        "services",
                        serde_json::to_string(&ServiceList::from(&*snapshot)),
                    ),
                    Some(error) => (
                        "error",
                        Ok(serde_json::json!({ "error": error.to_string() }).to_string()),
                    ),
                };
                // Serialising a list of plain structures cannot fail.
                let data = data.ok()?;
                if data != sent {
                    sent.clone_from(&data);
                    let event = Event::default().event(name).data(data);
                    return Some((Ok(event), (snapshots, sent, place)));
                }
            }
        },
    );
    Ok(sse(&app, events))
}

/// A stream that keeps alive, and ends when the service stops.
pub fn sse<S>(app: &App, events: S) -> Sse<impl Stream<Item = Result<Event, Infallible>> + use<S>>
where
    S: Stream<Item = Result<Event, Infallible>> + Send + 'static,
{
    let stopping = app.stopping.clone();
    Sse::new(events.take_until(Box::pin(stopped(stopping))))
        .keep_alive(KeepAlive::new().interval(KEEP_ALIVE))
}
