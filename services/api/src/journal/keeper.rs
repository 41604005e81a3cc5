//! The keeper: the only one that writes the log.
//!
//! A disk that is slow makes the collector wait, and PID 1's rings hold what comes meanwhile. A
//! disk that takes nothing makes the keeper hold the newest lines in memory, count those that it
//! can hold no longer, and write both as soon as the disk takes them.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::mpsc;

use super::record::{Cause, Gap, Record};
use super::segment::Place;
use super::segments::{BOUNDS, Bounds, Segments};
use super::shelf::{RECENT_BYTES, Shelf};
use super::sync::Syncs;

/// Time between two tries to write to a disk that takes nothing.
const RETRY: Duration = Duration::from_secs(10);

/// What is kept where nothing outlives the box: files in memory are memory.
const IN_MEMORY: Bounds = Bounds {
    bytes: 8 * 1024 * 1024,
    age: BOUNDS.age,
};

/// Files given up at once for a batch on a full disk.
const GIVEN_UP: usize = 4;

/// What the kernel calls the file system of memory (`statfs`, TMPFS_MAGIC).
const TMPFS: u64 = 0x0102_1994;

/// Writes the log.
pub struct Keeper {
    segments: Option<Segments>,
    shelf: Arc<Shelf>,
    syncs: Syncs,
    next: u64,
    failing: Option<Failing>,
}

/// A disk that takes nothing.
struct Failing {
    /// The first record in memory that is in no file.
    first: u64,
    retry: Instant,
    lost: BTreeMap<String, Lost>,
}

/// Lines of one service that are nowhere.
struct Lost {
    last: Arc<Record>,
    count: u64,
    after: Option<u64>,
}

/// Where to go on collecting.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resume {
    /// The boot of the places, as records have it.
    pub boot: String,
    /// Where each source was read to.
    pub places: BTreeMap<String, Place>,
}

impl Keeper {
    /// Opens the log in `directory`, or one in memory where that cannot be.
    pub fn open(directory: &Path, shelf: Arc<Shelf>) -> Self {
        let log = new_name();
        let in_memory = is_in_memory(directory);
        let bounds = if in_memory { IN_MEMORY } else { BOUNDS };
        let (segments, problem) = match Segments::open(directory, bounds, log.clone()) {
            Ok((segments, mended)) => {
                if mended.cut > 0 || mended.damaged > 0 {
                    tracing::warn!(
                        "the log was cut off in the middle of a line: {} bytes taken off, {} lines \
                         passed over",
                        mended.cut,
                        mended.damaged
                    );
                }
                let problem = "there is no disk: the log is lost when the box turns off";
                (Some(segments), in_memory.then(|| problem.to_owned()))
            }
            Err(error) => {
                let problem = format!(
                    "the log is in memory, and lost with the next restart: {}: {error}",
                    directory.display()
                );
                tracing::error!("{problem}");
                (None, Some(problem))
            }
        };
        shelf.publish(|content| {
            content.log = segments
                .as_ref()
                .map_or(log, |segments| segments.log().to_owned());
            let condition = &mut content.condition;
            condition.is_on_disk = segments.is_some() && !in_memory;
            condition.problem = problem;
            condition.max_bytes = segments
                .as_ref()
                .map_or(RECENT_BYTES as u64, |segments| segments.bounds().bytes);
            condition.max_age_days = BOUNDS.age.as_secs() / 86_400;
        });
        let mut keeper = Keeper {
            next: segments.as_ref().map_or(1, Segments::next),
            segments,
            shelf,
            syncs: Syncs::default(),
            failing: None,
        };
        keeper.publish(Vec::new());
        keeper
    }

    /// Where the collector goes on.
    pub fn resume(&self) -> Resume {
        self.segments
            .as_ref()
            .map_or_else(Resume::default, |segments| {
                let (boot, places) = segments.places();
                Resume {
                    boot: boot.to_owned(),
                    places: places.clone(),
                }
            })
    }

    /// Keeps until there is nobody left who collects, then syncs.
    pub async fn run(mut self, mut batches: mpsc::Receiver<Vec<Record>>) {
        loop {
            let due = self.due();
            let tick = async {
                match due {
                    Some(due) => tokio::time::sleep_until(due.into()).await,
                    None => std::future::pending().await,
                }
            };
            let batch = tokio::select! {
                batch = batches.recv() => match batch {
                    Some(batch) => Some(batch),
                    None => break,
                },
                () = tick => None,
            };
            let worked = tokio::task::spawn_blocking(move || {
                match batch {
                    Some(batch) => self.take(batch),
                    None => self.tick(Instant::now()),
                }
                self
            });
            match worked.await {
                Ok(keeper) => self = keeper,
                Err(error) => {
                    tracing::error!("nothing is kept any more: {error}");
                    return;
                }
            }
        }
        let finished = tokio::task::spawn_blocking(move || self.sync());
        // A panic was told by the runtime.
        let _ = finished.await;
    }

    /// When [`Keeper::tick`] is wanted.
    fn due(&self) -> Option<Instant> {
        let retry = self.failing.as_ref().map(|failing| failing.retry);
        retry.into_iter().chain(self.syncs.due()).min()
    }

