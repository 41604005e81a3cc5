//! The boot records: every boot leaves one, every shutdown completes it, and the next boot finds
//! out about those that could not be completed.
//!
//! A record is kept at two places, because each alone fails: below `/data/boots`, durable but
//! slow and perhaps not there; and as marks in memory that a reset leaves alone, always there but
//! lost with the power. `cause.rs` decides from both.
//!
//! A disk that is full, read-only or missing costs the durable part, and is told once.

mod cause;
mod last_words;
mod marks;
mod store;

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use kos_manifest::control::{BootRecord, KilledService, PhaseRecord};
use kos_sys::clock::boottime_milliseconds;

use crate::console::{Console, lock};
pub use cause::Reason;
use cause::{Evidence, decide};
pub use last_words::LastWords;
use marks::Mark;
use store::Store;

/// Where the kernel's random name for this boot is.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Services that are named as killed; a box that kills more has another problem to tell.
const MAX_KILLED: usize = 64;

/// Longest text that a record takes from elsewhere.
const MAX_TEXT: usize = 512;

/// The records of this box. Cloning gives another handle to the same ones.
#[derive(Clone)]
pub struct Records {
    inner: Arc<Mutex<Inner>>,
    console: Console,
}

#[derive(Default)]
struct Inner {
    current: BootRecord,
    /// Older ones, newest first.
    past: Vec<BootRecord>,
    marks: Option<File>,
    words: LastWords,
    watchdog_fired: bool,
    directory: Option<PathBuf>,
    store: Option<Store>,
    trouble_told: bool,
}

impl Records {
    /// Nothing is known yet.
    pub fn new(console: &Console) -> Self {
        Records {
            inner: Arc::default(),
            console: console.clone(),
        }
    }

    /// Takes what the last boot left, and begins this one's record. The kernel's file systems are
    /// mounted by now.
    pub fn begin(&self, words: LastWords, pmsg: Option<File>) {
        let mut inner = lock(&self.inner);
        let read = |path: &str| {
            let text = kos_sys::kernel_file::read(Path::new(path)).unwrap_or_default();
            text.trim().chars().take(MAX_TEXT).collect::<String>()
        };
        inner.current.boot_id = read(BOOT_ID);
        inner.current.kernel = read("/proc/sys/kernel/osrelease");
        inner.words = words;
        inner.marks = pmsg;
    }

    /// Whether the watchdog was what reset the box.
    pub fn watchdog_fired(&self, fired: bool) {
        lock(&self.inner).watchdog_fired = fired;
    }

    /// Says where the durable part goes. A `/data` in memory takes it as well.
    pub fn keep_below(&self, data: &Path) {
        lock(&self.inner).directory = Some(data.join("boots"));
    }

    /// The boot is over, services may start.
    pub fn booted(&self, version: &str, phases: &[PhaseRecord]) {
        {
            let mut inner = lock(&self.inner);
            version.clone_into(&mut inner.current.version);
            inner.current.phases = phases.to_vec();
        }
        self.alive();
    }

    /// The first start of all services has settled.
    pub fn ready(&self, at_ms: u64) {
        lock(&self.inner).current.ready_ms = at_ms;
        self.alive();
    }

    /// Leaves a mark in memory that the box runs.
    pub fn alive(&self) {
        self.mark(|record| Mark::Alive.line(record, boottime_milliseconds()));
    }

    /// The box goes down, and why. The first reason stays.
    pub fn going_down(&self, reason: &Reason) {
        {
            let mut inner = lock(&self.inner);
            let down = &mut inner.current.down;
            if down.cause.is_empty() {
                down.cause = reason.cause.to_string();
                down.by = reason.by.chars().take(MAX_TEXT).collect();
                down.detail = reason.detail.chars().take(MAX_TEXT).collect();
                down.at_ms = boottime_milliseconds();
            }
        }
        self.mark(|record| Mark::Down.line(record, boottime_milliseconds()));
    }

    /// What was killed, and the phases of the way down so far.
    pub fn on_the_way_down(&self, killed: Vec<KilledService>, phases: &[PhaseRecord]) {
        let mut inner = lock(&self.inner);
        inner.current.down.killed = killed;
        inner.current.down.killed.truncate(MAX_KILLED);
        inner.current.down.phases = phases.to_vec();
    }

    /// Everything is stopped: what follows cannot be written to the disk any more.
    pub fn complete(&self) {
        lock(&self.inner).current.down.complete = true;
    }

    /// The very last word, in memory: whether it was kept.
    pub fn last_word(&self) {
        self.mark(|record| Mark::Complete.line(record, boottime_milliseconds()));
    }

