//! One inotify instance for the cgroups of all services: who watches a file is woken when it
//! changes.
//!
//! An instance per service would be a descriptor and a kernel queue each, and the kernel allows a
//! user only so many.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result};
use kos_sys::watch::{Watch, WatchId};
use tokio::sync::Notify;

use crate::console::{Console, lock};
use crate::descriptor;

/// A fork bomb at its limit changes `pids.events` without end. All that happens within this time
/// is one waking, so that it costs PID 1 next to nothing and nobody notices the delay.
const PAUSE: Duration = Duration::from_millis(10);

/// The watched files of all services. Cloning gives another handle to the same.
#[derive(Clone)]
pub struct CgroupWatch(Arc<Mutex<Table>>);

struct Table {
    watch: Watch,
    listeners: BTreeMap<WatchId, Arc<Notify>>,
}

/// Some files of one service, watched until this is dropped.
pub struct Watched {
    all: CgroupWatch,
    ids: Vec<WatchId>,
    changed: Arc<Notify>,
}

impl CgroupWatch {
    /// Watches nothing yet.
    ///
    /// # Errors
    /// No descriptors.
    pub fn new() -> Result<Self> {
        Ok(CgroupWatch(Arc::new(Mutex::new(Table {
            watch: Watch::new()?,
            listeners: BTreeMap::new(),
        }))))
    }

    /// Watches some files of a directory together.
    ///
    /// # Errors
    /// One of them is missing, or the kernel watches enough already.
    pub fn add(&self, directory: &Path, files: &[&str]) -> Result<Watched> {
        let mut watched = Watched {
            all: self.clone(),
            ids: Vec::with_capacity(files.len()),
            changed: Arc::new(Notify::new()),
        };
        for file in files {
            let mut table = lock(&self.0);
            let id = table.watch.add(&directory.join(file))?;
            watched.ids.push(id);
            table.listeners.insert(id, watched.changed.clone());
        }
        Ok(watched)
    }

    /// Wakes the watchers for ever.
    pub async fn run(self, console: Console) {
        if let Err(error) = self.wake_all().await {
            console.say(3, &format!("limits are not watched any more: {error:#}"));
        }
    }

    async fn wake_all(&self) -> Result<()> {
        let copy: OwnedFd = {
            let table = lock(&self.0);
            table.watch.as_fd().try_clone_to_owned()
        }
        .context("cannot copy the watch's descriptor")?;
        let readable = descriptor::register(copy)?;
        loop {
            let mut guard = readable.readable().await?;
            {
                let mut table = lock(&self.0);
                for id in table.watch.drain()? {
                    if let Some(changed) = table.listeners.get(&id) {
                        // One waiting is enough: the watcher reads how things are, not what happened.
                        changed.notify_one();
                    }
                }
            }
            guard.clear_ready();
            tokio::time::sleep(PAUSE).await;
        }
    }
}

impl Watched {
    /// Waits until one of the files has changed since the last time.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        let mut table = lock(&self.all.0);
        for id in &self.ids {
            table.listeners.remove(id);
            table.watch.remove(*id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn each_watcher_hears_of_its_own_files() {
        let directory = tempfile::tempdir().unwrap();
        for name in ["a", "b"] {
            std::fs::write(directory.path().join(name), "").unwrap();
        }
        let watch = CgroupWatch::new().unwrap();
        let a = watch.add(directory.path(), &["a"]).unwrap();
        let b = watch.add(directory.path(), &["b"]).unwrap();
        tokio::spawn(watch.clone().run(Console::silent()));
        std::fs::write(directory.path().join("a"), "1").unwrap();
        tokio::time::timeout(Duration::from_secs(60), a.changed())
            .await
            .unwrap();
        let nothing = tokio::time::timeout(Duration::from_millis(30), b.changed()).await;
        assert!(nothing.is_err());
        drop(a);
        assert_eq!(lock(&watch.0).listeners.len(), 1);
        assert!(watch.add(directory.path(), &["c"]).is_err());
    }
}
