//! What survives a restart, and what is done when the disk is not well.

use crate::fixture::{Fixture, run};

async fn warning(kos: &Fixture) -> String {
    let system = kos.ask("GET", "/api/v1/system").code().send().await;
    let system = system.json().await;
    system["store"]["warning"]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

#[test]
fn sessions_survive_a_restart() {
    run(async {
        let mut kos = Fixture::start().await;
        let token = kos.pair().await;
        kos.restart().await;
        assert_eq!(kos.ask("GET", "/").cookie(&token).status().await, 200);
        assert_eq!(warning(&kos).await, "");
        // The token itself is in no file.
        let database = std::fs::read(kos.state().join("kos.db")).unwrap();
        let is_there = |needle: &[u8]| database.windows(needle.len()).any(|part| part == needle);
        assert!(is_there(b"sessions"));
        assert!(!is_there(token.as_bytes()));
    });
}

#[test]
fn a_damaged_database_is_set_aside() {
    run(async {
        let garbage = "this is not a database ".repeat(1000);
        let mut kos = Fixture::with_state(|state| {
            std::fs::write(state.join("kos.db"), &garbage).unwrap();
        })
        .await;
        let text = warning(&kos).await;
        assert!(text.contains("set aside as"), "{text}");
        let page = kos.ask("GET", "/").code().send().await.text().await;
        assert!(page.contains("set aside as"));
        let aside = std::fs::read_dir(kos.state())
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .find(|path| path.to_string_lossy().contains("kos.db.damaged-20"))
            .unwrap();
        assert_eq!(std::fs::read_to_string(aside).unwrap(), garbage);
        let token = kos.pair().await;
        kos.restart().await;
        assert_eq!(kos.ask("GET", "/").cookie(&token).status().await, 200);
        assert_eq!(warning(&kos).await, "");
    });
}

#[test]
fn without_a_disk_the_store_is_in_memory_and_says_so() {
    run(async {
        let kos = Fixture::with_state(|state| {
            std::fs::create_dir(state.join("kos.db")).unwrap();
        })
        .await;
        let token = kos.pair().await;
        assert_eq!(kos.ask("GET", "/").cookie(&token).status().await, 200);
        let text = warning(&kos).await;
        assert!(text.contains("in memory only"), "{text}");
    });
}

#[test]
fn a_database_damaged_in_use_does_not_lock_anyone_out() {
    run(async {
        let kos = Fixture::start().await;
        for name in ["kos.db", "kos.db-wal"] {
            let file = std::fs::OpenOptions::new()
                .write(true)
                .open(kos.state().join(name));
            file.unwrap().set_len(0).unwrap();
        }
        let token = kos.pair().await;
        assert_eq!(kos.ask("GET", "/").cookie(&token).status().await, 200);
    });
}
