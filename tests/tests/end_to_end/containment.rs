//! Greedy services are held by their cgroups, named by their reason, and hurt nobody else.

use anyhow::Result;
use kos_tests::Guest;

#[test]
fn a_memory_hog_is_killed_at_its_limit_and_says_so() -> Result<()> {
    let guest = Guest::shared()?;
    guest.api().start("memory-hog")?;
    let hog = guest.wait_service("memory-hog", |seen| seen.state == "failed")?;
    assert!(
        hog.reason.contains("out of memory") && hog.reason.contains("limit of 64 MiB"),
        "{hog:?}"
    );
    others_are_well(guest)
}

#[test]
fn a_fork_bomb_is_held_at_its_limit_and_says_so() -> Result<()> {
    let guest = Guest::shared()?;
    guest.api().start("fork-bomb")?;
    let bomb = guest.wait_service("fork-bomb", |seen| seen.reason.contains("limit of 16"))?;
    assert!(bomb.tasks <= 16, "{bomb:?}");
    // It still runs, and with it running the box answers.
    others_are_well(guest)?;
    guest.api().stop("fork-bomb")?;
    let bomb = guest.wait_service("fork-bomb", |seen| seen.state == "stopped")?;
    assert_eq!(bomb.tasks, 0, "no copy is left: {bomb:?}");
    others_are_well(guest)
}

fn others_are_well(guest: &Guest) -> Result<()> {
    let answer = guest.stranger().request("GET", "/healthz", None)?;
    assert_eq!(answer.status, 200, "{answer}");
    for name in ["api", "infer", "net"] {
        let seen = guest.api().service(name)?;
        assert!(seen.state == "ready" || name == "infer", "{seen:?}");
    }
    Ok(())
}
