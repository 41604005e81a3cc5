//! What all parts of PID 1 share.

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};

use kos_manifest::seccomp::SyscallSets;
use kos_sys::cgroup::CgroupRoot;
use tokio::sync::{Notify, watch};

use crate::cgroup_watch::CgroupWatch;
use crate::console::{Console, lock};
use crate::credentials::Credentials;
use crate::filters::Filters;
use crate::news::Newsroom;
use crate::place::Place;
use crate::reaper::Reaper;
use crate::shutdown;

/// What all parts of PID 1 share.
pub struct Shared {
    /// PID 1's voice.
    pub console: Console,
    /// The owner of `waitpid`.
    pub reaper: Reaper,
    /// The cgroup tree.
    pub cgroups: CgroupRoot,
    /// Who is woken when a cgroup meets a limit.
    pub watch: CgroupWatch,
    /// The sets of system calls that manifests name.
    pub syscall_sets: Arc<SyscallSets>,
    /// The filters that were made of them.
    pub filters: Filters,
    /// The secrets that manifests name.
    pub credentials: Credentials,
    /// Where the box is.
    pub place: Place,
    /// `/dev/null`, every service's standard input.
    pub null: OwnedFd,
    /// Counts every change of anything that others see.
    pub changes: watch::Sender<u64>,
    /// Counts what appears below `/dev`.
    pub devices: watch::Sender<u64>,
    /// Counts how often the clock was set.
    pub clock: watch::Sender<u64>,
    /// Services whose timers want them to run.
    pub wishes: Wishes,
    /// Whether services are heard on the machine's console.
    pub echo_services: bool,
    /// Where requests to go down arrive.
    pub shutdown: Arc<shutdown::Requests>,
    /// Where what happens is told to those who listen.
    pub news: Newsroom,
}

impl Shared {
    /// Says that something has changed.
    pub fn changed(&self) {
        self.changes.send_modify(|generation| *generation += 1);
    }
}

/// Names of services that are to be started; each once, however often it is wished for.
#[derive(Default)]
pub struct Wishes {
    names: Mutex<BTreeSet<String>>,
    added: Notify,
}

impl Wishes {
    /// Wishes for a service.
    pub fn add(&self, name: &str) {
        lock(&self.names).insert(name.to_owned());
        self.added.notify_one();
    }

    /// Waits for the next one.
    pub async fn next(&self) -> String {
        loop {
            if let Some(name) = lock(&self.names).pop_first() {
                return name;
            }
            self.added.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_wish_is_granted_once() {
        let wishes = Wishes::default();
        wishes.add("b");
        wishes.add("a");
        wishes.add("a");
        assert_eq!(
            (wishes.next().await, wishes.next().await),
            ("a".into(), "b".into())
        );
        let none = tokio::time::timeout(std::time::Duration::from_millis(20), wishes.next());
        assert!(none.await.is_err());
    }
}
