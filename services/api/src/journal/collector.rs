//! The collector: reads all of PID 1's rings in one call that waits, and hands lines to the keeper.
//!
//! It goes on where the keeper's files end, so that a crash loses nothing that the rings still
//! hold. What they do not hold any more, and what a service says beyond its rate, becomes a record
//! that says how much is missing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kos_sdk::control::{LogBatch, LogCursor, LogEntry, LogPart};
use tokio::sync::{mpsc, watch};

use super::keeper::Resume;
use super::line::Line;
use super::rate::Rate;
use super::record::{Cause, Gap, Record};
use super::segment::Place;
use crate::app::stopped;
use crate::control::Control;

/// Batches that may wait for a slow disk; PID 1's rings hold what comes after them.
pub const QUEUE: usize = 2;

/// Lines of one call.
const MAX_LINES: u32 = 1000;

/// How long PID 1 holds a call while there is nothing new.
const WAIT_MS: u32 = 20_000;

/// The same while a gap waits to be told.
const SHORT_WAIT_MS: u32 = 2_000;

/// Between two calls, so that lines which come one by one are written together.
const GATHER: Duration = Duration::from_millis(100);

/// Time between two tries when PID 1 is away.
const RETRY: Duration = Duration::from_secs(1);

/// What a record takes beside its message, about.
const RECORD_BYTES: usize = 150;

/// Letters of the boot's id that records carry: enough that no two boots of a box share them.
const BOOT_LETTERS: usize = 12;

/// Reads the rings.
pub struct Collector {
    control: Arc<Control>,
    batches: mpsc::Sender<Vec<Record>>,
    resume: Resume,
    /// The kernel's id of the boot.
    boot: String,
    sources: BTreeMap<String, Source>,
}

/// One ring.
struct Source {
    next: u64,
    last_unix_ms: Option<u64>,
    rate: Rate,
    held: Option<Held>,
}

/// Lines that their service's rate kept from being written.
struct Held {
    count: u64,
    after_unix_ms: Option<u64>,
    last: Place,
}

impl Collector {
    /// Goes on where the files end.
    pub fn new(control: Arc<Control>, batches: mpsc::Sender<Vec<Record>>, resume: Resume) -> Self {
        Collector {
            control,
            batches,
            resume,
            boot: String::new(),
            sources: BTreeMap::new(),
        }
    }

    /// Collects until the service stops.
    pub async fn run(mut self, stopping: watch::Receiver<bool>) {
        tokio::select! {
            () = self.collect() => {}
            () = stopped(stopping) => {}
        }
    }

