//! Tests of the keeper with its readers: pages, disks that take nothing, starting again.

use super::*;
use crate::journal::filter::Filter;
use crate::journal::reader::{Limit, newer, older};

fn line(position: u64, text: &str) -> Record {
    Record {
        seq: 0,
        time_unix_ms: 1_800_000_000_000 + position,
        boot: "b1".to_owned(),
        service: "one".to_owned(),
        position,
        level: 6,
        message: text.to_owned(),
        fields: None,
        gap: None,
    }
}

fn limit(records: usize) -> Limit {
    Limit {
        records,
        deadline: Instant::now() + Duration::from_secs(60),
    }
}

fn open(directory: &Path) -> (Keeper, Arc<Shelf>) {
    let shelf = Arc::new(Shelf::default());
    let mut keeper = Keeper::open(directory, shelf.clone());
    // The tests' directory may be in memory; their log is as on a disk.
    if let Some(segments) = &mut keeper.segments {
        let (log, _) = Segments::open(directory, BOUNDS, segments.log().to_owned()).unwrap();
        *segments = log;
    }
    (keeper, shelf)
}

fn messages(records: &[Arc<Record>]) -> Vec<&str> {
    records
        .iter()
        .map(|record| record.message.as_str())
        .collect()
}

#[test]
fn pages_lead_through_memory_and_files_in_both_directions() {
    let directory = tempfile::tempdir().unwrap();
    let (mut keeper, _) = open(directory.path());
    keeper.take((1..=10).map(|n| line(n, &format!("old {n}"))).collect());
    drop(keeper);
    let (mut keeper, shelf) = open(directory.path());
    assert_eq!(keeper.resume().places["one"].position, 10);
    keeper.take((11..=15).map(|n| line(n, &format!("new {n}"))).collect());
    let all = Filter::default();
    let mut found = Vec::new();
    let mut before = u64::MAX;
    loop {
        let page = older(&shelf, &all, before, limit(4));
        found.splice(0..0, page.records.iter().map(|record| record.position));
        if !page.more {
            assert_eq!(page.older, 0);
            break;
        }
        before = page.older;
    }
    assert_eq!(found, (1..=15).collect::<Vec<_>>());
    let mut found = Vec::new();
    let mut after = 0;
    loop {
        let page = newer(&shelf, &all, after, limit(4));
        found.extend(page.records.iter().map(|record| record.position));
        after = page.newer;
        if !page.more {
            break;
        }
    }
    assert_eq!(found, (1..=15).collect::<Vec<_>>());
    // What does not fit the question is passed over, and need not be looked at again.
    let filter = Filter {
        search: crate::journal::search::Search::parse("new").unwrap(),
        ..Filter::default()
    };
    let page = newer(&shelf, &filter, 0, limit(2));
    assert_eq!(
        (messages(&page.records), page.more),
        (vec!["new 11", "new 12"], true)
    );
    let page = older(&shelf, &filter, page.older, limit(2));
    assert_eq!((page.records.len(), page.older, page.more), (0, 0, false));
}

#[test]
fn a_disk_that_takes_nothing_costs_what_memory_cannot_hold_and_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let (mut keeper, shelf) = open(directory.path());
    keeper.take(vec![line(1, "before")]);
    keeper.fail(keeper.next, &ErrorKind::StorageFull.into());
    assert!(shelf.look().condition.problem.is_some());
    let long = "x".repeat(4000);
    for position in 2..2000 {
        keeper.take(vec![line(position, &long)]);
    }
    assert!(shelf.look().weight() <= RECENT_BYTES);
    let page = older(&shelf, &Filter::default(), u64::MAX, limit(1));
    assert_eq!(page.records[0].position, 1999);
    assert!(keeper.due().is_some());
    keeper.tick(Instant::now() + RETRY);
    assert_eq!(shelf.look().condition.problem, None);
    drop(keeper);
    let (_keeper, shelf) = open(directory.path());
    let page = newer(&shelf, &Filter::default(), 0, limit(5000));
    let gap = page.records[1].gap.as_ref().unwrap();
    assert_eq!(page.records[0].message, "before");
    assert_eq!(gap.cause, Cause::Disk);
    assert_eq!(gap.count as usize + page.records.len() - 2, 1998);
    let first = page.records[2].position;
    assert_eq!(first, 2 + gap.count);
    assert_eq!(page.records.last().unwrap().position, 1999);
}

#[test]
fn without_a_directory_the_log_is_bounded_and_says_where_it_is() {
    let nowhere = Path::new("/nonexistent/kos-log");
    let (mut keeper, shelf) = open(nowhere);
    for position in 0..4000 {
        keeper.take(vec![line(position, &"y".repeat(4000))]);
    }
    let content = shelf.look();
    assert!(content.weight() <= RECENT_BYTES);
    assert!(!content.condition.is_on_disk);
    let problem = content.condition.problem.as_deref().unwrap_or_default();
    assert!(problem.contains("in memory"), "{problem}");
    drop(content);
    // Who asks for what fell out learns that.
    assert!(newer(&shelf, &Filter::default(), 1, limit(1)).lost);
}

#[test]
fn a_follower_is_given_what_is_new_and_nothing_twice() {
    let directory = tempfile::tempdir().unwrap();
    let (mut keeper, shelf) = open(directory.path());
    keeper.take(vec![line(1, "a"), line(2, "b")]);
    let page = newer(&shelf, &Filter::default(), 0, limit(100));
    keeper.take(vec![line(3, "c")]);
    let next = newer(&shelf, &Filter::default(), page.newer, limit(100));
    assert_eq!(messages(&next.records), ["c"]);
    // A crash: the same cursor goes on exactly there.
    drop(keeper);
    let (mut keeper, shelf) = open(directory.path());
    assert_eq!(
        newer(&shelf, &Filter::default(), next.newer, limit(100)).records,
        []
    );
    keeper.take(vec![line(4, "d")]);
    let page = newer(&shelf, &Filter::default(), next.newer, limit(100));
    assert_eq!((messages(&page.records), page.lost), (vec!["d"], false));
    let page = newer(&shelf, &Filter::default(), next.newer - 1, limit(100));
    assert_eq!(messages(&page.records), ["c", "d"]);
}
