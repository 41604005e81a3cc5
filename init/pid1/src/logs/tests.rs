//! Tests of the logs together: waiting, shares, and the bound that they have in common.

use super::*;

fn cursor(name: &str, cursor: u64) -> LogCursor {
    LogCursor {
        name: name.to_owned(),
        cursor,
    }
}

fn bytes(logs: &Logs) -> usize {
    let table = lock(&logs.table);
    let services = table.logs.iter().filter(|(name, _)| is_service(name));
    let counted = services.map(|(_, kept)| kept.ring.bytes()).sum();
    assert_eq!(table.bytes, counted);
    counted
}

#[tokio::test]
async fn a_reader_waits_for_the_next_line() {
    let log = Logs::default().open("one");
    let reader = tokio::spawn({
        let log = log.clone();
        async move { log.read(0, 10, Duration::from_secs(60)).await }
    });
    tokio::task::yield_now().await;
    log.push(6, "hello");
    assert_eq!(reader.await.unwrap().entries[0].message, "hello");
}

#[tokio::test]
async fn one_call_waits_for_all_logs() {
    let logs = Logs::default();
    let (first, second) = (logs.open("first"), logs.open("second"));
    first.push(6, "a");
    let batch = logs.read("", &[], 10, Duration::ZERO).await;
    assert_eq!(batch.logs.len(), 1);
    assert_eq!(
        (batch.logs[0].name.as_str(), batch.logs[0].next),
        ("first", 2)
    );
    let boot = batch.boot;
    assert!(!boot.is_empty());
    let reader = tokio::spawn({
        let (logs, boot) = (logs.clone(), boot.clone());
        let wait = Duration::from_secs(60);
        async move { logs.read(&boot, &[cursor("first", 2)], 10, wait).await }
    });
    tokio::task::yield_now().await;
    // A log that the reader has never heard of is read from its beginning.
    second.push(4, "b");
    let batch = reader.await.unwrap();
    assert_eq!(batch.logs[0].entries[0].message, "b");
    // Cursors of another boot mean nothing.
    let cursors = [cursor("first", 2), cursor("second", 2)];
    let again = logs.read("another", &cursors, 10, Duration::ZERO).await;
    assert_eq!(again.logs.len(), 2);
    let nothing = logs.read(&boot, &cursors, 10, Duration::ZERO).await;
    assert_eq!(nothing.logs, []);
}

#[tokio::test]
async fn who_floods_does_not_keep_the_others_from_being_read() {
    let logs = Logs::default();
    let flood = logs.open("a-flood");
    let calm: Vec<Log> = (0..20).map(|n| logs.open(&format!("calm{n}"))).collect();
    for _ in 0..2000 {
        flood.push(6, &"x".repeat(80));
    }
    for log in &calm {
        log.push(6, "here");
    }
    let batch = logs.read("", &[], 100, Duration::ZERO).await;
    let count = |name: &str| {
        let part = batch.logs.iter().find(|part| part.name == name);
        part.map_or(0, |part| part.entries.len())
    };
    assert_eq!(batch.logs.len(), 21);
    assert_eq!((count("calm7"), count("a-flood")), (1, 80));
    // And the answer has its bytes.
    let batch = logs.read("", &[], usize::MAX, Duration::ZERO).await;
    let bytes: usize = batch
        .logs
        .iter()
        .flat_map(|part| &part.entries)
        .map(|e| e.message.len())
        .sum();
    assert!(bytes <= ANSWER.bytes, "{bytes}");
}

#[test]
fn the_noisiest_gives_way() {
    let logs = Logs::default();
    let quiet = logs.open("quiet");
    quiet.push(6, "only this");
    let noisy: Vec<Log> = (0..100).map(|n| logs.open(&format!("noisy{n}"))).collect();
    for round in 0..1000 {
        for log in &noisy {
            log.push(6, &format!("{round} {}", "x".repeat(90)));
        }
    }
    assert!(bytes(&logs) <= SERVICE_BYTES);
    assert_eq!(quiet.lines(), ["only this"]);
    let page = noisy[0].page(1, 1000);
    assert!(page.entries.len() > 100, "{}", page.entries.len());
    assert_eq!(page.dropped + page.entries.len() as u64, 1000);
    // A thousand quiet ones cost what they say.
    let logs = Logs::default();
    let thousand: Vec<Log> = (0..1000).map(|n| logs.open(&format!("s{n}"))).collect();
    assert_eq!(bytes(&logs), 0);
    for log in &thousand {
        log.push(6, "ready");
    }
    assert!(bytes(&logs) <= 300 * 1024, "{}", bytes(&logs));
}

#[test]
fn a_service_that_is_gone_keeps_its_lines_for_a_while() {
    let logs = Logs::default();
    let log = logs.open("here");
    log.push(6, "one");
    drop(log);
    let log = logs.open("here");
    log.push(6, "two");
    assert_eq!(log.lines(), ["one", "two"]);
    drop(log);
    for number in 0..10 * MAX_GONE {
        logs.open(&format!("short{number}")).push(6, "x");
    }
    assert!(lock(&logs.table).logs.len() <= MAX_GONE + 1);
    bytes(&logs);
    // One that was forgotten does not use a cursor again.
    let log = logs.open("here");
    log.push(6, "three");
    let page = log.page(3, 10);
    assert_eq!((page.entries.len(), page.dropped), (1, 0));
    assert!(page.entries[0].cursor >= 3);
}

#[tokio::test]
async fn whatever_is_pushed_is_read_or_counted() {
    let logs = Logs::default();
    let flood = logs.open("flood");
    let (mut at, mut read, mut dropped) = (0, 0, 0);
    for number in 1..=20_000_u64 {
        let length = if number % 90 == 0 { 4096 } else { 118 };
        flood.push(6, &"x".repeat(length));
        if number % 2500 == 0 {
            // The first of them is full, and has something missing before it.
            for _ in 0..5 {
                let cursors = [cursor("flood", at)];
                let batch = logs.read(boot_id(), &cursors, 500, Duration::ZERO).await;
                for part in batch.logs {
                    at = part.next;
                    dropped += part.dropped;
                    read += part.entries.len() as u64;
                }
            }
        }
    }
    assert!(dropped > 1000, "{dropped}");
    assert_eq!(read + dropped, 20_000);
}