    async fn collect(&mut self) {
        let mut away = false;
        loop {
            let cursors: Vec<LogCursor> = self
                .sources
                .iter()
                .map(|(name, source)| LogCursor {
                    name: name.clone(),
                    cursor: source.next,
                })
                .collect();
            let is_held = self.sources.values().any(|source| source.held.is_some());
            let wait = match (self.boot.is_empty(), is_held) {
                (true, _) => 0,
                (false, true) => SHORT_WAIT_MS,
                (false, false) => WAIT_MS,
            };
            let read = self
                .control
                .read_logs(&self.boot, &cursors, MAX_LINES, wait)
                .await;
            match read {
                Ok(batch) if batch.boot != self.boot => {
                    // Its lines are from the beginning of each ring; where to begin is known now.
                    self.begin(batch.boot);
                    away = false;
                }
                Ok(batch) => {
                    let records = self.records(batch, Instant::now());
                    // An empty one only tells that there is time to write down gaps.
                    if !records.is_empty() && self.batches.send(records).await.is_err() {
                        return;
                    }
                    tokio::time::sleep(GATHER).await;
                    away = false;
                }
                Err(error) => {
                    if !away {
                        tracing::warn!("logs are not collected: {error}");
                    }
                    away = true;
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }

    fn begin(&mut self, boot: String) {
        self.sources.clear();
        if short(&boot) == self.resume.boot {
            let now = Instant::now();
            for (name, place) in std::mem::take(&mut self.resume.places) {
                let mut source = Source::new(now);
                source.next = place.position + 1;
                source.last_unix_ms = Some(place.time_unix_ms);
                self.sources.insert(name, source);
            }
        }
        self.boot = boot;
    }

    fn records(&mut self, batch: LogBatch, now: Instant) -> Vec<Record> {
        let boot = short(&batch.boot);
        let mut records = Vec::new();
        for (name, source) in &mut self.sources {
            // Silent since it was held: what is missing can be told.
            if batch.logs.iter().all(|part| part.name != *name)
                && let Some(held) = source.held.take()
            {
                records.push(held.record(name, &boot, None));
            }
        }
        for part in batch.logs {
            let source = self
                .sources
                .entry(part.name.clone())
                .or_insert_with(|| Source::new(now));
            source.take(part, &boot, now, &mut records);
        }
        // Each ring gives its lines in its own order; together they are in the order of time, and
        // those of one ring stay as they were.
        let mut latest = BTreeMap::new();
        let mut order: Vec<(u64, Record)> = records
            .into_iter()
            .map(|record| {
                let time = latest.entry(record.service.clone()).or_insert(0);
                *time = record.time_unix_ms.max(*time);
                (*time, record)
            })
            .collect();
        order.sort_by_key(|(time, _)| *time);
        order.into_iter().map(|(_, record)| record).collect()
    }
}

impl Source {
    fn new(now: Instant) -> Self {
        Source {
            next: 0,
            last_unix_ms: None,
            rate: Rate::new(now),
            held: None,
        }
    }

    fn take(&mut self, part: LogPart, boot: &str, now: Instant, records: &mut Vec<Record>) {
        if part.dropped > 0 {
            if let Some(held) = self.held.take() {
                records.push(held.record(&part.name, boot, None));
            }
            let first = part.entries.first();
            let place = Place {
                position: first
                    .map_or(part.next, |entry| entry.cursor)
                    .saturating_sub(1),
                time_unix_ms: first.map_or(0, |entry| entry.time_unix_ms),
            };
            let gap = Gap {
                count: part.dropped,
                after_unix_ms: self.last_unix_ms,
                before_unix_ms: place.time_unix_ms,
                cause: Cause::Ring,
            };
            records.push(missing(&part.name, boot, place, gap));
        }
        self.next = part.next;
        for entry in part.entries {
            self.line(entry, &part.name, boot, now, records);
        }
    }

    fn line(
        &mut self,
        entry: LogEntry,
        name: &str,
        boot: &str,
        now: Instant,
        records: &mut Vec<Record>,
    ) {
        let place = Place {
            position: entry.cursor,
            time_unix_ms: entry.time_unix_ms,
        };
        if !self.rate.take(entry.message.len() + RECORD_BYTES, now) {
            let after_unix_ms = self.last_unix_ms;
            let held = self.held.get_or_insert(Held {
                count: 0,
                after_unix_ms,
                last: place,
            });
            held.count += 1;
            held.last = place;
            return;
        }
        if let Some(held) = self.held.take() {
            records.push(held.record(name, boot, Some(entry.time_unix_ms)));
        }
        self.last_unix_ms = Some(entry.time_unix_ms);
        let line = Line::parse(entry.level.min(7), entry.message);
        records.push(Record {
            seq: 0,
            time_unix_ms: entry.time_unix_ms,
            boot: boot.to_owned(),
            service: name.to_owned(),
            position: entry.cursor,
            level: line.level,
            message: line.message,
            fields: line.fields,
            gap: None,
        });
    }
}

impl Held {
    fn record(&self, name: &str, boot: &str, before_unix_ms: Option<u64>) -> Record {
        let gap = Gap {
            count: self.count,
            after_unix_ms: self.after_unix_ms,
            before_unix_ms: before_unix_ms.unwrap_or(self.last.time_unix_ms),
            cause: Cause::Rate,
        };
        missing(name, boot, self.last, gap)
    }
}

fn missing(name: &str, boot: &str, place: Place, gap: Gap) -> Record {
    Record {
        seq: 0,
        time_unix_ms: place.time_unix_ms,
        boot: boot.to_owned(),
        service: name.to_owned(),
        position: place.position,
        level: 4,
        message: gap.told(),
        fields: None,
        gap: Some(gap),
    }
}

/// A boot's id as records carry it.
fn short(boot: &str) -> String {
    boot.chars()
        .filter(char::is_ascii_hexdigit)
        .take(BOOT_LETTERS)
        .collect()
}

#[cfg(test)]
#[path = "collector_tests.rs"]
mod tests;
