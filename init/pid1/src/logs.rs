//! All logs of the box: one ring per service, one for the kernel, one for PID 1.
//!
//! Nothing here grows without bound. A ring has its bytes and takes none before it is written to;
//! the services' rings have a bound together as well, and the one that holds most gives way. A
//! service that is gone keeps its lines for those who read them later, one of a bounded number.

pub mod intake;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use kos_manifest::control::{LogBatch, LogCursor, LogPage, LogPart};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::console::lock;
use crate::ring::{Most, Ring};

/// Ring of one service: 256 KiB hold some two thousand lines, the last minutes of a busy one.
const SERVICE_RING_BYTES: usize = 256 * 1024;

/// All services' rings together. PID 1 is to stay below 8 MB with a hundred services; a hundred
/// that chatter have 20 KiB each, and a thousand quiet ones fit.
const SERVICE_BYTES: usize = 2 * 1024 * 1024;

/// Ring of the kernel: a whole boot's messages fit.
const KERNEL_RING_BYTES: usize = 256 * 1024;

/// 256 KiB: some three thousand lines of PID 1 about itself, weeks of a calm box.
const INIT_RING_BYTES: usize = 256 * 1024;

/// Logs kept of services that are gone.
const MAX_GONE: usize = 64;

/// The kernel's log by name.
pub const KERNEL: &str = "kernel";

/// PID 1's own log by name.
pub const INIT: &str = "init";

/// What one answer may hold. D-Bus messages are built in memory: some 300 KB for a moment, for
/// each of those who ask.
pub const ANSWER: Most = Most {
    lines: 1000,
    bytes: 256 * 1024,
};

/// Least lines that a log gets of an answer about all, so that each gets on whatever the others
/// say.
const LEAST_SHARE: usize = 8;

/// The logs. Cloning gives another handle to the same ones.
#[derive(Clone)]
pub struct Logs {
    table: Arc<Mutex<Table>>,
    grown: watch::Sender<()>,
}

struct Table {
    logs: BTreeMap<Arc<str>, Kept>,
    /// Bytes of the services' rings.
    bytes: usize,
    /// Where a new ring counts from: beyond all that a ring of its name may have had.
    start: u64,
}

struct Kept {
    ring: Ring,
    grown: watch::Sender<()>,
    /// Held by every [`Log`]; one that only the table holds is of a service that is gone.
    held: Arc<()>,
}

/// One log that can be written, read and waited on. Cloning gives another handle to the same one.
#[derive(Clone)]
pub struct Log {
    logs: Logs,
    name: Arc<str>,
    grown: watch::Sender<()>,
    #[expect(dead_code, reason = "says that the log is in use")]
    held: Arc<()>,
}

impl Default for Logs {
    fn default() -> Self {
        let table = Table {
            logs: BTreeMap::new(),
            bytes: 0,
            start: 1,
        };
        Logs {
            table: Arc::new(Mutex::new(table)),
            grown: watch::Sender::new(()),
        }
    }
}

impl Logs {
    /// The log of that name: a service, [`INIT`] or [`KERNEL`]. A service that comes back goes on
    /// in its old one.
    pub fn open(&self, name: &str) -> Log {
        let mut table = lock(&self.table);
        if !table.logs.contains_key(name) {
            table.forget_some_that_are_gone();
            let capacity = match name {
                KERNEL => KERNEL_RING_BYTES,
                INIT => INIT_RING_BYTES,
                _ => SERVICE_RING_BYTES,
            };
            let kept = Kept {
                ring: Ring::new(capacity, table.start),
                grown: watch::Sender::new(()),
                held: Arc::new(()),
            };
            table.logs.insert(name.into(), kept);
        }
        let (grown, held) = table.logs.get(name).map_or_else(
            || (watch::Sender::new(()), Arc::new(())),
            |kept| (kept.grown.clone(), kept.held.clone()),
        );
        Log {
            logs: self.clone(),
            name: name.into(),
            grown,
            held,
        }
    }

    /// What all logs hold from `cursors` on; a log that is not named there is read from its
    /// beginning. When none has anything, waits for up to `wait`.
    ///
    /// `boot` is the boot that the cursors are of; with another one's, all begin anew.
    pub async fn read(
        &self,
        boot: &str,
        cursors: &[LogCursor],
        lines: usize,
        wait: Duration,
    ) -> LogBatch {
        let known: BTreeMap<&str, u64> = if boot == boot_id() {
            cursors
                .iter()
                .map(|cursor| (cursor.name.as_str(), cursor.cursor))
                .collect()
        } else {
            BTreeMap::new()
        };
        let until = Instant::now() + wait;
        let mut grown = self.grown.subscribe();
        loop {
            let logs = lock(&self.table).parts(&known, lines.min(ANSWER.lines));
            let is_over = Instant::now() >= until;
            if !logs.is_empty() || is_over {
                return LogBatch {
                    boot: boot_id().to_owned(),
                    logs,
                };
            }
            // Over at `until`, or when the logs are, which is never.
            let _ = tokio::time::timeout_at(until, grown.changed()).await;
        }
    }
}

