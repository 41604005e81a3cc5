//! Services change without a reboot: what is new comes, what has changed runs anew, what is wrong
//! changes nothing, and everything else goes on.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use kos_tests::{Boot, DataDisk, Guest, Image};

const MANIFEST: &str = "/api/v1/services/visitor/manifest";

fn visitor(memory: &str, arguments: &str, description: &str) -> String {
    format!(
        "name = \"visitor\"\ndescription = \"{description}\"\nprogram = \"/bin/test-ready\"\n\
         uid = 20001\nargs = [\"{arguments}\"]\n\n[limits]\nmemory = \"{memory}\"\n"
    )
}

#[test]
fn a_reload_touches_what_has_changed_and_nothing_else() -> Result<()> {
    let disk = DataDisk::create()?;
    let guest = Boot::new("reload", Image::Test).disk(&disk).start()?;
    let api = guest.api();
    let before = pids(&guest)?;

    let report = api
        .put_text(MANIFEST, &visitor("16M", "0", "A guest"))?
        .success()?
        .json()?;
    ensure!(report["added"][0] == "visitor", "{report}");
    guest.wait_service("visitor", |seen| seen.state == "ready")?;
    let first = pid_of_visitor(&guest)?;

    // A limit is changed where it is.
    let report = api
        .put_text(MANIFEST, &visitor("24M", "0", "A guest"))?
        .success()?
        .json()?;
    ensure!(report["updated"][0] == "visitor", "{report}");
    ensure!(pid_of_visitor(&guest)? == first);
    let facts = api.get("/api/v1/services/visitor/facts")?;
    ensure!(facts["limits"]["memory"] == 24 << 20, "{facts}");

    // Another argument needs another process.
    let report = api
        .put_text(MANIFEST, &visitor("24M", "10", "A guest"))?
        .success()?
        .json()?;
    ensure!(report["restarted"][0] == "visitor", "{report}");
    guest.wait_service("visitor", |seen| seen.state == "ready")?;
    let second = pid_of_visitor(&guest)?;
    ensure!(second != first);

    // What is wrong is told by its place, and changes nothing.
    let refused = api.put_text(MANIFEST, &visitor("lots", "10", "A guest"))?;
    ensure!(refused.status == 422, "{refused:?}");
    let problem = refused.json()?;
    ensure!(
        problem["file"] == "/data/services/visitor.toml" && problem["line"] == 8,
        "{problem}"
    );
    ensure!(problem["key"] == "limits.memory", "{problem}");
    let text = api.request("GET", MANIFEST, None)?.success()?.text;
    ensure!(text.contains("24M"), "{text}");
    ensure!(pid_of_visitor(&guest)? == second);

    let report = api.post("/api/v1/reload")?.json()?;
    for list in ["added", "removed", "restarted", "updated"] {
        ensure!(
            report[list].as_array().is_some_and(Vec::is_empty),
            "{report}"
        );
    }
    let report = api.request("DELETE", MANIFEST, None)?.success()?.json()?;
    ensure!(report["removed"][0] == "visitor", "{report}");
    ensure!(api.request("GET", "/api/v1/services/visitor", None)?.status == 404);
    // Nobody else noticed any of it.
    ensure!(pids(&guest)? == before);
    guest.power_off()
}

/// Processes of the services that run. Each is asked for by itself: the list may be a moment old.
fn pids(guest: &Guest) -> Result<BTreeMap<String, u64>> {
    let api = guest.api();
    let services = api.get("/api/v1/services")?;
    let mut pids = BTreeMap::new();
    for service in services["services"].as_array().into_iter().flatten() {
        let name = service["name"].as_str().context("a service has a name")?;
        let path = format!("/api/v1/services/{name}");
        let answer = api.request("GET", &path, None)?;
        // One that was removed a moment ago may still be in the list.
        if answer.status == 404 {
            continue;
        }
        let pid = answer.success()?.json()?["pid"]
            .as_u64()
            .unwrap_or_default();
        if pid != 0 {
            pids.insert(name.to_owned(), pid);
        }
    }
    Ok(pids)
}

/// The process of the visitor.
fn pid_of_visitor(guest: &Guest) -> Result<u64> {
    let seen = guest.api().get("/api/v1/services/visitor")?;
    seen["pid"].as_u64().context("it has no process")
}
