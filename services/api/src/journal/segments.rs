//! The files of the kept log: appended to, bounded by bytes and by age, mended when they are opened.
//!
//! Only whole files are deleted, the oldest first. Files are written by one owner; readers open
//! them by the list that it publishes, up to the length that it says.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::record::Record;
use super::segment::{End, Header, Line, Place, Range, Scan, VERSION};

/// How much is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Bytes of all files.
    pub bytes: u64,
    /// Age of the newest line of a file that is deleted.
    pub age: Duration,
}

/// 64 MiB are some 300,000 lines; 30 days are what a question about last month needs.
pub const BOUNDS: Bounds = Bounds {
    bytes: 64 * 1024 * 1024,
    age: Duration::from_secs(30 * 86_400),
};

/// A sixteenth of the bound: what deletion takes at once, and what is read to start again.
const FILES: u64 = 16;

/// Numbers that are left out when the log is opened: a reader may have seen lines that a cut of
/// power took, and the lines that come now must be new to it.
const STRIDE: u64 = 1_000_000;

/// What is read of a full file to find its last line.
const TAIL: u64 = 512;

/// A time before 2026 comes from a clock that was not set.
const CLOCK_FLOOR: u64 = 1_767_225_600_000;

/// One file, as readers need it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// Where it is.
    pub path: PathBuf,
    /// Bytes that are whole.
    pub bytes: u64,
    /// What is in it.
    pub range: Option<Range>,
}

/// What had to be mended.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Mended {
    /// Bytes that a cut of power had left half written.
    pub cut: u64,
    /// Lines that could not be read.
    pub damaged: u64,
}

/// All files, and the one that is written to.
#[derive(Debug)]
pub struct Segments {
    directory: PathBuf,
    bounds: Bounds,
    log: String,
    floor: u64,
    files: Vec<Segment>,
    open: Option<File>,
    /// When the file that is written to was begun.
    begun: u64,
    next: u64,
    boot: String,
    places: BTreeMap<String, Place>,
}

