//! A bounded log: the newest lines of one source, each with a cursor that is never reused.
//!
//! A ring never grows beyond its bytes, whatever is written to it; what falls out is counted, so
//! that a reader who comes back learns of the gap. Lines lie one behind the other in pieces of
//! [`CHUNK_BYTES`]: a line costs its bytes and [`HEADER_BYTES`], no allocation of its own, and room
//! is made by giving up the oldest piece whole.

use std::collections::VecDeque;

use kos_manifest::control::{LogEntry, LogPage};

/// Longest line kept whole, in bytes; a longer one is cut into pieces of this size.
pub const MAX_LINE: usize = 4096;

/// Before each line: time (8 bytes), level (1), length (2).
const HEADER_BYTES: usize = 11;

/// A piece of a ring: the longest line and its header fit, and a page of the allocator is used well.
const CHUNK_BYTES: usize = MAX_LINE + HEADER_BYTES;

/// First allocation of a piece, which doubles: a service that says one line costs no 4 KiB.
const FIRST_BYTES: usize = 256;

/// How much one answer may hold.
#[derive(Debug, Clone, Copy)]
pub struct Most {
    /// Lines.
    pub lines: usize,
    /// Bytes of their messages; one line is given whatever its length.
    pub bytes: usize,
}

/// The newest lines of one source, within a bound of bytes.
#[derive(Debug)]
pub struct Ring {
    chunks: VecDeque<Chunk>,
    /// Cursor before which this ring never held anything.
    start: u64,
    /// Cursor of the oldest line held.
    first: u64,
    next: u64,
    bytes: usize,
    capacity: usize,
}

#[derive(Debug, Default)]
struct Chunk {
    bytes: Vec<u8>,
    lines: u32,
}

impl Ring {
    /// An empty ring that holds at most `capacity` bytes and counts its lines from `start`.
    pub fn new(capacity: usize, start: u64) -> Self {
        Ring {
            chunks: VecDeque::new(),
            start,
            first: start,
            next: start,
            bytes: 0,
            capacity,
        }
    }

    /// Adds a line; the oldest ones make room.
    pub fn push(&mut self, time_unix_ms: u64, level: u8, message: &str) {
        let message = whole_letters(message, MAX_LINE);
        let needed = HEADER_BYTES + message.len();
        let fits = |chunk: &Chunk| chunk.bytes.len() + needed <= CHUNK_BYTES;
        if !self.chunks.back().is_some_and(fits) {
            self.chunks.push_back(Chunk::default());
        }
        // Always true: a chunk has just been made where there was none.
        if let Some(chunk) = self.chunks.back_mut() {
            let before = chunk.bytes.capacity();
            chunk.reserve(needed);
            self.bytes += chunk.bytes.capacity() - before;
            chunk.put(time_unix_ms, level, message);
        }
        self.next += 1;
        while self.bytes > self.capacity && self.chunks.len() > 1 {
            self.give_up_oldest();
        }
    }

    /// Gives up the oldest piece; whoever reads from there learns how many lines that were.
    pub fn give_up_oldest(&mut self) {
        if let Some(chunk) = self.chunks.pop_front() {
            self.bytes -= chunk.bytes.capacity();
            self.first += u64::from(chunk.lines);
        }
    }

    /// Bytes that it has allocated for lines.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Cursor of the line that comes next.
    pub fn next(&self) -> u64 {
        self.next
    }

    /// Lines from `cursor` on, oldest first.
    pub fn page(&self, cursor: u64, most: Most) -> LogPage {
        let from = cursor.clamp(self.first, self.next);
        let mut entries = Vec::new();
        let mut bytes = 0;
        let mut at = self.first;
        for chunk in &self.chunks {
            let after = at + u64::from(chunk.lines);
            if after > from {
                for (position, line) in (at..).zip(chunk.lines()) {
                    if position < from {
                        continue;
                    }
                    bytes += line.message.len();
                    let is_full =
                        entries.len() >= most.lines || (bytes > most.bytes && !entries.is_empty());
                    if is_full {
                        return self.paged(cursor, entries, from);
                    }
                    entries.push(LogEntry {
                        cursor: position,
                        time_unix_ms: line.time_unix_ms,
                        level: line.level,
                        message: line.message.to_owned(),
                    });
                }
            }
            at = after;
        }
        self.paged(cursor, entries, from)
    }

