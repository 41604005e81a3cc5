//! PID 1's marks in memory that a reset leaves alone (`/dev/pmsg0`): one line each, and each line
//! tells all that a reader needs, because the ring goes over the oldest.
//!
//! `kos1 MARK BOOT-ID UP-MS READY-MS VERSION CAUSE BY DETAIL…`, where nothing is `-`.

use kos_manifest::control::{BootRecord, DownCause};

/// The first word of a line; another means another format.
const FORMAT: &str = "kos1";

/// Longest of the words that come from elsewhere.
const MAX_WORD: usize = 64;

/// Longest detail.
const MAX_DETAIL: usize = 300;

/// What a line says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// The box runs.
    Alive,
    /// It goes down.
    Down,
    /// It is down.
    Complete,
}

impl Mark {
    const ALL: [Mark; 3] = [Mark::Alive, Mark::Down, Mark::Complete];

    fn word(self) -> &'static str {
        match self {
            Mark::Alive => "alive",
            Mark::Down => "down",
            Mark::Complete => "complete",
        }
    }

    /// The line.
    pub fn line(self, record: &BootRecord, up_ms: u64) -> String {
        let down = &record.down;
        format!(
            "{FORMAT} {} {} {up_ms} {} {} {} {} {}\n",
            self.word(),
            word(&record.boot_id),
            record.ready_ms,
            word(&record.version),
            word(&down.cause),
            word(&down.by),
            plain(&down.detail, MAX_DETAIL),
        )
    }
}

/// What the last boot's marks say of it; `None` when there are none. The ring may begin in the
/// middle of a line, and a reset may have come in the middle of another.
pub fn read(bytes: &[u8]) -> Option<BootRecord> {
    let text = String::from_utf8_lossy(bytes);
    let whole = text.rfind('\n').and_then(|end| text.get(..end))?;
    whole.lines().rev().find_map(parse)
}

fn parse(line: &str) -> Option<BootRecord> {
    let mut words = line.splitn(9, ' ');
    if words.next()? != FORMAT {
        return None;
    }
    let name = words.next()?;
    let mark = Mark::ALL.into_iter().find(|mark| mark.word() == name)?;
    let mut text =
        || Some(words.next()?).map(|word| if word == "-" { "" } else { word }.to_owned());
    let mut record = BootRecord {
        boot_id: text()?,
        seen_ms: text()?.parse().ok()?,
        ready_ms: text()?.parse().ok()?,
        version: text()?,
        ..BootRecord::default()
    };
    let down = &mut record.down;
    down.cause = text()?;
    down.by = text()?.replace('_', " ");
    down.detail = text()?;
    if mark == Mark::Alive {
        record.down = Default::default();
    } else {
        DownCause::from_code(&down.cause)?;
        down.complete = mark == Mark::Complete;
        down.at_ms = record.seen_ms;
    }
    Some(record)
}

/// One word of it: spaces become underscores.
fn word(text: &str) -> String {
    match plain(text, MAX_WORD).replace(' ', "_") {
        empty if empty.is_empty() => "-".to_owned(),
        word => word,
    }
}

fn plain(text: &str, most: usize) -> String {
    text.chars()
        .map(|character| {
            if character.is_control() {
                ' '
            } else {
                character
            }
        })
        .take(most)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> BootRecord {
        let mut record = BootRecord {
            boot_id: "b-1".to_owned(),
            version: "0.4".to_owned(),
            ready_ms: 900,
            ..BootRecord::default()
        };
        record.down.cause = "operator".to_owned();
        record.down.by = "the power button".to_owned();
        record.down.detail = "was pressed\nlong".to_owned();
        record
    }

    #[test]
    fn the_last_whole_line_counts() {
        let ring = [
            "ta b-0 5 0 - - - \n".to_owned(),
            Mark::Alive.line(&record(), 1000),
            Mark::Down.line(&record(), 2000),
            "kos1 complete b-1 21".to_owned(),
        ]
        .concat();
        let read = read(ring.as_bytes()).unwrap();
        assert_eq!(
            (read.boot_id.as_str(), read.seen_ms, read.ready_ms),
            ("b-1", 2000, 900)
        );
        assert_eq!(read.down.by, "the power button");
        assert_eq!(read.down.detail, "was pressed long");
        assert!(!read.down.complete);
    }

    #[test]
    fn a_box_that_ran_has_no_end_yet() {
        let line = Mark::Alive.line(&record(), 1000);
        let read = read(line.as_bytes()).unwrap();
        assert_eq!(read.down, Default::default());
        let line = Mark::Complete.line(&record(), 1000);
        assert!(super::read(line.as_bytes()).unwrap().down.complete);
    }

    #[test]
    fn noise_is_no_mark() {
        for noise in [
            "",
            "\n",
            "kos1\n",
            "kos1 down b 1 1 v rain - x\n",
            "kos2 alive b 1 1 v - - \n",
        ] {
            assert_eq!(read(noise.as_bytes()), None, "{noise:?}");
        }
        assert_eq!(read(&[0xff, 0xfe, b'\n']), None);
    }
}
