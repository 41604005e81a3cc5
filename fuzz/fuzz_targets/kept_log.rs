//! The files of the kept log, which a cut of power or a worn card may leave with anything in them,
//! and the lines and questions that others write.

#![no_main]
#![allow(
    dead_code,
    reason = "the parts of kos-api that parse, without the rest"
)]

#[path = "../../services/api/src/journal/line.rs"]
mod line;
#[path = "../../services/api/src/journal/record.rs"]
mod record;
#[path = "../../services/api/src/journal/search.rs"]
mod search;
#[path = "../../services/api/src/journal/segment.rs"]
mod segment;

use libfuzzer_sys::fuzz_target;

use line::Line;
use record::Record;
use search::Search;
use segment::Scan;

fuzz_target!(|data: &[u8]| {
    let scan = Scan::of(data);
    assert!(scan.whole <= data.len());
    // What is left after the cut is whole, and found to hold the same.
    let again = Scan::of(data.get(..scan.whole).unwrap_or_default());
    assert_eq!(again.whole, scan.whole);
    assert_eq!(
        (again.range, &again.places, again.damaged),
        (scan.range, &scan.places, scan.damaged)
    );

    // A question and a line of a service, whatever is in them.
    let text = String::from_utf8_lossy(data);
    let (question, said) = text.split_once('\n').unwrap_or((&text, ""));
    let line = Line::parse(6, said.to_owned());
    let record = Record {
        seq: 1,
        time_unix_ms: 2,
        boot: "b".to_owned(),
        service: "s".to_owned(),
        position: 3,
        level: line.level,
        message: line.message,
        fields: line.fields,
        gap: None,
    };
    if let Ok(search) = Search::parse(question) {
        let _ = search.finds(&record);
    }
    // What is written is one line, and is read as it was.
    let mut bytes = Vec::new();
    record.encode(&mut bytes);
    assert_eq!(bytes.iter().filter(|byte| **byte == b'\n').count(), 1);
    let scan = Scan::of(&bytes);
    assert_eq!(
        (scan.whole, scan.range.map(|range| range.last)),
        (bytes.len(), Some(1))
    );
});
