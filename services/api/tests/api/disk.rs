//! `kos-api` on a disk that is full, read-only or both and damaged: a small tmpfs in a mount
//! namespace of the test's own thread. They need root, and say so when they are skipped.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use crate::fixture::{Fixture, run};

const NONE: Option<&str> = None;

/// Gives this thread mounts of its own; false, told aloud, when it may not have them.
fn own_mounts() -> bool {
    let own = unshare(CloneFlags::CLONE_NEWNS).and_then(|()| {
        let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        mount(NONE, "/", NONE, private, NONE)
    });
    if let Err(error) = own {
        eprintln!("SKIPPED: needs a mount namespace of its own: {error}");
    }
    own.is_ok()
}

fn small_disk(at: &Path) {
    mount(NONE, at, Some("tmpfs"), MsFlags::empty(), Some("size=512k")).unwrap();
}

fn fill(directory: &Path) {
    let mut ballast = OpenOptions::new()
        .create(true)
        .append(true)
        .open(directory.join("ballast"))
        .unwrap();
    for size in [4096, 1] {
        while ballast.write_all(&vec![0; size]).is_ok() {}
    }
}

fn make_read_only(directory: &Path) {
    let flags = MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
    mount(NONE, directory, NONE, flags, NONE).unwrap();
}

/// It serves, says what is wrong on the page too, and lets in who pairs now.
async fn assert_serves_from_memory(kos: &Fixture, what: &str) {
    let system = kos.ask("GET", "/api/v1/system").code().send().await;
    let system = system.json().await;
    let warning = system["store"]["warning"].as_str().unwrap();
    assert!(warning.starts_with(what), "{warning}");
    assert!(warning.contains("in memory only"), "{warning}");
    let page = kos.ask("GET", "/").code().send().await.text().await;
    assert!(page.contains(what), "{page}");
    let token = kos.pair().await;
    assert_eq!(kos.ask("GET", "/").cookie(&token).status().await, 200);
}

#[test]
fn a_disk_found_full_keeps_its_sessions() {
    if !own_mounts() {
        return;
    }
    run(async {
        let mut kos = Fixture::with_state(small_disk).await;
        let token = kos.pair().await;
        // The session is only in the write-ahead log, which nobody has written back.
        kos.crash(fill).await;
        assert_serves_from_memory(&kos, "There is no room for the database").await;
        assert_eq!(kos.ask("GET", "/").cookie(&token).status().await, 200);
        let room = kos.state().join("ballast");
        kos.crash(|_| std::fs::remove_file(room).unwrap()).await;
        let system = kos.ask("GET", "/api/v1/system").cookie(&token);
        let system = system.send().await.json().await;
        assert!(system["store"]["warning"].is_null(), "{system}");
    });
}

#[test]
fn a_full_disk_without_a_database_is_served_from_memory() {
    if !own_mounts() {
        return;
    }
    run(async {
        let kos = Fixture::with_state(|state| {
            small_disk(state);
            fill(state);
        })
        .await;
        assert_serves_from_memory(&kos, "There is no room for the database").await;
    });
}

#[test]
fn a_disk_that_fills_up_in_use_locks_nobody_out() {
    if !own_mounts() {
        return;
    }
    run(async {
        let kos = Fixture::with_state(small_disk).await;
        let before = kos.pair().await;
        fill(&kos.state());
        let after = kos.pair().await;
        for token in [&before, &after] {
            assert_eq!(kos.ask("GET", "/").cookie(token).status().await, 200);
        }
        assert_serves_from_memory(&kos, "There is no room for the database").await;
    });
}

#[test]
fn a_read_only_disk_keeps_its_sessions() {
    if !own_mounts() {
        return;
    }
    run(async {
        let mut kos = Fixture::with_state(small_disk).await;
        let token = kos.pair().await;
        kos.crash(make_read_only).await;
        assert_serves_from_memory(&kos, "The database cannot be written").await;
        assert_eq!(kos.ask("GET", "/").cookie(&token).status().await, 200);
    });
}

#[test]
fn a_damaged_database_that_cannot_be_set_aside_is_left_alone() {
    if !own_mounts() {
        return;
    }
    run(async {
        let garbage = "this is not a database ".repeat(1000);
        let kos = Fixture::with_state(|state| {
            small_disk(state);
            std::fs::write(state.join("kos.db"), &garbage).unwrap();
            make_read_only(state);
        })
        .await;
        assert_serves_from_memory(&kos, "The database is damaged and cannot be replaced").await;
        let file = std::fs::read_to_string(kos.state().join("kos.db")).unwrap();
        assert_eq!(file, garbage);
    });
}
