//! What the owner writes onto the boot partition: the box's name, its address, whose it is.

use std::fs;

use anyhow::{Context, Result};
use kos_qemu::Attachment;
use kos_tests::host::{succeed, tool};
use kos_tests::{Answer, Boot, BoxDisk, Guest, environment};
use serde_json::json;

use crate::disk_boot::{has_grown, leaves_a_whole_disk};

#[test]
fn the_box_has_the_name_and_the_address_that_its_owner_chose() -> Result<()> {
    let disk = with_settings(
        "hostname = \"kitchen\"\n\
         [network]\naddress = \"10.0.2.77/24\"\ngateway = \"10.0.2.2\"\ndns = [\"10.0.2.3\"]\n",
    )?;
    // That the API answers at all is the proof: only this address is forwarded.
    let guest = Boot::uefi("settings-network", disk.attached(Attachment::Virtio))?
        .address("10.0.2.77")
        .start()?;
    let system = guest.api().get("/api/v1/system")?;
    assert_eq!(system["hostname"], "kitchen", "{system}");
    assert_eq!(system["setup_problem"], "", "{system}");
    Ok(())
}

#[test]
fn settings_that_are_wrong_change_nothing_and_are_explained() -> Result<()> {
    let disk = with_settings("hostname = \"kitchen\"\n[network]\naddress = \"10.0.2.7\"\n")?;
    let guest = Boot::uefi("settings-wrong", disk.attached(Attachment::Virtio))?.start()?;
    let system = guest.api().get("/api/v1/system")?;
    assert_ne!(system["hostname"], "kitchen", "half of them is none");
    let problem = system["setup_problem"].as_str().context("no text")?;
    for part in ["kos-box.toml", "network.address", "10.0.2.7", "allowed"] {
        assert!(problem.contains(part), "{part} is not in: {problem}");
    }
    Ok(())
}

#[test]
fn a_flashed_box_has_its_own_name_identity_and_owner() -> Result<()> {
    let keys = tempfile::tempdir()?;
    for name in ["owner", "other"] {
        let mut keygen = tool("ssh-keygen");
        keygen.args(["-q", "-t", "ed25519", "-N", "", "-C", name, "-f"]);
        succeed(keygen.arg(keys.path().join(name)))?;
    }
    let owner = keys.path().join("owner.pub").display().to_string();
    let options = ["--hostname", "kitchen", "--owner-key", &owner];
    let image = environment::disk_image()?;
    let disk = BoxDisk::flashed(&image, "1G", &options)?;
    let neighbour = BoxDisk::flashed(&image, "1G", &options)?;
    let before = neighbour.snapshot()?;
    let guest = Boot::uefi("settings-flashed", disk.attached(Attachment::Virtio))?
        .attach(neighbour.attached(Attachment::Virtio))
        .start()?;
    has_grown(&guest)?;
    let system = guest.api().get("/api/v1/system")?;
    assert_eq!(system["hostname"], "kitchen", "{system}");

    let refused = log_in(&guest, &keys.path().join("other"))?;
    assert_eq!(refused.status, 401, "{refused}");
    let opened = log_in(&guest, &keys.path().join("owner"))?;
    let opened = opened.success()?.json()?;
    let token = opened["token"].as_str().context("no token")?;
    guest.stranger().paired(token).get("/api/v1/system")?;

    leaves_a_whole_disk(guest, &disk)?;
    assert_eq!(neighbour.changed_since(&before)?, Vec::<String>::new());
    Ok(())
}

/// Signs a challenge with this key, as the manual says, and hands it in.
fn log_in(guest: &Guest, key: &std::path::Path) -> Result<Answer> {
    let api = guest.stranger();
    let challenge = api.post("/api/v1/owner/challenge")?.json()?;
    let text = |key: &str| challenge[key].as_str().context("no text");
    let (nonce, namespace) = (text("nonce")?, text("namespace")?);
    let file = key.with_extension("nonce");
    fs::write(&file, nonce)?;
    let mut keygen = tool("ssh-keygen");
    keygen.args(["-q", "-Y", "sign", "-n", namespace, "-f"]);
    succeed(keygen.arg(key).arg(&file))?;
    let signature = file.with_extension("nonce.sig");
    let signed = fs::read_to_string(&signature)?;
    fs::remove_file(signature)?;
    let proof = json!({ "nonce": nonce, "signature": signed });
    api.request("POST", "/api/v1/owner/session", Some(proof))
}

/// A box with this `kos-box.toml`.
fn with_settings(text: &str) -> Result<BoxDisk> {
    let disk = BoxDisk::create()?;
    disk.boot_files()?.write("kos-box.toml", text.as_bytes())?;
    Ok(disk)
}