impl Segments {
    /// Opens the log in a directory, and mends what a cut of power left.
    ///
    /// `log` is the name of a log that begins here, should there be none.
    ///
    /// # Errors
    /// When the directory cannot be read, or its last file cannot be mended.
    pub fn open(directory: &Path, bounds: Bounds, log: String) -> io::Result<(Self, Mended)> {
        let mut paths: Vec<PathBuf> = fs::read_dir(directory)?
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| path.extension().is_some_and(|kind| kind == "jsonl"))
            .collect();
        paths.sort();
        let mut segments = Segments {
            directory: directory.to_owned(),
            bounds,
            log,
            floor: 0,
            files: Vec::new(),
            open: None,
            begun: 0,
            next: 1,
            boot: String::new(),
            places: BTreeMap::new(),
        };
        let mut mended = Mended::default();
        let count = paths.len();
        for (index, path) in paths.into_iter().enumerate() {
            if index + 1 < count
                && let Some(file) = Self::full(&path)?
            {
                segments.files.push(file);
                continue;
            }
            let bytes = fs::read(&path)?;
            let scan = Scan::of(&bytes);
            if scan.range.is_none() && scan.header.is_none() {
                mended.cut += bytes.len() as u64;
                fs::remove_file(&path)?;
                continue;
            }
            mended.damaged += scan.damaged;
            let file = OpenOptions::new().append(true).open(&path)?;
            if scan.whole < bytes.len() {
                mended.cut += (bytes.len() - scan.whole) as u64;
                file.set_len(scan.whole as u64)?;
                file.sync_all()?;
            }
            segments.files.push(Segment {
                path,
                bytes: scan.whole as u64,
                range: scan.range,
            });
            segments.begun = scan.range.map_or(0, |range| range.from_unix_ms);
            segments.open = (!scan.is_ended).then_some(file);
            segments.boot = scan.boot;
            segments.places = scan.places;
            if let Some(header) = scan.header {
                segments.log = header.log;
                segments.floor = segments.floor.max(header.floor);
            }
        }
        let last = segments
            .files
            .iter()
            .filter_map(|file| Some(file.range?.last));
        if let Some(last) = last.max() {
            segments.next = (last / STRIDE + 1) * STRIDE + 1;
        }
        Ok((segments, mended))
    }

    /// A file that says itself what is in it.
    fn full(path: &Path) -> io::Result<Option<Segment>> {
        let mut file = File::open(path)?;
        let bytes = file.metadata()?.len();
        file.seek(SeekFrom::Start(bytes.saturating_sub(TAIL)))?;
        let mut tail = Vec::new();
        file.take(TAIL).read_to_end(&mut tail)?;
        let last = tail
            .strip_suffix(b"\n")
            .and_then(|tail| tail.rsplit(|byte| *byte == b'\n').next());
        Ok(match last.and_then(Line::parse) {
            Some(Line::End(End { end })) => Some(Segment {
                path: path.to_owned(),
                bytes,
                range: Some(end),
            }),
            _ => None,
        })
    }

    /// The name of this log.
    pub fn log(&self) -> &str {
        &self.log
    }

    /// The highest record that has been deleted.
    pub fn floor(&self) -> u64 {
        self.floor
    }

    /// The number of the next record.
    pub fn next(&self) -> u64 {
        self.next
    }

    /// The boot of the last record, and where each of its sources was read to.
    pub fn places(&self) -> (&str, &BTreeMap<String, Place>) {
        (&self.boot, &self.places)
    }

    /// The files, oldest first.
    pub fn files(&self) -> &[Segment] {
        &self.files
    }

    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }

    /// The bounds that it keeps.
    pub fn bounds(&self) -> Bounds {
        self.bounds
    }

    /// Writes records behind the last, all of them or none.
    ///
    /// # Errors
    /// When the disk does not take them. What it took in part is cut off again.
    pub fn append(&mut self, records: &[Arc<Record>], now_unix_ms: u64) -> io::Result<()> {
        let mut bytes = Vec::with_capacity(records.len() * 256);
        for record in records {
            record.encode(&mut bytes);
        }
        let length = bytes.len() as u64;
        self.make_room(length, now_unix_ms)?;
        let (Some(file), Some(info)) = (&mut self.open, self.files.last_mut()) else {
            return Err(ErrorKind::NotFound.into());
        };
        if let Err(error) = file.write_all(&bytes) {
            // Readers stop at the old length in any case; where even this fails, a new file.
            if file.set_len(info.bytes).is_err() {
                self.open = None;
            }
            return Err(error);
        }
        info.bytes += length;
        for record in records {
            match &mut info.range {
                Some(range) => range.add(record),
                None => info.range = Some(Range::of(record)),
            }
            if self.boot != record.boot {
                self.boot.clone_from(&record.boot);
                self.places.clear();
            }
            let place = Place {
                position: record.position,
                time_unix_ms: record.time_unix_ms,
            };
            self.places.insert(record.service.clone(), place);
            self.next = record.seq + 1;
        }
        Ok(())
    }

    /// Makes what was written outlive a cut of power.
    ///
    /// # Errors
    /// When the disk says that it cannot.
    pub fn sync(&mut self) -> io::Result<()> {
        match &self.open {
            Some(file) => file.sync_data(),
            None => Ok(()),
        }
    }

    /// Gives up the oldest file; whether there was one that is not being written to.
    pub fn delete_oldest(&mut self) -> bool {
        self.files.len() > 1 && self.delete(0)
    }

    /// A file to write to, with room for so many bytes within the bounds.
    fn make_room(&mut self, length: u64, now: u64) -> io::Result<()> {
        let most = self.bounds.bytes / FILES;
        let is_full = |file: &Segment| file.range.is_some() && file.bytes + length > most;
        // A quiet box begins a file now and then, or its oldest lines would never be of an age.
        let is_old = self.is_older(self.begun, now, self.bounds.age / 30);
        let is_done = self.files.last().is_none_or(|file| is_full(file) || is_old);
        if self.open.is_some() && is_done {
            self.finish()?;
        }
        self.delete_aged(now);
        while self.bytes() + length > self.bounds.bytes && self.delete_oldest() {}
        if self.open.is_none() {
            self.begin(now)?;
        }
        Ok(())
    }

    fn finish(&mut self) -> io::Result<()> {
        let Some(mut file) = self.open.take() else {
            return Ok(());
        };
        if let Some(info) = self.files.last_mut()
            && let Some(end) = info.range
        {
            let mut line = serde_json::to_vec(&End { end })?;
            line.push(b'\n');
            // Without it the file is read whole at the next start.
            if file.write_all(&line).is_ok() {
                info.bytes += line.len() as u64;
            }
        }
        file.sync_data()
    }

    fn begin(&mut self, now: u64) -> io::Result<()> {
        let path = self.directory.join(format!("{:020}.jsonl", self.next));
        let header = Header {
            segment: VERSION,
            log: self.log.clone(),
            floor: self.floor,
            boot: self.boot.clone(),
            places: self.places.clone(),
        };
        let mut line = serde_json::to_vec(&header)?;
        line.push(b'\n');
        // Not `create_new`: one that an earlier try left without a record is of no use.
        let mut file = OpenOptions::new()
            .create(true)
            .write(true)
            .truncate(true)
            .open(&path)?;
        if let Err(error) = file.write_all(&line) {
            // Of no use, and in nobody's way should it stay.
            let _ = fs::remove_file(&path);
            return Err(error);
        }
        File::open(&self.directory)?.sync_all()?;
        self.files.retain(|file| file.path != path);
        self.files.push(Segment {
            path,
            bytes: line.len() as u64,
            range: None,
        });
        self.open = Some(file);
        self.begun = now;
        Ok(())
    }

    fn delete_aged(&mut self, now: u64) {
        let age = self.bounds.age;
        while self.open.is_none() || self.files.len() > 1 {
            let Some(Some(range)) = self.files.first().map(|file| file.range) else {
                return;
            };
            if !self.is_older(range.until_unix_ms, now, age) || !self.delete(0) {
                return;
            }
        }
    }

    /// Whether a time lies further back; one of a clock that was not set says nothing.
    fn is_older(&self, time: u64, now: u64, age: Duration) -> bool {
        let age = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
        time >= CLOCK_FLOOR && now.saturating_sub(time) > age
    }

    fn delete(&mut self, index: usize) -> bool {
        let Some(file) = self.files.get(index) else {
            return false;
        };
        match fs::remove_file(&file.path) {
            Err(error) if error.kind() != ErrorKind::NotFound => return false,
            _ => {}
        }
        if let Some(range) = file.range {
            self.floor = self.floor.max(range.last);
        }
        self.files.remove(index);
        true
    }
}

#[cfg(test)]
#[path = "segments_tests.rs"]
mod tests;