    /// The records, newest first; the first is this boot's.
    pub fn list(&self) -> Vec<BootRecord> {
        let inner = lock(&self.inner);
        let mut list = vec![brought_up_to_date(&inner.current)];
        list.extend(inner.past.iter().cloned());
        list
    }

    /// The kernel's random name for this boot.
    pub fn boot_id(&self) -> String {
        lock(&self.inner).current.boot_id.clone()
    }

    /// Writes this boot's record down; the first time, finds out how the last boot ended, writes
    /// that down, and only then frees what it was kept in. Blocks on the disk.
    pub fn save(&self) {
        if let Err(error) = self.try_save() {
            let mut inner = lock(&self.inner);
            let told = std::mem::replace(&mut inner.trouble_told, true);
            drop(inner);
            if !told {
                let why = format!("the record of this boot is not written down: {error:#}");
                self.console.say(4, &why);
            }
        }
    }

    fn try_save(&self) -> Result<()> {
        let first = self.look_back()?;
        // Not under the lock: the disk may take its time, and PID 1 answers in it.
        let (store, current) = {
            let inner = lock(&self.inner);
            let store = inner.store.clone().context("there is no place for it")?;
            (store, brought_up_to_date(&inner.current))
        };
        store.write(&current)?;
        if first {
            store.remove_old()?;
        }
        Ok(())
    }

    /// Finds out how the last boot ended, once. True the first time.
    fn look_back(&self) -> Result<bool> {
        let (directory, words, fired) = {
            let mut inner = lock(&self.inner);
            if inner.store.is_some() {
                return Ok(false);
            }
            let directory = inner.directory.clone();
            let directory = directory.context("/data is not there yet")?;
            (
                directory,
                std::mem::take(&mut inner.words),
                inner.watchdog_fired,
            )
        };
        let (store, mut past) = Store::open(&directory);
        let ended = end_last(&mut past, &words, fired);
        let written = match &ended {
            Some(record) => {
                let cause = &record.down.cause;
                let detail = &record.down.detail;
                self.console
                    .say(5, &format!("last boot ended by {cause}: {detail}"));
                store.write(record)
            }
            None => Ok(()),
        };
        let freed = words.free();
        let mut inner = lock(&self.inner);
        inner.past = past;
        inner.store = Some(store.next());
        drop(inner);
        freed?;
        written.map(|()| true)
    }

    fn mark(&self, line: impl FnOnce(&BootRecord) -> String) {
        let mut inner = lock(&self.inner);
        let text = line(&inner.current);
        if let Some(marks) = &mut inner.marks {
            // Memory takes it, or nothing does; there is nobody to tell.
            let _ = marks.write_all(text.as_bytes());
        }
    }
}

/// Completes the record of the last boot, which is the newest of `past` or is made from the marks;
/// gives it back when there was anything to add.
fn end_last(past: &mut Vec<BootRecord>, words: &LastWords, fired: bool) -> Option<BootRecord> {
    let marked = marks::read(&words.marks);
    let known = past.first().is_some_and(|newest| match &marked {
        Some(marked) => newest.boot_id == marked.boot_id,
        None => true,
    });
    if !known {
        past.insert(0, marked.clone()?);
    }
    let panic = Some(words.panic.as_str()).filter(|panic| !panic.is_empty());
    // What could not be freed after it was written down is not another panic.
    let panic = panic.filter(|panic| past.iter().all(|boot| boot.down.panic != **panic));
    let record = past.first_mut()?;
    if known && record.down.complete && panic.is_none() {
        return None;
    }
    let said = match &marked {
        Some(marked) if !marked.down.cause.is_empty() => marked.down.clone(),
        _ => record.down.clone(),
    };
    let complete = said.complete || record.down.complete;
    let reason = decide(&Evidence {
        panic,
        said: Reason::of(&said),
        complete,
        watchdog: fired,
    });
    if let Some(marked) = &marked {
        record.seen_ms = record.seen_ms.max(marked.seen_ms);
        record.ready_ms = record.ready_ms.max(marked.ready_ms);
    }
    let down = &mut record.down;
    down.cause = reason.cause.to_string();
    down.by = reason.by;
    down.detail = reason.detail;
    down.at_ms = down.at_ms.max(said.at_ms);
    down.complete = true;
    if let Some(panic) = panic {
        panic.clone_into(&mut down.panic);
    }
    words.console.clone_into(&mut down.console);
    Some(record.clone())
}

/// With the times that go on while it runs. The clock is often set only after the boot, so its
/// start is reckoned back from now.
fn brought_up_to_date(record: &BootRecord) -> BootRecord {
    let up = boottime_milliseconds();
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| {
            u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
        });
    BootRecord {
        started_unix_ms: now.saturating_sub(up),
        seen_ms: up,
        ..record.clone()
    }
}

#[cfg(test)]
mod tests;
