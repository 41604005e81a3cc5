//! The records on the disk: one file of JSON for each boot, numbered, the newest of them kept.

use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use kos_manifest::control::BootRecord;

/// Boots that are kept: a month of a box that somebody restarts each day.
const KEPT: usize = 32;

/// Longest file that is read; what is written is bounded by its parts and is shorter.
const MAX_FILE: u64 = 256 * 1024;

/// More files than this in the directory are not ours.
const MAX_FILES: usize = 1024;

/// One place in the directory.
#[derive(Debug, Clone)]
pub struct Store {
    directory: PathBuf,
    number: u64,
}

impl Store {
    /// The place of the newest record, and the records, newest first. A directory that cannot be
    /// read has none, and one that is damaged is passed over: it is not worth a boot.
    pub fn open(directory: &Path) -> (Self, Vec<BootRecord>) {
        let numbers = numbers(directory);
        let read = |number: &u64| {
            let mut text = String::new();
            let file = File::open(directory.join(file_name(*number))).ok()?;
            file.take(MAX_FILE).read_to_string(&mut text).ok()?;
            serde_json::from_str(&text).ok()
        };
        let store = Store {
            directory: directory.to_owned(),
            number: numbers.first().copied().unwrap_or(0),
        };
        (store, numbers.iter().take(KEPT).filter_map(read).collect())
    }

    /// The place after this one.
    pub fn next(mut self) -> Self {
        self.number += 1;
        self
    }

    /// Writes a record at this place so that a cut of power leaves the old one or the new one.
    ///
    /// # Errors
    /// The disk does not take it.
    pub fn write(&self, record: &BootRecord) -> Result<()> {
        let about = || format!("cannot write below {}", self.directory.display());
        let made = fs::DirBuilder::new().mode(0o700).create(&self.directory);
        match made {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                return Err(error).with_context(about);
            }
            _ => {}
        }
        let text = serde_json::to_vec(record).context("cannot put the record into words")?;
        let new = self.directory.join("new");
        let mut file = File::options()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&new)
            .with_context(about)?;
        file.write_all(&text).with_context(about)?;
        file.sync_all().with_context(about)?;
        fs::rename(&new, self.directory.join(file_name(self.number))).with_context(about)?;
        let directory = File::open(&self.directory).with_context(about)?;
        directory.sync_all().with_context(about)
    }

    /// Removes what is older than the newest.
    ///
    /// # Errors
    /// The disk does not do it.
    pub fn remove_old(&self) -> Result<()> {
        for number in numbers(&self.directory).into_iter().skip(KEPT) {
            let path = self.directory.join(file_name(number));
            fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
        }
        Ok(())
    }
}

fn file_name(number: u64) -> String {
    format!("{number:010}.json")
}

/// The numbers of the records, newest first.
fn numbers(directory: &Path) -> Vec<u64> {
    let Ok(listing) = fs::read_dir(directory) else {
        return Vec::new();
    };
    let mut numbers: Vec<u64> = listing
        .take(MAX_FILES)
        .filter_map(|entry| {
            let name = entry.ok()?.file_name();
            let number = name.to_str()?.strip_suffix(".json")?.parse().ok()?;
            (name.to_str()? == file_name(number)).then_some(number)
        })
        .collect();
    numbers.sort_unstable_by(|one, other| other.cmp(one));
    numbers
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(id: &str) -> BootRecord {
        BootRecord {
            boot_id: id.to_owned(),
            ..BootRecord::default()
        }
    }

    #[test]
    fn the_newest_are_kept_in_order() {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("boots");
        for boot in 0..KEPT + 3 {
            let (store, _) = Store::open(&directory);
            let store = store.next();
            store.write(&record(&boot.to_string())).unwrap();
            store.write(&record(&format!("boot {boot}"))).unwrap();
            store.remove_old().unwrap();
        }
        let (_, records) = Store::open(&directory);
        assert_eq!(records.len(), KEPT);
        assert_eq!(records[0].boot_id, format!("boot {}", KEPT + 2));
        assert_eq!(records[KEPT - 1].boot_id, "boot 3");
        assert_eq!(fs::read_dir(&directory).unwrap().count(), KEPT);
    }

    #[test]
    fn what_is_damaged_or_foreign_is_passed_over() {
        let root = tempfile::tempdir().unwrap();
        let (store, records) = Store::open(root.path());
        assert!(records.is_empty());
        store.clone().next().write(&record("good")).unwrap();
        for (name, text) in [
            ("0000000002.json", "{\"boot_id\": 3"),
            ("9.json", "{}"),
            ("new", ""),
        ] {
            fs::write(root.path().join(name), text).unwrap();
        }
        let (next, records) = Store::open(root.path());
        assert_eq!(records, [record("good")]);
        assert_eq!(next.number, 2);
        let nowhere = Store::open(Path::new("/proc/nowhere/boots")).0;
        let error = nowhere.write(&record("lost")).unwrap_err();
        assert!(error.to_string().contains("/proc/nowhere/boots"));
    }
}
