//! Pages of the kept log, in both directions, from files and memory.

use std::fs::File;
use std::io::Read;
use std::sync::Arc;
use std::time::Instant;

use super::filter::Filter;
use super::record::Record;
use super::segment::{Line, Range};
use super::segments::Segment;
use super::shelf::Shelf;

/// A piece of the log.
#[derive(Debug, Default, PartialEq)]
pub struct Page {
    /// Oldest first.
    pub records: Vec<Arc<Record>>,
    /// What is older lies before this number; 0 when there is nothing.
    pub older: u64,
    /// What is newer lies behind this number.
    pub newer: u64,
    /// Whether there is more in the direction that was asked for.
    pub more: bool,
    /// Whether records behind the asked place have been deleted.
    pub lost: bool,
}

/// How much of an answer, and until when.
#[derive(Debug, Clone, Copy)]
pub struct Limit {
    /// Records at most.
    pub records: usize,
    /// When to stop looking and say how far that was.
    pub deadline: Instant,
}

/// Whether [`newer`] needs no files behind `after`, and so is done in a moment.
pub fn is_in_memory(shelf: &Shelf, after: u64) -> bool {
    let content = shelf.look();
    let first = content.recent.front();
    first.is_some_and(|record| record.seq <= after)
}

/// The next records behind `after`.
///
/// Reads files: not for the thread that serves.
pub fn newer(shelf: &Shelf, filter: &Filter, after: u64, limit: Limit) -> Page {
    let (files, recent, floor) = snapshot(shelf, after);
    let memory = recent.first().map_or(u64::MAX, |record| record.seq);
    let mut page = Page {
        newer: after,
        lost: after != 0 && after < floor,
        ..Page::default()
    };
    let wanted: Vec<&Segment> = files
        .iter()
        .filter(|file| {
            let reaches = |range: Range| {
                range.last > after
                    && range.first < memory
                    && filter.reaches(range.from_unix_ms, range.until_unix_ms)
            };
            file.range.is_some_and(reaches)
        })
        .collect();
    for file in wanted {
        for line in content(file).split(|byte| *byte == b'\n') {
            let Some(Line::Record(record)) = Line::parse(line) else {
                continue;
            };
            if record.seq <= page.newer || record.seq >= memory {
                continue;
            }
            if page.take_newer(Arc::new(record), filter, limit) {
                return page.oriented(after);
            }
        }
        if Instant::now() > limit.deadline {
            page.more = true;
            return page.oriented(after);
        }
    }
    for record in recent {
        if record.seq > page.newer && page.take_newer(record, filter, limit) {
            break;
        }
    }
    page.oriented(after)
}

/// The last records before `before`.
///
/// Reads files: not for the thread that serves.
pub fn older(shelf: &Shelf, filter: &Filter, before: u64, limit: Limit) -> Page {
    let (files, recent, _) = snapshot(shelf, 0);
    let memory = recent.first().map_or(u64::MAX, |record| record.seq);
    let last = files.iter().filter_map(|file| Some(file.range?.last));
    let newest = recent.last().map(|record| record.seq).or(last.max());
    let mut page = Page {
        older: before,
        newer: newest.unwrap_or(0).min(before.saturating_sub(1)),
        ..Page::default()
    };
    for record in recent.into_iter().rev() {
        if record.seq < before && page.take_older(record, filter, limit) {
            return page.turned();
        }
    }
    for file in files.iter().rev() {
        let Some(range) = file.range.filter(|range| range.first < before.min(memory)) else {
            continue;
        };
        if Instant::now() > limit.deadline {
            page.more = true;
            return page.turned();
        }
        if !filter.reaches(range.from_unix_ms, range.until_unix_ms) {
            page.older = page.older.min(range.first);
            continue;
        }
        for line in content(file).rsplit(|byte| *byte == b'\n') {
            let Some(Line::Record(record)) = Line::parse(line) else {
                continue;
            };
            if record.seq < page.older.min(memory)
                && page.take_older(Arc::new(record), filter, limit)
            {
                return page.turned();
            }
        }
    }
    page.older = 0;
    page.turned()
}

impl Page {
    /// Looks at the next record; whether the page is full before it.
    fn take_newer(&mut self, record: Arc<Record>, filter: &Filter, limit: Limit) -> bool {
        if filter.wants(&record) {
            if self.records.len() >= limit.records {
                self.more = true;
                return true;
            }
            self.newer = record.seq;
            self.records.push(record);
        } else {
            self.newer = record.seq;
        }
        false
    }

    fn take_older(&mut self, record: Arc<Record>, filter: &Filter, limit: Limit) -> bool {
        if filter.wants(&record) {
            if self.records.len() >= limit.records {
                self.more = true;
                return true;
            }
            self.older = record.seq;
            self.records.push(record);
        } else {
            self.older = record.seq;
        }
        false
    }

    fn turned(mut self) -> Self {
        self.records.reverse();
        self
    }

    fn oriented(mut self, after: u64) -> Self {
        let first = self.records.first().map(|record| record.seq);
        self.older = first.unwrap_or(after.saturating_add(1));
        self
    }
}

/// The files, what is in memory behind `after`, and what is gone.
fn snapshot(shelf: &Shelf, after: u64) -> (Vec<Segment>, Vec<Arc<Record>>, u64) {
    let content = shelf.look();
    let first = content.recent.front().map_or(u64::MAX, |record| record.seq);
    let start = content.recent.partition_point(|record| record.seq <= after);
    // One more, which says where the memory begins.
    let start = start.saturating_sub(1);
    let recent = content.recent.range(start..).cloned().collect();
    // A follower that reads on in memory needs no files.
    let files = if after >= first {
        Vec::new()
    } else {
        content.files.clone()
    };
    (files, recent, content.floor)
}

/// What is whole of a file; nothing when it has just been deleted.
fn content(file: &Segment) -> Vec<u8> {
    let mut bytes = Vec::new();
    let read =
        File::open(&file.path).and_then(|open| open.take(file.bytes).read_to_end(&mut bytes));
    match read {
        Ok(_) => bytes,
        Err(_) => Vec::new(),
    }
}
