//! The guest's serial line: every byte to the log file and to the sink, every line into a
//! bounded memory that tests wait on.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use crate::error::SerialTail;

/// Gets every byte of the serial line as it comes, on the reader's thread.
pub type SerialSink = Box<dyn FnMut(&[u8]) + Send>;

/// Lines kept in memory. A boot prints some hundred; a guest that floods its console must not
/// take the host's memory with it.
const LINES_KEPT: usize = 20_000;
/// A line longer than this is cut in two: binary noise may never contain a newline.
const LINE_LIMIT: usize = 16 * 1024;
/// Lines shown in an error: enough for a panic with its call trace.
const TAIL_LINES: usize = 40;

/// What the reader thread and the waiters share.
pub(crate) struct Serial {
    state: Mutex<State>,
    changed: Condvar,
    path: Option<PathBuf>,
}

#[derive(Default)]
struct State {
    lines: LineBuffer,
    closed: bool,
}

/// Why a wait for a line ended without the line.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum NoLine {
    Timeout,
    Closed,
}

impl Serial {
    pub(crate) fn new(path: Option<PathBuf>) -> Arc<Self> {
        Arc::new(Serial {
            state: Mutex::default(),
            changed: Condvar::new(),
            path,
        })
    }

    /// Reads until the guest's end closes. Runs on a thread of its own.
    pub(crate) fn read(
        &self,
        mut source: impl Read,
        mut log: Option<File>,
        mut sink: Option<SerialSink>,
    ) {
        let mut chunk = [0; 4096];
        loop {
            let count = match source.read(&mut chunk) {
                Ok(count) if count > 0 => count,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                _ => break,
            };
            let bytes = &chunk[..count];
            // A full disk costs the log, not the guest: the lines in memory go on.
            if let Some(file) = &mut log
                && file.write_all(bytes).is_err()
            {
                log = None;
            }
            if let Some(sink) = &mut sink {
                sink(bytes);
            }
            if self.lock().lines.push(bytes) {
                self.changed.notify_all();
            }
        }
        let mut state = self.lock();
        state.lines.flush();
        state.closed = true;
        drop(state);
        self.changed.notify_all();
    }

    /// The first line at or after `cursor` that `wanted` accepts, and the cursor after it.
    pub(crate) fn wait_line(
        &self,
        cursor: u64,
        wanted: &mut dyn FnMut(&str) -> bool,
        limit: Duration,
    ) -> Result<(String, u64), NoLine> {
        let deadline = Instant::now() + limit;
        let mut next = cursor;
        let mut state = self.lock();
        loop {
            while let Some((index, line)) = state.lines.at_or_after(next) {
                next = index + 1;
                if wanted(line) {
                    return Ok((line.to_string(), next));
                }
            }
            if state.closed {
                return Err(NoLine::Closed);
            }
            state = self.sleep(state, deadline)?;
        }
    }

    /// Waits until the guest's end is closed, which QEMU does when it exits.
    pub(crate) fn wait_closed(&self, deadline: Instant) -> Result<(), NoLine> {
        let mut state = self.lock();
        while !state.closed {
            state = self.sleep(state, deadline)?;
        }
        Ok(())
    }

