//! A service that waits too long for memory, and the rule that its manifest has for that. Rules
//! change while it runs.

use anyhow::{Result, ensure};
use kos_tests::Guest;

const MANIFEST: &str = "/api/v1/services/thrasher/manifest";
const WAITED: &str = "waited too long for memory: a thread of it for 50 ms within 500 ms";

#[test]
fn a_service_that_thrashes_is_told_of_frozen_or_restarted() -> Result<()> {
    let guest = Guest::shared()?;
    put(guest, "action = \"tell\"")?;
    let told = guest.wait_service("thrasher", |seen| seen.reason == WAITED)?;
    ensure!(told.state == "ready", "{told:?}");

    put(guest, "action = \"freeze\"\nfreeze-for = \"2s\"")?;
    let frozen = guest.wait_service("thrasher", |seen| seen.state == "frozen")?;
    let reason = format!("{WAITED}; frozen for 2 s");
    ensure!(frozen.reason == reason, "{frozen:?}");
    let thawed = guest.wait_service("thrasher", |seen| seen.reason.starts_with("thawed"))?;
    ensure!(
        thawed.pid == told.pid && thawed.restarts == 0,
        "{told:?}, then {thawed:?}"
    );

    put(guest, "action = \"restart\"")?;
    let again = guest.wait_service("thrasher", |seen| seen.restarts > 0)?;
    ensure!(again.last_failure.starts_with(WAITED), "{again:?}");
    let removed = guest.api().request("DELETE", MANIFEST, None)?;
    removed.success().map(drop)
}

/// One that wants 24 MiB where it has to wait for what is beyond 8 MiB.
fn put(guest: &Guest, action: &str) -> Result<()> {
    let text = format!(
        "name = \"thrasher\"\ndescription = \"Wants more than it gets\"\n\
         program = \"/bin/test-supervised\"\nargs = [\"thrash\"]\nuid = 20013\n\n\
         [readiness]\nkind = \"none\"\n\n[restart]\ndelay = \"1s\"\n\n\
         [limits]\nmemory = \"64M\"\nmemory-high = \"8M\"\ncpu = 0.5\n\n\
         [[pressure]]\nresource = \"memory\"\nthreshold = \"50ms\"\nwindow = \"500ms\"\n{action}\n"
    );
    guest.api().put_text(MANIFEST, &text)?.success().map(drop)
}
