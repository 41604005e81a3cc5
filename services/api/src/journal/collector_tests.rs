//! Tests of what lines become: resuming, gaps, floods.

use super::*;

fn collector(resume: Resume) -> Collector {
    let (batches, _) = mpsc::channel(1);
    let control = Arc::new(Control::new("/nonexistent".into()));
    let mut collector = Collector::new(control, batches, resume);
    collector.begin("aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee".to_owned());
    collector
}

fn part(name: &str, cursors: std::ops::Range<u64>, dropped: u64, text: &str) -> LogPart {
    LogPart {
        name: name.to_owned(),
        next: cursors.end,
        dropped,
        entries: cursors
            .map(|cursor| LogEntry {
                cursor,
                time_unix_ms: 1000 * cursor,
                level: 6,
                message: text.to_owned(),
            })
            .collect(),
    }
}

fn take(collector: &mut Collector, logs: Vec<LogPart>, now: Instant) -> Vec<Record> {
    let boot = collector.boot.clone();
    collector.records(LogBatch { boot, logs }, now)
}

#[test]
fn it_goes_on_in_the_same_boot_and_begins_anew_in_another() {
    let place = Place {
        position: 7,
        time_unix_ms: 7000,
    };
    let resume = |boot: &str| Resume {
        boot: boot.to_owned(),
        places: [("one".to_owned(), place)].into(),
    };
    let mut same = collector(resume("aaaaaaaabbbb"));
    assert_eq!(same.sources["one"].next, 8);
    assert!(collector(resume("cccccccccccc")).sources.is_empty());
    // What the ring lost meanwhile is said: how much, of whom, between when and when.
    let records = take(&mut same, vec![part("one", 12..13, 4, "x")], Instant::now());
    let gap = Gap {
        count: 4,
        after_unix_ms: Some(7000),
        before_unix_ms: 12_000,
        cause: Cause::Ring,
    };
    assert_eq!(records[0].gap, Some(gap));
    assert_eq!((records[0].position, records[1].position), (11, 12));
    assert_eq!(
        records[0].message,
        "4 lines are missing: they came faster than they were kept, or while nobody kept them"
    );
}

#[test]
fn a_flood_is_kept_in_part_and_the_rest_is_counted() {
    let mut collector = collector(Resume::default());
    let now = Instant::now();
    let text = "x".repeat(1000 - RECORD_BYTES);
    let records = take(&mut collector, vec![part("one", 1..3001, 0, &text)], now);
    let kept = crate::journal::rate::BURST / 1000;
    assert_eq!(records.len(), kept);
    // When it rests, the gap is told, with the cursor of the last line that is not kept.
    let records = take(&mut collector, vec![part("two", 1..2, 0, "y")], now);
    let gap = records
        .iter()
        .find_map(|record| record.gap.clone())
        .unwrap();
    assert_eq!((gap.count, gap.cause), (3000 - kept as u64, Cause::Rate));
    assert_eq!(
        records.iter().find(|r| r.gap.is_some()).unwrap().position,
        3000
    );
    // When it goes on, the gap stands before the line.
    take(&mut collector, vec![part("one", 3001..3101, 0, &text)], now);
    let later = now + Duration::from_secs(60);
    let records = take(&mut collector, vec![part("one", 3101..3102, 0, "z")], later);
    assert_eq!(records[0].gap.as_ref().unwrap().count, 100);
    assert_eq!(records[1].message, "z");
}

#[test]
fn lines_of_all_are_in_the_order_of_time_and_of_one_in_its_own() {
    let mut collector = collector(Resume::default());
    let mut back = part("clock", 1..4, 0, "c");
    // The clock was set back between two lines.
    back.entries[1].time_unix_ms = 10;
    let logs = vec![back, part("one", 2..3, 0, "x")];
    let records = take(&mut collector, logs, Instant::now());
    let order: Vec<(&str, u64)> = records
        .iter()
        .map(|r| (r.service.as_str(), r.position))
        .collect();
    assert_eq!(
        order,
        [("clock", 1), ("clock", 2), ("one", 2), ("clock", 3)]
    );
}