    fn sleep<'a>(
        &self,
        state: MutexGuard<'a, State>,
        deadline: Instant,
    ) -> Result<MutexGuard<'a, State>, NoLine> {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(NoLine::Timeout);
        }
        let (state, _) = self
            .changed
            .wait_timeout(state, left)
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        Ok(state)
    }

    /// The lines in memory, oldest first.
    pub(crate) fn lines(&self) -> Vec<String> {
        let state = self.lock();
        let texts = state.lines.kept.iter().map(|line| line.text.clone());
        texts.collect()
    }

    /// When the first line in memory that `wanted` accepts was complete.
    pub(crate) fn first_time(&self, mut wanted: impl FnMut(&str) -> bool) -> Option<Instant> {
        let state = self.lock();
        let line = state.lines.kept.iter().find(|line| wanted(&line.text))?;
        Some(line.at)
    }

    /// The cursor after the last complete line.
    pub(crate) fn end(&self) -> u64 {
        self.lock().lines.end()
    }

    /// The last lines, an unfinished one included.
    pub(crate) fn tail(&self) -> SerialTail {
        let state = self.lock();
        let skip = state.lines.kept.len().saturating_sub(TAIL_LINES);
        let kept = state.lines.kept.iter().skip(skip);
        let mut lines: Vec<String> = kept.map(|line| line.text.clone()).collect();
        if !state.lines.partial.is_empty() {
            lines.push(printable(&state.lines.partial));
        }
        SerialTail {
            path: self.path.clone(),
            lines,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A sink or predicate that panicked leaves the lines whole.
        self.state
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// A line, and when it was complete.
struct Line {
    text: String,
    at: Instant,
}

/// Splits bytes into lines and keeps the last of them, numbered from the guest's start.
#[derive(Default)]
struct LineBuffer {
    kept: VecDeque<Line>,
    /// The number of the oldest line kept.
    first: u64,
    partial: Vec<u8>,
}

impl LineBuffer {
    /// Adds bytes; true when at least one line became complete.
    fn push(&mut self, bytes: &[u8]) -> bool {
        let mut completed = false;
        for &byte in bytes {
            if byte == b'\n' {
                self.flush_line();
                completed = true;
            } else {
                self.partial.push(byte);
                if self.partial.len() >= LINE_LIMIT {
                    self.flush_line();
                    completed = true;
                }
            }
        }
        completed
    }

    /// Makes an unfinished line a line.
    fn flush(&mut self) {
        if !self.partial.is_empty() {
            self.flush_line();
        }
    }

    fn flush_line(&mut self) {
        let line = Line {
            text: printable(&self.partial),
            at: Instant::now(),
        };
        self.partial.clear();
        if self.kept.len() == LINES_KEPT {
            self.kept.pop_front();
            self.first += 1;
        }
        self.kept.push_back(line);
    }

    fn at_or_after(&self, cursor: u64) -> Option<(u64, &str)> {
        let index = cursor.max(self.first);
        let offset = usize::try_from(index - self.first).ok()?;
        self.kept
            .get(offset)
            .map(|line| (index, line.text.as_str()))
    }

    fn end(&self) -> u64 {
        self.first + self.kept.len() as u64
    }
}

/// The line as text: firmware and terminals send carriage returns and control bytes.
fn printable(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes)
        .chars()
        .filter(|letter| !letter.is_control() || *letter == '\t')
        .collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;
    use std::thread;

    use super::*;

    const LONG: Duration = Duration::from_secs(20);

    #[test]
    fn lines_are_split_cleaned_and_numbered() {
        let mut buffer = LineBuffer::default();
        assert!(!buffer.push(b"kos: in"));
        assert!(buffer.push(b"it\r\nkos: ready\r\npart"));
        assert_eq!(buffer.at_or_after(0), Some((0, "kos: init")));
        assert_eq!(buffer.at_or_after(1), Some((1, "kos: ready")));
        assert_eq!(buffer.at_or_after(2), None);
        buffer.flush();
        assert_eq!(buffer.at_or_after(2), Some((2, "part")));
    }

    #[test]
    fn memory_is_bounded_and_cursors_survive() {
        let mut buffer = LineBuffer::default();
        for number in 0..LINES_KEPT + 10 {
            buffer.push(format!("{number}\n").as_bytes());
        }
        assert_eq!(buffer.kept.len(), LINES_KEPT);
        assert_eq!(buffer.at_or_after(0), Some((10, "10")));
        assert_eq!(buffer.end(), LINES_KEPT as u64 + 10);
        buffer.push(&vec![b'x'; LINE_LIMIT * 2]);
        assert!(buffer.partial.len() < LINE_LIMIT);
    }

    #[test]
    fn a_waiter_wakes_for_its_line_and_for_the_end() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("serial.log");
        let serial = Serial::new(Some(path.clone()));
        let (mut guest, host) = UnixStream::pair().unwrap();
        let reader = {
            let serial = Arc::clone(&serial);
            let log = File::create(&path).unwrap();
            thread::spawn(move || serial.read(host, Some(log), None))
        };
        guest.write_all(b"one\ntwo\n").unwrap();
        let (line, cursor) = serial
            .wait_line(0, &mut |line| line == "two", LONG)
            .unwrap();
        assert_eq!((line.as_str(), cursor), ("two", 2));
        assert_eq!(
            serial.wait_line(cursor, &mut |line| line == "one", Duration::from_millis(1)),
            Err(NoLine::Timeout)
        );
        guest.write_all(b"last").unwrap();
        drop(guest);
        assert_eq!(
            serial
                .wait_line(cursor, &mut |line| line == "last", LONG)
                .unwrap()
                .1,
            3
        );
        assert_eq!(
            serial.wait_line(3, &mut |_| true, LONG),
            Err(NoLine::Closed)
        );
        reader.join().unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"one\ntwo\nlast");
        assert!(serial.tail().to_string().ends_with("  | two\n  | last"));
    }
}
