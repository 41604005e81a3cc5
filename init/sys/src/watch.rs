//! Watching files of the kernel for change: `memory.events`, `cgroup.events` and `pids.events`
//! wake inotify when a counter moves, `/dev` when a device appears.

use std::collections::BTreeSet;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::Path;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify;
use rustix::io::Errno;

use crate::error::{SysError, Told};

/// Names one watched file in what [`Watch::drain`] returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WatchId(i32);

/// A set of watched files. Its descriptor is readable when one of them changed.
#[derive(Debug)]
pub struct Watch {
    descriptor: OwnedFd,
    watched: BTreeSet<WatchId>,
}

impl Watch {
    /// An empty set, non-blocking.
    ///
    /// # Errors
    /// No descriptor, or too many watchers of this user.
    pub fn new() -> Result<Self, SysError> {
        let flags = inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK;
        let descriptor = inotify::init(flags).told("make", "a file watch")?;
        Ok(Watch {
            descriptor,
            watched: BTreeSet::new(),
        })
    }

    /// Adds a file. The same file twice gives the same name.
    ///
    /// # Errors
    /// The file is missing.
    pub fn add(&mut self, path: &Path) -> Result<WatchId, SysError> {
        let id = inotify::add_watch(&self.descriptor, path, inotify::WatchFlags::MODIFY)
            .told("watch", path.display())?;
        self.watched.insert(WatchId(id));
        Ok(WatchId(id))
    }

    /// Adds a directory: it changes when something appears in it.
    ///
    /// # Errors
    /// The directory is missing.
    pub fn add_directory(&mut self, path: &Path) -> Result<WatchId, SysError> {
        let flags = inotify::WatchFlags::CREATE | inotify::WatchFlags::ONLYDIR;
        let id = inotify::add_watch(&self.descriptor, path, flags).told("watch", path.display())?;
        self.watched.insert(WatchId(id));
        Ok(WatchId(id))
    }

    /// Waits until something changes, for at most so long. Only for a time in which nothing else
    /// is to be done; the event loop waits for the descriptor.
    ///
    /// # Errors
    /// The descriptor is broken.
    pub fn wait(&self, at_most: Duration) -> Result<(), SysError> {
        let mut waiting = [PollFd::new(&self.descriptor, PollFlags::IN)];
        let timeout = Timespec::try_from(at_most).ok();
        match poll(&mut waiting, timeout.as_ref()) {
            // A signal ends the waiting early, which is what the caller has to expect anyway.
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(error).told("wait for", "a file watch"),
        }
    }

    /// Takes back a file; one that is gone already is no error.
    pub fn remove(&mut self, id: WatchId) {
        if self.watched.remove(&id) {
            let _ = inotify::remove_watch(&self.descriptor, id.0);
        }
    }

    /// Empties the queue without waiting and names the files that changed, each once; all of them
    /// when the queue overflowed. A file that went away is forgotten.
    ///
    /// # Errors
    /// The descriptor is broken.
    pub fn drain(&mut self) -> Result<BTreeSet<WatchId>, SysError> {
        let mut changed = BTreeSet::new();
        let mut gone = Vec::new();
        let mut overflow = false;
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = inotify::Reader::new(&self.descriptor, &mut buffer);
        loop {
            match reader.next() {
                Ok(event) if event.events().contains(inotify::ReadFlags::QUEUE_OVERFLOW) => {
                    overflow = true;
                }
                Ok(event) if event.events().contains(inotify::ReadFlags::IGNORED) => {
                    gone.push(WatchId(event.wd()));
                }
                Ok(event) => {
                    changed.insert(WatchId(event.wd()));
                }
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => {}
                Err(error) => return Err(error).told("read", "a file watch"),
            }
        }
        for id in gone {
            self.watched.remove(&id);
        }
        Ok(if overflow {
            self.watched.clone()
        } else {
            changed
        })
    }
}

impl AsRawFd for Watch {
    fn as_raw_fd(&self) -> RawFd {
        self.descriptor.as_raw_fd()
    }
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_appears_in_a_directory_ends_the_waiting() {
        let directory = tempfile::tempdir().unwrap();
        let mut watch = Watch::new().unwrap();
        let id = watch.add_directory(directory.path()).unwrap();
        watch.wait(Duration::from_millis(1)).unwrap();
        assert!(watch.drain().unwrap().is_empty());
        std::fs::write(directory.path().join("vda"), "").unwrap();
        // Were it to wait for long, the test would.
        watch.wait(Duration::from_secs(3600)).unwrap();
        assert_eq!(watch.drain().unwrap(), BTreeSet::from([id]));
    }

    #[test]
    fn a_change_names_its_file_once() {
        let directory = tempfile::tempdir().unwrap();
        let (first, second) = (
            directory.path().join("first"),
            directory.path().join("second"),
        );
        std::fs::write(&first, "").unwrap();
        std::fs::write(&second, "").unwrap();
        let mut watch = Watch::new().unwrap();
        let first_id = watch.add(&first).unwrap();
        watch.add(&second).unwrap();
        assert!(watch.drain().unwrap().is_empty());
        std::fs::write(&first, "1").unwrap();
        std::fs::write(&first, "2").unwrap();
        assert_eq!(watch.drain().unwrap(), BTreeSet::from([first_id]));
        std::fs::remove_file(&second).unwrap();
        watch.drain().unwrap();
        assert_eq!(watch.watched, BTreeSet::from([first_id]));
        assert!(watch.add(&second).is_err());
    }
}
