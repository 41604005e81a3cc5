//! One file of the kept log, and how it is read after a cut of power.
//!
//! The first line is a [`Header`], the last one of a file that is full an [`End`], every other a
//! record. A line that is none of these is damage: passed over in the middle, cut off at the end.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::record::Record;

/// The format; another number is another program's file.
pub const VERSION: u32 = 1;

/// What a file begins with: enough to go on from here without reading those before it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Header {
    /// [`VERSION`].
    pub segment: u32,
    /// Which log this is a part of; another disk, or a reset one, has another.
    pub log: String,
    /// The highest record that was deleted before.
    pub floor: u64,
    /// The boot of the places.
    pub boot: String,
    /// Where each source was.
    pub places: BTreeMap<String, Place>,
}

/// Where a source was read to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// The last cursor of PID 1's ring.
    pub position: u64,
    /// When PID 1 read that line.
    pub time_unix_ms: u64,
}

/// What a full file ends with, so that it need not be read to know what is in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// What is in it.
    pub end: Range,
}

/// Which records there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Range {
    /// First record's number.
    pub first: u64,
    /// Last record's number.
    pub last: u64,
    /// Earliest time.
    pub from_unix_ms: u64,
    /// Latest time.
    pub until_unix_ms: u64,
}

impl Range {
    /// Of one record.
    pub fn of(record: &Record) -> Self {
        Range {
            first: record.seq,
            last: record.seq,
            from_unix_ms: record.time_unix_ms,
            until_unix_ms: record.time_unix_ms,
        }
    }

    /// With another record.
    pub fn add(&mut self, record: &Record) {
        self.first = self.first.min(record.seq);
        self.last = self.last.max(record.seq);
        self.from_unix_ms = self.from_unix_ms.min(record.time_unix_ms);
        self.until_unix_ms = self.until_unix_ms.max(record.time_unix_ms);
    }
}

/// One line of a file.
#[derive(Debug)]
pub enum Line {
    /// The first.
    Header(Header),
    /// A record.
    Record(Record),
    /// The last of a full file.
    End(End),
}

impl Line {
    /// Reads a line without its end; `None` when it is damaged.
    pub fn parse(line: &[u8]) -> Option<Self> {
        let parsed = if line.starts_with(b"{\"seq\"") {
            serde_json::from_slice(line).map(Line::Record)
        } else if line.starts_with(b"{\"end\"") {
            serde_json::from_slice(line).map(Line::End)
        } else {
            let header: Result<Header, _> = serde_json::from_slice(line);
            header.map(Line::Header)
        };
        match parsed.ok()? {
            Line::Header(header) if header.segment != VERSION => None,
            line => Some(line),
        }
    }
}

/// What a whole file is found to hold.
#[derive(Debug, Default)]
pub struct Scan {
    /// The first line, when it is one.
    pub header: Option<Header>,
    /// Whether the file says that it is full.
    pub is_ended: bool,
    /// The records; `None` when there are none.
    pub range: Option<Range>,
    /// The boot of the last record, or of the header.
    pub boot: String,
    /// Where each source of that boot is after the last record.
    pub places: BTreeMap<String, Place>,
    /// Bytes up to the end of the last line that is one.
    pub whole: usize,
    /// Lines in the middle that are none.
    pub damaged: u64,
}

impl Scan {
    /// Reads a file's bytes, whatever they are.
    pub fn of(bytes: &[u8]) -> Self {
        let mut scan = Scan::default();
        let mut at = 0;
        let mut damaged = 0;
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            at += line.len();
            // A last line without its end has been cut off, whatever it looks like.
            let parsed = line.strip_suffix(b"\n").and_then(Line::parse);
            let Some(parsed) = parsed else {
                damaged += 1;
                continue;
            };
            scan.whole = at;
            scan.damaged = damaged;
            scan.is_ended = matches!(parsed, Line::End(_));
            match parsed {
                Line::Header(header) => {
                    if scan.header.is_none() {
                        scan.boot.clone_from(&header.boot);
                        scan.places.clone_from(&header.places);
                        scan.header = Some(header);
                    }
                }
                Line::Record(record) => scan.add(&record),
                Line::End(_) => {}
            }
        }
        scan
    }

    fn add(&mut self, record: &Record) {
        match &mut self.range {
            Some(range) => range.add(record),
            None => self.range = Some(Range::of(record)),
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
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(seq: u64, boot: &str, service: &str) -> Record {
        Record {
            seq,
            time_unix_ms: 1000 + seq,
            boot: boot.to_owned(),
            service: service.to_owned(),
            position: 10 * seq,
            level: 6,
            message: format!("line {seq}\nwith an end and \"marks\""),
            fields: None,
            gap: None,
        }
    }

    fn file() -> Vec<u8> {
        let header = Header {
            segment: VERSION,
            log: "ab".to_owned(),
            floor: 0,
            boot: "b1".to_owned(),
            places: [(
                "init".to_owned(),
                Place {
                    position: 4,
                    time_unix_ms: 9,
                },
            )]
            .into(),
        };
        let mut bytes = serde_json::to_vec(&header).unwrap();
        bytes.push(b'\n');
        record(1, "b1", "api").encode(&mut bytes);
        record(2, "b1", "net").encode(&mut bytes);
        bytes
    }

    #[test]
    fn places_go_on_from_the_header() {
        let scan = Scan::of(&file());
        assert_eq!(
            scan.range.map(|range| (range.first, range.last)),
            Some((1, 2))
        );
        let positions: Vec<u64> = scan.places.values().map(|place| place.position).collect();
        assert_eq!(positions, [10, 4, 20]);
        let mut bytes = file();
        record(3, "b2", "api").encode(&mut bytes);
        let scan = Scan::of(&bytes);
        assert_eq!((scan.boot.as_str(), scan.places.len()), ("b2", 1));
    }

    #[test]
    fn a_file_cut_off_anywhere_is_whole_up_to_a_line() {
        let bytes = file();
        let ends: Vec<usize> = (1..=bytes.len())
            .filter(|at| bytes[at - 1] == b'\n')
            .collect();
        for cut in 0..=bytes.len() {
            let scan = Scan::of(&bytes[..cut]);
            let whole = ends
                .iter()
                .copied()
                .filter(|end| *end <= cut)
                .max()
                .unwrap_or(0);
            assert_eq!((scan.whole, scan.damaged), (whole, 0), "cut at {cut}");
        }
    }

    #[test]
    fn damage_in_the_middle_is_passed_over_and_at_the_end_cut_off() {
        let mut bytes = file();
        bytes.extend_from_slice(b"\0\0\0\n{\"seq\":3}\n");
        record(4, "b1", "api").encode(&mut bytes);
        let whole = bytes.len();
        bytes.extend_from_slice(&[0; 4096]);
        let scan = Scan::of(&bytes);
        assert_eq!((scan.whole, scan.damaged), (whole, 2));
        assert_eq!(scan.range.unwrap().last, 4);
        let end = End {
            end: scan.range.unwrap(),
        };
        bytes.truncate(whole);
        bytes.extend_from_slice(&serde_json::to_vec(&end).unwrap());
        bytes.push(b'\n');
        assert!(Scan::of(&bytes).is_ended);
    }
}
