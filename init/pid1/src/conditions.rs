//! What must be true of the box for a service to run there, and hearing of devices that come.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use kos_manifest::service::Conditions;
use kos_sys::watch::Watch;
use tokio::sync::watch;

use crate::console::Console;
use crate::descriptor;
use crate::place::Place;

/// Where devices appear.
pub const DEVICES: &str = "/dev";

/// A plugged hub shows dozens of devices in a moment; they are looked at together.
const PAUSE: Duration = Duration::from_millis(50);

/// Directories below `/dev` that are watched at most.
const MAX_DIRECTORIES: usize = 32;

/// The first condition that is not met, as a sentence.
pub fn unmet(conditions: &Conditions, place: &Place, devices: &Path) -> Option<String> {
    if let Some(why) = none_of("profile", &conditions.profiles, &place.profile) {
        return Some(why);
    }
    if let Some(why) = none_of("board", &conditions.boards, &place.board) {
        return Some(why);
    }
    conditions
        .devices
        .iter()
        .find(|name| !devices.join(name).exists())
        .map(|name| format!("condition not met: there is no device {name}"))
}

fn none_of(what: &str, allowed: &[String], found: &str) -> Option<String> {
    if allowed.is_empty() || allowed.iter().any(|name| name == found) {
        return None;
    }
    let found = if found.is_empty() { "unknown" } else { found };
    Some(format!(
        "condition not met: the {what} is {found}, needed: {}",
        allowed.join(" or ")
    ))
}

/// Counts up each time that something has appeared below `/dev`, for ever.
pub async fn watch_devices(appeared: watch::Sender<u64>, console: Console) {
    if let Err(error) = count_devices(Path::new(DEVICES), &appeared).await {
        console.say(4, &format!("new devices are not noticed: {error:#}"));
    }
}

async fn count_devices(root: &Path, appeared: &watch::Sender<u64>) -> Result<()> {
    let mut watch = Watch::new()?;
    let mut known = BTreeSet::new();
    look_into(root, &mut watch, &mut known)?;
    let mut readable = descriptor::register(watch)?;
    loop {
        let mut guard = readable.readable_mut().await?;
        let watch = guard.get_inner_mut();
        watch.drain()?;
        look_into(root, watch, &mut known)?;
        guard.clear_ready();
        appeared.send_modify(|count| *count += 1);
        tokio::time::sleep(PAUSE).await;
    }
}

/// Watches the directory and those in it that are not watched yet. Devices lie no deeper
/// (`snd/controlC0`, `input/event0`, `bus/usb` aside).
fn look_into(root: &Path, watch: &mut Watch, known: &mut BTreeSet<PathBuf>) -> Result<()> {
    if known.insert(root.to_owned()) {
        watch.add_directory(root)?;
    }
    for entry in std::fs::read_dir(root)?.flatten() {
        if known.len() >= MAX_DIRECTORIES {
            break;
        }
        let is_directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
        // One that has gone meanwhile has no devices in it either.
        if is_directory
            && !known.contains(&entry.path())
            && watch.add_directory(&entry.path()).is_ok()
        {
            known.insert(entry.path());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_unmet_condition_is_told() {
        let devices = tempfile::tempdir().unwrap();
        let place = Place {
            profile: "server".to_owned(),
            board: "pc".to_owned(),
            ..Place::default()
        };
        let mut conditions = Conditions::default();
        let unmet = |conditions: &Conditions| unmet(conditions, &place, devices.path());
        assert_eq!(unmet(&conditions), None);
        conditions.devices = vec!["ttyUSB0".to_owned()];
        assert_eq!(
            unmet(&conditions).unwrap(),
            "condition not met: there is no device ttyUSB0"
        );
        std::fs::write(devices.path().join("ttyUSB0"), "").unwrap();
        conditions.profiles = vec!["server".to_owned(), "cluster".to_owned()];
        assert_eq!(unmet(&conditions), None);
        conditions.boards = vec!["raspberry-pi-4".to_owned()];
        assert_eq!(
            unmet(&conditions).unwrap(),
            "condition not met: the board is pc, needed: raspberry-pi-4"
        );
    }

    #[tokio::test]
    async fn devices_in_directories_that_come_later_are_noticed() {
        let root = tempfile::tempdir().unwrap();
        let (appeared, mut seen) = watch::channel(0);
        let path = root.path().to_owned();
        let counting = tokio::spawn(async move { count_devices(&path, &appeared).await });
        tokio::task::yield_now().await;
        for name in ["ttyUSB0", "snd", "snd/controlC0"] {
            if name == "snd" {
                std::fs::create_dir(root.path().join(name)).unwrap();
            } else {
                std::fs::write(root.path().join(name), "").unwrap();
            }
            tokio::time::timeout(Duration::from_secs(60), seen.changed())
                .await
                .unwrap()
                .unwrap();
        }
        counting.abort();
    }
}