impl Table {
    fn push(&mut self, name: &str, level: u8, message: &str) {
        let Some(kept) = self.logs.get_mut(name) else {
            return;
        };
        let before = kept.ring.bytes();
        kept.ring.push(now_unix_ms(), level, message);
        if is_service(name) {
            self.bytes = self.bytes + kept.ring.bytes() - before;
            self.keep_within(SERVICE_BYTES);
        }
    }

    /// Lets the ring that holds most give way until all are within `most` bytes.
    fn keep_within(&mut self, most: usize) {
        while self.bytes > most {
            let services = self.logs.iter_mut().filter(|(name, _)| is_service(name));
            let Some((_, largest)) = services.max_by_key(|(_, kept)| kept.ring.bytes()) else {
                return;
            };
            let before = largest.ring.bytes();
            largest.ring.give_up_oldest();
            let freed = before - largest.ring.bytes();
            if freed == 0 {
                return;
            }
            self.bytes -= freed;
        }
    }

    /// Makes room for another name when too many logs are of services that are gone.
    fn forget_some_that_are_gone(&mut self) {
        let gone: Vec<Arc<str>> = self
            .logs
            .iter()
            .filter(|(_, kept)| Arc::strong_count(&kept.held) == 1)
            .map(|(name, _)| name.clone())
            .collect();
        let surplus = (gone.len() + 1).saturating_sub(MAX_GONE);
        for name in gone.into_iter().take(surplus) {
            if let Some(kept) = self.logs.remove(&name) {
                self.bytes -= kept.ring.bytes();
                self.start = self.start.max(kept.ring.next());
            }
        }
    }

    /// What the logs hold from their cursors on. What one does not use of its share is the others'.
    fn parts(&self, cursors: &BTreeMap<&str, u64>, lines: usize) -> Vec<LogPart> {
        let mut fresh: Vec<(&str, &Ring, u64)> = self
            .logs
            .iter()
            .map(|(name, kept)| {
                let cursor = cursors.get(name.as_ref()).copied().unwrap_or(0);
                (name.as_ref(), &kept.ring, cursor)
            })
            .filter(|(_, ring, cursor)| ring.has(*cursor))
            .collect();
        // Those with little to say first: what they leave is for those with much.
        fresh.sort_by_key(|(_, ring, cursor)| ring.next() - (*cursor).min(ring.next()));
        let mut left = Most { lines, ..ANSWER };
        let mut parts = Vec::with_capacity(fresh.len().min(lines));
        let mut waiting = fresh.len();
        for (name, ring, cursor) in fresh {
            if left.lines == 0 || left.bytes == 0 {
                break;
            }
            let share = Most {
                lines: (left.lines / waiting).max(LEAST_SHARE).min(left.lines),
                bytes: left.bytes / waiting,
            };
            let page = ring.page(cursor, share);
            let bytes: usize = page.entries.iter().map(|entry| entry.message.len()).sum();
            left.lines = left.lines.saturating_sub(page.entries.len());
            left.bytes = left.bytes.saturating_sub(bytes);
            waiting -= 1;
            parts.push(LogPart {
                name: name.to_owned(),
                entries: page.entries,
                next: page.next,
                dropped: page.dropped,
            });
        }
        parts
    }
}

impl Log {
    /// Adds a line.
    pub fn push(&self, level: u8, message: &str) {
        lock(&self.logs.table).push(&self.name, level, message);
        self.grown.send_replace(());
        self.logs.grown.send_replace(());
    }

    /// All lines that the ring holds, within the bound of one answer.
    pub fn lines(&self) -> Vec<String> {
        self.page(0, ANSWER.lines)
            .entries
            .into_iter()
            .map(|entry| entry.message)
            .collect()
    }

    /// Lines from `cursor` on; when there are none yet, waits for up to `wait`.
    pub async fn read(&self, cursor: u64, max: usize, wait: Duration) -> LogPage {
        let mut grown = self.grown.subscribe();
        if !wait.is_zero() && !self.has(cursor) {
            let _ = tokio::time::timeout(wait, grown.changed()).await;
        }
        self.page(cursor, max)
    }

    fn has(&self, cursor: u64) -> bool {
        let table = lock(&self.logs.table);
        let kept = table.logs.get(&self.name);
        kept.is_some_and(|kept| kept.ring.has(cursor))
    }

    fn page(&self, cursor: u64, max: usize) -> LogPage {
        let most = Most {
            lines: max.min(ANSWER.lines),
            ..ANSWER
        };
        let table = lock(&self.logs.table);
        // A log that is in use is in the table.
        table.logs.get(&self.name).map_or_else(
            || Ring::new(0, cursor).page(cursor, most),
            |kept| kept.ring.page(cursor, most),
        )
    }
}

/// The kernel's name for this boot; empty when it cannot be read, which is the same for all.
pub fn boot_id() -> &'static str {
    static BOOT: OnceLock<String> = OnceLock::new();
    if let Some(known) = BOOT.get() {
        return known;
    }
    // Not kept when it fails: `/proc` may come later.
    match std::fs::read_to_string("/proc/sys/kernel/random/boot_id") {
        Ok(text) => BOOT.get_or_init(|| text.trim().to_owned()),
        Err(_) => "",
    }
}

fn is_service(name: &str) -> bool {
    name != KERNEL && name != INIT
}

fn now_unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    u64::try_from(since.unwrap_or_default().as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
