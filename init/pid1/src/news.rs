//! What happens to services and the box, for those who asked to be told: one bounded ring for all.
//!
//! A listener that falls behind by more than the ring holds is told so, and has missed what it
//! missed; nobody waits for it and nothing is kept for it.

use std::sync::Arc;

use kos_manifest::control::ReloadReport;
use tokio::sync::broadcast;

use crate::task::ServiceView;

/// Pieces of news that the ring holds. Every service of a full box may change its state twice
/// before a listener has its turn.
const RING: usize = 2048;

/// A piece of news.
#[derive(Debug)]
pub enum News {
    /// Something about a service that others see.
    Changed {
        /// Its name.
        name: String,
        /// Before.
        was: ServiceView,
        /// Now.
        now: ServiceView,
    },
    /// Other manifests are in force.
    Reloaded(ReloadReport),
    /// The box has begun to go down.
    GoingDown {
        /// `reboot`, `power-off` or `factory-reset`.
        end: &'static str,
        /// Why, as a sentence.
        reason: String,
    },
}

/// Where news is told. Cloning gives another handle to the same ring.
#[derive(Clone)]
pub struct Newsroom(broadcast::Sender<Arc<News>>);

impl Default for Newsroom {
    fn default() -> Self {
        Newsroom(broadcast::Sender::new(RING))
    }
}

impl Newsroom {
    /// Tells those who listen; makes nothing when nobody does.
    pub fn tell(&self, news: impl FnOnce() -> News) {
        if self.0.receiver_count() > 0 {
            // The last listener may have gone since.
            let _ = self.0.send(Arc::new(news()));
        }
    }

    /// Listens from now on.
    pub fn listen(&self) -> broadcast::Receiver<Arc<News>> {
        self.0.subscribe()
    }
}
