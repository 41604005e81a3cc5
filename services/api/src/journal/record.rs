//! One line of the kept log, as it lies on the disk: one JSON object in one line.
//!
//! JSON lines rather than a framed format: a card that is plugged into any computer can be read
//! there with what it has, a download is what lies on the disk, and a line that is cut off or
//! overwritten is seen as such, as it is no object any more.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// A line, or the word that lines are missing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Its place: grows with every record and is never reused; not every number is used.
    pub seq: u64,
    /// Wall-clock milliseconds since 1970 when PID 1 read the line.
    pub time_unix_ms: u64,
    /// The boot that it was said in: the first digits of the kernel's id.
    pub boot: String,
    /// A service, `init` or `kernel`.
    pub service: String,
    /// Its cursor in PID 1's ring: where to go on after a crash.
    pub position: u64,
    /// syslog severity, 0 to 7.
    pub level: u8,
    /// What was said; of a line that is a JSON object, its `message` or `msg`.
    pub message: String,
    /// The rest of a line that is a JSON object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fields: Option<Map<String, Value>>,
    /// Set when this is no line but says that lines are missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gap: Option<Gap>,
}

/// Lines that are missing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// How many; 0 when nobody can know.
    pub count: u64,
    /// Time of the last line before them; absent when they were the first of their boot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after_unix_ms: Option<u64>,
    /// Time of the first line behind them.
    pub before_unix_ms: u64,
    /// What became of them.
    pub cause: Cause,
}

/// Why lines are missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// PID 1's ring had no room for them any more when they were asked for.
    Ring,
    /// Their service said more than a service may write to the disk.
    Rate,
    /// The disk took no lines, for longer than the memory for them lasts.
    Disk,
}

impl Record {
    /// What it takes in memory, about.
    pub fn weight(&self) -> usize {
        // The structure, its allocations, and what a JSON object costs beside its text.
        const FIXED: usize = 256;
        let fields = self.fields.as_ref().map_or(0, |fields| {
            let value = |value: &Value| value.as_str().map_or(32, str::len);
            fields
                .iter()
                .map(|(name, of)| 64 + name.len() + value(of))
                .sum()
        });
        FIXED + self.message.len() + fields
    }

    /// The line on the disk, with its end.
    pub fn encode(&self, into: &mut Vec<u8>) {
        // Writing a structure of texts and numbers into memory cannot fail.
        let _ = serde_json::to_writer(&mut *into, self);
        into.push(b'\n');
    }
}

impl Gap {
    /// The sentence that stands in the place of the lines.
    pub fn told(&self) -> String {
        let count = match self.count {
            0 => "lines are missing".to_owned(),
            1 => "1 line is missing".to_owned(),
            count => format!("{count} lines are missing"),
        };
        let why = match self.cause {
            Cause::Ring => "they came faster than they were kept, or while nobody kept them",
            Cause::Rate => "the service says more than may be written to the disk",
            Cause::Disk => "the disk took none",
        };
        format!("{count}: {why}")
    }
}