    fn paged(&self, asked: u64, entries: Vec<LogEntry>, from: u64) -> LogPage {
        let next = entries.last().map_or(from, |entry| entry.cursor + 1);
        let dropped = from.saturating_sub(asked.max(self.start));
        LogPage {
            entries,
            next,
            dropped,
        }
    }

    /// Whether there is anything from `cursor` on.
    pub fn has(&self, cursor: u64) -> bool {
        cursor < self.next && self.first < self.next
    }
}

/// A line as it lies in a chunk.
struct Line<'a> {
    time_unix_ms: u64,
    level: u8,
    message: &'a str,
}

impl Chunk {
    /// Doubles as a vector does, but never beyond the size of a piece.
    fn reserve(&mut self, needed: usize) {
        let wanted = self.bytes.len() + needed;
        if wanted > self.bytes.capacity() {
            let doubled = (self.bytes.capacity() * 2).clamp(FIRST_BYTES, CHUNK_BYTES);
            self.bytes
                .reserve_exact(doubled.max(wanted) - self.bytes.len());
        }
    }

    fn put(&mut self, time_unix_ms: u64, level: u8, message: &str) {
        // At most MAX_LINE, which fits.
        let length = u16::try_from(message.len()).unwrap_or(u16::MAX);
        self.bytes.extend_from_slice(&time_unix_ms.to_le_bytes());
        self.bytes.push(level);
        self.bytes.extend_from_slice(&length.to_le_bytes());
        self.bytes.extend_from_slice(message.as_bytes());
        self.lines += 1;
    }

    fn lines(&self) -> impl Iterator<Item = Line<'_>> {
        let mut rest = self.bytes.as_slice();
        std::iter::from_fn(move || {
            let (time, after) = rest.split_first_chunk::<8>()?;
            let (level, after) = after.split_first()?;
            let (length, after) = after.split_first_chunk::<2>()?;
            let (message, after) =
                after.split_at_checked(usize::from(u16::from_le_bytes(*length)))?;
            rest = after;
            Some(Line {
                time_unix_ms: u64::from_le_bytes(*time),
                level: *level,
                // What was put in as text comes out as text.
                message: std::str::from_utf8(message).unwrap_or_default(),
            })
        })
    }
}

/// The beginning of a text, at most `most` bytes, whole letters.
fn whole_letters(text: &str, most: usize) -> &str {
    text.get(..text.floor_char_boundary(most)).unwrap_or(text)
}

/// Takes systemd's severity prefix `<N>` off a line.
///
/// Returns the severity (6, informational, when there is no prefix) and the rest of the line.
pub fn severity(line: &str) -> (u8, &str) {
    let bytes = line.as_bytes();
    match bytes {
        [b'<', digit @ b'0'..=b'7', b'>', ..] => (digit - b'0', line.get(3..).unwrap_or_default()),
        _ => (6, line),
    }
}

/// Cuts a stream of bytes into lines, whatever arrives in whatever pieces.
#[derive(Debug, Default)]
pub struct LineCutter {
    partial: Vec<u8>,
}

impl LineCutter {
    /// Takes the next bytes; gives each whole line to `line`, without its end, bad UTF-8 replaced.
    pub fn feed(&mut self, bytes: &[u8], mut line: impl FnMut(&str)) {
        for byte in bytes {
            let full = self.partial.len() >= MAX_LINE;
            if *byte == b'\n' || full {
                self.flush(&mut line);
            }
            if *byte != b'\n' {
                self.partial.push(*byte);
            }
        }
    }

