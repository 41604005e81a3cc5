//! Tests of the files: bounds, and what a cut of power or a full disk leaves.

use super::*;

const NOW: u64 = 1_800_000_000_000;
const SMALL: Bounds = Bounds {
    bytes: 64 * 1024,
    age: Duration::from_secs(30 * 86_400),
};

fn record(seq: u64, time_unix_ms: u64) -> Arc<Record> {
    Arc::new(Record {
        seq,
        time_unix_ms,
        boot: "b1".to_owned(),
        service: "one".to_owned(),
        position: seq,
        level: 6,
        message: format!("line {seq} {}", "x".repeat(100)),
        fields: None,
        gap: None,
    })
}

fn open(directory: &Path) -> (Segments, Mended) {
    Segments::open(directory, SMALL, "log1".to_owned()).unwrap()
}

fn write(segments: &mut Segments, count: u64, time: u64) {
    for _ in 0..count {
        let next = segments.next();
        segments.append(&[record(next, time)], time).unwrap();
    }
}

fn on_disk(directory: &Path) -> u64 {
    let files = fs::read_dir(directory).unwrap();
    files
        .map(|file| file.unwrap().metadata().unwrap().len())
        .sum()
}

#[test]
fn beyond_the_bound_the_oldest_file_goes() {
    let directory = tempfile::tempdir().unwrap();
    let (mut segments, _) = open(directory.path());
    write(&mut segments, 10, NOW);
    let first = segments.files()[0].path.clone();
    for _ in 0..20 {
        write(&mut segments, 100, NOW);
        assert!(on_disk(directory.path()) <= SMALL.bytes);
        assert_eq!(on_disk(directory.path()), segments.bytes());
    }
    assert!(!first.exists());
    assert!(segments.bytes() > SMALL.bytes * 3 / 4);
    let oldest = segments.files()[0].range.unwrap();
    assert_eq!(segments.floor(), oldest.first - 1);
    // Nothing of that is forgotten by a restart, and no number is used twice.
    let files = segments.files().to_vec();
    let (next, floor) = (segments.next(), segments.floor());
    let (segments, mended) = open(directory.path());
    assert_eq!(
        (segments.files(), mended),
        (files.as_slice(), Mended::default())
    );
    assert!(segments.next() > next && segments.floor() <= floor && segments.floor() > 0);
    assert_eq!(segments.places().1["one"].position, next - 1);
}

#[test]
fn what_is_old_goes_but_not_by_a_clock_that_was_not_set() {
    let directory = tempfile::tempdir().unwrap();
    let (mut segments, _) = open(directory.path());
    let day = 86_400_000;
    write(&mut segments, 1, 5_000);
    write(&mut segments, 1, NOW);
    for days in 1..=40 {
        write(&mut segments, 1, NOW + days * day + days);
    }
    // The first file has lines of 1970 and of the first day: its newest line counts.
    let oldest = segments.files()[0].range.unwrap();
    assert!(oldest.until_unix_ms >= NOW + 9 * day, "{oldest:?}");
    assert!(segments.files().len() <= 32);
}

#[test]
fn a_file_that_was_cut_off_is_mended() {
    let directory = tempfile::tempdir().unwrap();
    let (mut segments, _) = open(directory.path());
    write(&mut segments, 5, NOW);
    let path = segments.files()[0].path.clone();
    drop(segments);
    let whole = fs::read(&path).unwrap();
    for cut in [1, 60, 200] {
        fs::write(&path, &whole[..whole.len() - cut]).unwrap();
        let (segments, mended) = open(directory.path());
        assert!(mended.cut > 0, "{mended:?}");
        assert_eq!(
            segments.files()[0].bytes,
            fs::metadata(&path).unwrap().len()
        );
        assert!(fs::read(&path).unwrap().ends_with(b"\n"));
        assert!(segments.files()[0].range.unwrap().last >= 3);
    }
    // And is gone on with.
    let (mut segments, mended) = open(directory.path());
    assert_eq!(mended, Mended::default());
    write(&mut segments, 1, NOW);
    assert_eq!(segments.files().len(), 1);
    // One of which nothing came to the disk is no file.
    fs::write(
        directory.path().join("99999999999999999999.jsonl"),
        [0; 512],
    )
    .unwrap();
    let (segments, mended) = open(directory.path());
    assert_eq!((segments.files().len(), mended.cut), (1, 512));
}

#[test]
fn what_a_full_disk_took_in_part_is_cut_off_again() {
    let directory = tempfile::tempdir().unwrap();
    let (mut segments, _) = open(directory.path());
    write(&mut segments, 2, NOW);
    let before = fs::read(&segments.files()[0].path).unwrap();
    // A descriptor that takes nothing, as a full disk.
    let writable = segments
        .open
        .replace(File::open(&segments.files()[0].path).unwrap());
    let next = segments.next();
    assert!(segments.append(&[record(next, NOW)], NOW).is_err());
    assert_eq!(segments.next(), next);
    segments.open = writable;
    write(&mut segments, 1, NOW);
    let after = fs::read(&segments.files()[0].path).unwrap();
    assert!(after.starts_with(&before) && after.len() > before.len());
}
