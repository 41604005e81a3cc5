//! What readers see: the files, the newest records in memory, and how the log is.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use tokio::sync::watch;

use super::record::Record;
use super::segments::Segment;

/// Memory for the newest records: what followers read, and what outlasts a disk that takes nothing.
pub const RECENT_BYTES: usize = 4 * 1024 * 1024;

/// How the log is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Condition {
    /// Whether it outlives the box being turned off.
    pub is_on_disk: bool,
    /// What is wrong, as a sentence; absent when nothing is.
    pub problem: Option<String>,
    /// Bytes that it takes.
    pub bytes: u64,
    /// Bytes that it may take.
    pub max_bytes: u64,
    /// Days after which lines are deleted.
    pub max_age_days: u64,
}

/// The log, for readers.
#[derive(Debug)]
pub struct Shelf {
    content: Mutex<Content>,
    published: watch::Sender<u64>,
}

/// What is on the shelf.
#[derive(Debug, Default)]
pub struct Content {
    /// The name of this log.
    pub log: String,
    /// The highest record that was there and is no more.
    pub floor: u64,
    /// The files, oldest first.
    pub files: Vec<Segment>,
    /// The newest records, whether in files or not.
    pub recent: VecDeque<Arc<Record>>,
    /// How the log is.
    pub condition: Condition,
    weight: usize,
}

impl Default for Shelf {
    fn default() -> Self {
        Shelf {
            content: Mutex::default(),
            published: watch::Sender::new(0),
        }
    }
}

impl Shelf {
    /// Looks at it. Nothing slow is done while this is held.
    pub fn look(&self) -> MutexGuard<'_, Content> {
        // A holder that panicked left lists that are whole.
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The number of the newest record, and every newer one's.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.published.subscribe()
    }

    /// Changes it and tells those who follow.
    pub fn publish<T>(&self, change: impl FnOnce(&mut Content) -> T) -> T {
        let mut content = self.look();
        let result = change(&mut content);
        let last = content.recent.back().map_or(0, |record| record.seq);
        drop(content);
        self.published.send_if_modified(|seen| {
            let is_new = last > *seen;
            *seen = last.max(*seen);
            is_new
        });
        result
    }
}

impl Content {
    /// What the records in memory take, about.
    pub fn weight(&self) -> usize {
        self.weight
    }

    /// Puts records behind the newest; gives those that fell out of memory for them.
    pub fn put(&mut self, records: Vec<Arc<Record>>) -> Vec<Arc<Record>> {
        for record in records {
            self.weight += record.weight();
            self.recent.push_back(record);
        }
        let mut fallen = Vec::new();
        while self.weight > RECENT_BYTES
            && let Some(record) = self.recent.pop_front()
        {
            self.weight -= record.weight();
            fallen.push(record);
        }
        fallen
    }
}