    /// Gives what is left as a last line.
    pub fn flush(&mut self, line: &mut impl FnMut(&str)) {
        if !self.partial.is_empty() {
            let text = String::from_utf8_lossy(&self.partial);
            line(text.trim_end_matches('\r'));
            self.partial.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Most = Most {
        lines: 1000,
        bytes: 1 << 20,
    };

    fn messages(page: &LogPage) -> Vec<&str> {
        page.entries
            .iter()
            .map(|entry| entry.message.as_str())
            .collect()
    }

    #[test]
    fn readers_continue_where_they_stopped() {
        let mut ring = Ring::new(4096, 1);
        for text in ["one", "two", "three"] {
            ring.push(7, 3, text);
        }
        let page = ring.page(0, Most { lines: 2, ..ALL });
        assert_eq!(messages(&page), ["one", "two"]);
        assert_eq!((page.entries[1].cursor, page.dropped), (2, 0));
        assert_eq!(
            (page.entries[1].time_unix_ms, page.entries[1].level),
            (7, 3)
        );
        let page = ring.page(page.next, ALL);
        assert_eq!(messages(&page), ["three"]);
        assert!(!ring.has(page.next));
        ring.push(0, 6, "four");
        assert!(ring.has(page.next));
        assert_eq!(messages(&ring.page(page.next, ALL)), ["four"]);
    }

    #[test]
    fn a_ring_is_bounded_and_tells_the_gap() {
        let mut ring = Ring::new(10 * CHUNK_BYTES, 1);
        let line = "x".repeat(1000);
        for _ in 0..100 {
            ring.push(0, 6, &line);
        }
        assert!(ring.bytes() <= 10 * CHUNK_BYTES);
        let page = ring.page(5, ALL);
        // Four lines fit a piece, and ten pieces the ring.
        assert_eq!(page.entries.len(), 40);
        assert_eq!(page.dropped, 61 - 5);
        assert_eq!(page.next, 101);
        // One who asks for the beginning learns what was before.
        assert_eq!(ring.page(0, ALL).dropped, 60);
    }

    #[test]
    fn a_quiet_ring_costs_little_and_an_answer_has_its_bytes() {
        let mut ring = Ring::new(256 * 1024, 1);
        assert_eq!(ring.bytes(), 0);
        ring.push(0, 6, "ready");
        assert!(ring.bytes() <= 256, "{}", ring.bytes());
        for _ in 0..100 {
            ring.push(0, 6, &"y".repeat(100));
        }
        let page = ring.page(2, Most { bytes: 1000, ..ALL });
        assert_eq!((page.entries.len(), page.next), (10, 12));
        let page = ring.page(2, Most { bytes: 1, ..ALL });
        assert_eq!(page.entries.len(), 1);
    }

    #[test]
    fn a_ring_that_follows_another_counts_on() {
        let mut ring = Ring::new(4096, 500);
        ring.push(0, 6, "again");
        let page = ring.page(20, ALL);
        assert_eq!((page.entries[0].cursor, page.dropped), (500, 0));
        ring.give_up_oldest();
        assert_eq!(ring.page(20, ALL).dropped, 1);
        assert!(!ring.has(20));
    }

    #[test]
    fn a_cursor_from_the_future_waits_for_what_comes() {
        let mut ring = Ring::new(4096, 1);
        ring.push(0, 6, "one");
        let page = ring.page(u64::MAX, ALL);
        assert_eq!((page.entries.len(), page.next), (0, 2));
    }

    #[test]
    fn long_lines_are_cut_between_letters() {
        let mut ring = Ring::new(64 * 1024, 1);
        ring.push(0, 6, &"\u{e4}".repeat(MAX_LINE));
        ring.push(0, 6, &format!("x{}", "\u{e4}".repeat(MAX_LINE)));
        let page = ring.page(0, ALL);
        assert_eq!(page.entries[0].message.len(), MAX_LINE);
        assert_eq!(page.entries[1].message.len(), MAX_LINE - 1);
    }

    #[test]
    fn lines_are_cut_whatever_the_pieces() {
        let mut cutter = LineCutter::default();
        let mut lines = Vec::new();
        for piece in [&b"he"[..], b"llo\nwo", b"rld\r\n\n", b"tail"] {
            cutter.feed(piece, |line| lines.push(line.to_owned()));
        }
        cutter.flush(&mut |line: &str| lines.push(line.to_owned()));
        assert_eq!(lines, ["hello", "world", "tail"]);
        let mut longest = 0;
        cutter.feed(&vec![b'x'; 3 * MAX_LINE], |line| {
            longest = longest.max(line.len())
        });
        assert_eq!(longest, MAX_LINE);
    }

    #[test]
    fn severities() {
        assert_eq!(severity("<3>bad"), (3, "bad"));
        assert_eq!(severity("plain"), (6, "plain"));
        assert_eq!(severity("<9>x"), (6, "<9>x"));
        assert_eq!(severity(""), (6, ""));
    }
}
