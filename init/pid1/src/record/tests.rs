//! What the box says of its last end, from every mixture of evidence.

use super::*;

fn words(marks: &str, panic: &str) -> LastWords {
    LastWords {
        panic: panic.to_owned(),
        marks: marks.as_bytes().to_vec(),
        ..LastWords::default()
    }
}

fn box_with(words: LastWords, data: &Path, id: &str) -> Records {
    let records = Records::new(&Console::silent());
    records.begin(words, None);
    lock(&records.inner).current.boot_id = id.to_owned();
    records.keep_below(data);
    records
}

/// What the marks of that boot would be in memory.
fn marks_of(records: &Records, mark: Mark) -> String {
    mark.line(&lock(&records.inner).current, 5000)
}

#[test]
fn an_ordinary_end_is_told_after_the_next_start() {
    let data = tempfile::tempdir().unwrap();
    let first = box_with(LastWords::default(), data.path(), "one");
    first.save();
    first.going_down(&Reason::operator("api", "asked for"));
    first.going_down(&Reason::fatal("and then this"));
    first.complete();
    first.save();
    let second = box_with(LastWords::default(), data.path(), "two");
    second.save();
    let list = second.list();
    let ends: Vec<_> = list
        .iter()
        .map(|boot| (boot.boot_id.as_str(), boot.down.cause.as_str()))
        .collect();
    assert_eq!(ends, [("two", ""), ("one", "operator")]);
    assert_eq!(list[1].down.by, "api");
}

#[test]
fn an_end_that_was_not_told_is_found_out_once() {
    let data = tempfile::tempdir().unwrap();
    box_with(LastWords::default(), data.path(), "one").save();
    let panic = "<0>Kernel panic - not syncing: boo\n";
    let second = box_with(words("", panic), data.path(), "two");
    second.save();
    assert_eq!(second.list()[1].down.cause, "kernel-panic");
    assert_eq!(second.list()[1].down.panic, panic);
    // The store could not be freed: the same words again are not another panic.
    let third = box_with(words("", panic), data.path(), "three");
    third.save();
    let causes: Vec<_> = third
        .list()
        .into_iter()
        .map(|boot| boot.down.cause)
        .collect();
    assert_eq!(causes, ["", "power-loss", "kernel-panic"]);
}

#[test]
fn without_a_disk_memory_tells() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let first = box_with(LastWords::default(), one.path(), "one");
    first.going_down(&Reason::operator("the power button", "was pressed"));
    let said = marks_of(&first, Mark::Complete);
    let second = box_with(words(&said, ""), two.path(), "two");
    second.save();
    let list = second.list();
    assert_eq!(
        (list[1].boot_id.as_str(), list[1].down.by.as_str()),
        ("one", "the power button")
    );
    // Cut on the way: it is not what it meant to be.
    let said = marks_of(&first, Mark::Down);
    let records = box_with(words(&said, ""), tempfile::tempdir().unwrap().path(), "two");
    records.watchdog_fired(true);
    records.save();
    assert_eq!(records.list()[1].down.cause, "watchdog");
}

#[test]
fn a_disk_that_takes_nothing_costs_no_answer() {
    let records = box_with(words("", ""), Path::new("/proc/nowhere"), "one");
    records.save();
    records.save();
    assert_eq!(records.list().len(), 1);
    assert!(lock(&records.inner).trouble_told);
}