    /// Writes a batch, then shows it to readers.
    fn take(&mut self, batch: Vec<Record>) {
        let records: Vec<Arc<Record>> = (self.next..)
            .zip(batch)
            .map(|(seq, record)| Arc::new(Record { seq, ..record }))
            .collect();
        let Some(first) = records.first().map(|record| record.seq) else {
            return;
        };
        self.next = first + records.len() as u64;
        if self.failing.is_none()
            && let Err(error) = self.write(&records)
        {
            self.fail(first, &error);
        }
        let now = Instant::now();
        if self.segments.is_some() && self.failing.is_none() {
            for record in &records {
                self.syncs.written(record.level, now);
            }
        }
        self.publish(records);
    }

    /// Syncs, or tries again, whatever is due.
    fn tick(&mut self, now: Instant) {
        if self
            .failing
            .as_ref()
            .is_some_and(|failing| failing.retry <= now)
        {
            self.catch_up(now);
        }
        if self.syncs.due().is_some_and(|due| due <= now) {
            self.sync();
        }
    }

    fn sync(&mut self) {
        if let Some(segments) = &mut self.segments
            && let Err(error) = segments.sync()
        {
            tracing::error!("the log may not outlive a cut of power: cannot sync it: {error}");
        }
        self.syncs.synced(Instant::now());
    }

    /// Writes; on a full disk the oldest files make room.
    fn write(&mut self, records: &[Arc<Record>]) -> io::Result<()> {
        let Some(segments) = &mut self.segments else {
            return Ok(());
        };
        let mut given_up = 0;
        loop {
            let Err(error) = segments.append(records, now_unix_ms()) else {
                return Ok(());
            };
            let is_full = matches!(
                error.kind(),
                ErrorKind::StorageFull | ErrorKind::QuotaExceeded
            );
            if !is_full || given_up == GIVEN_UP || !segments.delete_oldest() {
                return Err(error);
            }
            given_up += 1;
        }
    }

    fn fail(&mut self, first: u64, error: &io::Error) {
        tracing::error!("the log is in memory for now: the disk takes none of it: {error}");
        self.failing = Some(Failing {
            first,
            retry: Instant::now() + RETRY,
            lost: BTreeMap::new(),
        });
        self.say_problem(Some(format!("the disk takes no log: {error}")));
    }

    fn catch_up(&mut self, now: Instant) {
        let Some(mut failing) = self.failing.take() else {
            return;
        };
        let mut owed: Vec<Arc<Record>> = failing.lost.values().map(Lost::record).collect();
        owed.sort_by_key(|record| record.seq);
        let held = {
            let content = self.shelf.look();
            let start = content
                .recent
                .partition_point(|record| record.seq < failing.first);
            content.recent.range(start..).cloned().collect::<Vec<_>>()
        };
        owed.extend(held);
        match self.write(&owed) {
            Ok(()) => {
                self.sync();
                self.say_problem(None);
                let lost: u64 = failing.lost.values().map(|lost| lost.count).sum();
                tracing::warn!("the disk takes the log again; {lost} lines were lost");
            }
            Err(_) => {
                failing.retry = now + RETRY;
                self.failing = Some(failing);
            }
        }
        self.publish(Vec::new());
    }

    fn say_problem(&self, problem: Option<String>) {
        self.shelf
            .publish(|content| content.condition.problem = problem);
    }

    /// Shows records to readers, and the files as they are.
    fn publish(&mut self, records: Vec<Arc<Record>>) {
        let segments = self.segments.as_ref();
        let fallen = self.shelf.publish(|content| {
            let fallen = content.put(records);
            match segments {
                Some(segments) => {
                    content.files = segments.files().to_vec();
                    content.floor = segments.floor();
                    content.condition.bytes = segments.bytes();
                }
                None => {
                    let last = fallen.last().map_or(0, |record| record.seq);
                    content.floor = content.floor.max(last);
                    content.condition.bytes = content.weight() as u64;
                }
            }
            fallen
        });
        if let Some(failing) = &mut self.failing {
            for record in fallen {
                failing.lose(record);
            }
        }
    }
}

impl Failing {
    fn lose(&mut self, record: Arc<Record>) {
        if record.seq < self.first {
            return;
        }
        match self.lost.get_mut(&record.service) {
            Some(lost) => {
                lost.count += 1;
                lost.last = record;
            }
            None => {
                let lost = Lost {
                    count: 1,
                    after: Some(record.time_unix_ms),
                    last: record.clone(),
                };
                self.lost.insert(record.service.clone(), lost);
            }
        }
    }
}

impl Lost {
    /// The word that they are missing, in the place of the last of them.
    fn record(&self) -> Arc<Record> {
        let gap = Gap {
            count: self.count,
            after_unix_ms: self.after,
            before_unix_ms: self.last.time_unix_ms,
            cause: Cause::Disk,
        };
        Arc::new(Record {
            level: 4,
            message: gap.told(),
            fields: None,
            gap: Some(gap),
            ..Record::clone(&self.last)
        })
    }
}

fn is_in_memory(directory: &Path) -> bool {
    rustix::fs::statfs(directory)
        .is_ok_and(|about| u64::try_from(about.f_type).is_ok_and(|kind| kind == TMPFS))
}

/// A name that no other log has.
fn new_name() -> String {
    let mut bytes = [0; 4];
    // Without random numbers the clock has to do.
    if getrandom::fill(&mut bytes).is_err() {
        let [.., a, b, c, d] = now_unix_ms().to_be_bytes();
        bytes = [a, b, c, d];
    }
    format!("{:08x}", u32::from_be_bytes(bytes))
}

fn now_unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    u64::try_from(since.unwrap_or_default().as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
#[path = "keeper_tests.rs"]
mod tests;
