//! A bounded log: the newest lines of one source, each with a cursor that is never reused.
//!
//! A ring never grows beyond its bytes, whatever is written to it; what falls out is counted, so
//! that a reader who comes back learns of the gap.

use std::collections::VecDeque;

use kos_manifest::control::{LogEntry, LogPage};

/// Longest line kept whole, in bytes; a longer one is cut into pieces of this size.
pub const MAX_LINE: usize = 4096;

/// What a line costs beside its bytes: the entry itself and its place in the queue.
const ENTRY_BYTES: usize = 64;

/// The newest lines of one source, within a bound of bytes.
#[derive(Debug)]
pub struct Ring {
    entries: VecDeque<LogEntry>,
    next: u64,
    bytes: usize,
    capacity: usize,
}

impl Ring {
    /// An empty ring that holds at most `capacity` bytes.
    pub fn new(capacity: usize) -> Self {
        Ring {
            entries: VecDeque::new(),
            next: 1,
            bytes: 0,
            capacity,
        }
    }

    /// Adds a line; the oldest ones make room.
    pub fn push(&mut self, time_unix_ms: u64, level: u8, message: &str) {
        let message: String = match message.char_indices().find(|(index, _)| *index >= MAX_LINE) {
            Some((cut, _)) => message.get(..cut).unwrap_or_default().to_owned(),
            None => message.to_owned(),
        };
        self.bytes += message.len() + ENTRY_BYTES;
        self.entries.push_back(LogEntry {
            cursor: self.next,
            time_unix_ms,
            level,
            message,
        });
        self.next += 1;
        while self.bytes > self.capacity {
            let Some(old) = self.entries.pop_front() else {
                break;
            };
            self.bytes -= old.message.len() + ENTRY_BYTES;
        }
    }

    /// Lines from `cursor` on, at most `max`, oldest first.
    pub fn page(&self, cursor: u64, max: usize) -> LogPage {
        let first = self.next - self.entries.len() as u64;
        let from = cursor.clamp(first, self.next);
        let skip = usize::try_from(from - first).unwrap_or(usize::MAX);
        let entries: Vec<LogEntry> = self.entries.iter().skip(skip).take(max).cloned().collect();
        let next = entries.last().map_or(from, |entry| entry.cursor + 1);
        // A reader who starts at the beginning (0) has missed nothing that it asked for by name.
        let dropped = if cursor == 0 {
            first - 1
        } else {
            from.saturating_sub(cursor)
        };
        LogPage {
            entries,
            next,
            dropped,
        }
    }

    /// Whether there is anything from `cursor` on.
    pub fn has(&self, cursor: u64) -> bool {
        cursor < self.next && !self.entries.is_empty()
    }
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

    fn messages(page: &LogPage) -> Vec<&str> {
        page.entries
            .iter()
            .map(|entry| entry.message.as_str())
            .collect()
    }

    #[test]
    fn readers_continue_where_they_stopped() {
        let mut ring = Ring::new(4096);
        for text in ["one", "two", "three"] {
            ring.push(0, 6, text);
        }
        let page = ring.page(0, 2);
        assert_eq!(messages(&page), ["one", "two"]);
        let page = ring.page(page.next, 10);
        assert_eq!(messages(&page), ["three"]);
        assert!(!ring.has(page.next));
        ring.push(0, 6, "four");
        assert!(ring.has(page.next));
        assert_eq!(messages(&ring.page(page.next, 10)), ["four"]);
    }

    #[test]
    fn a_ring_is_bounded_and_tells_the_gap() {
        let mut ring = Ring::new(10 * (ENTRY_BYTES + 1));
        for _ in 0..100 {
            ring.push(0, 6, "x");
        }
        let page = ring.page(5, 1000);
        assert_eq!(page.entries.len(), 10);
        assert_eq!(page.dropped, 91 - 5);
        assert_eq!(page.next, 101);
        assert!(ring.bytes <= ring.capacity);
    }

    #[test]
    fn a_cursor_from_the_future_waits_for_what_comes() {
        let mut ring = Ring::new(4096);
        ring.push(0, 6, "one");
        let page = ring.page(u64::MAX, 10);
        assert_eq!((page.entries.len(), page.next), (0, 2));
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
