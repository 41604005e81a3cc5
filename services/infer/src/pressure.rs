//! Hears from the kernel when memory is short (PSI: pressure stall information).
//!
//! Two files say so: that of the process' own control group, where it can be seen, and the machine's. The
//! latter also tells of a service that meets its own limit, which nothing that is given up here would help:
//! it counts when little of the machine's memory is available. Where there is neither, nobody is told.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use crate::group::Group;
use crate::memory::Limits;

/// 150 ms of waiting by some thread within 2 s, in microseconds, as `systemd` has it for its services. The
/// window must be a multiple of 2 s for those without privileges. The zero is part of it.
const TRIGGER: &[u8] = b"some 150000 2000000\0";

/// What is watched.
pub struct Watch {
    limits: Limits,
    own: Option<File>,
    machine: Option<File>,
}

impl Watch {
    /// Sets a trigger on each file that there is, and that takes one.
    #[must_use]
    pub fn new(limits: &Limits) -> Self {
        let root = &limits.root;
        let own = Group::own(root).memory_pressure();
        Self {
            own: own.and_then(|path| trigger(&path).ok()),
            machine: trigger(&root.join("proc/pressure/memory")).ok(),
            limits: limits.clone(),
        }
    }

    /// What is watched, in words; None for nothing.
    #[must_use]
    pub fn of(&self) -> Option<&'static str> {
        match (&self.own, &self.machine) {
            (Some(_), Some(_)) => Some("its control group's and the machine's"),
            (Some(_), None) => Some("its control group's"),
            (None, Some(_)) => Some("the machine's"),
            (None, None) => None,
        }
    }

    /// Starts a thread that calls `tell` each time that memory is short.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start(mut self, tell: impl Fn() + Send + 'static) -> io::Result<()> {
        let run = move || {
            while let Ok(short) = self.wait() {
                if short {
                    tell();
                }
            }
        };
        let thread = std::thread::Builder::new().name("pressure".to_owned());
        thread.spawn(run).map(drop)
    }

    /// Waits for the kernel; says whether memory is short. A file whose group is gone is watched no more.
    ///
    /// # Errors
    /// When there is nothing to wait for.
    fn wait(&mut self) -> io::Result<bool> {
        let files = [&self.own, &self.machine].map(Option::as_ref);
        let mut polled: Vec<_> = (files.iter().flatten())
            .map(|file| PollFd::new(*file, PollFlags::PRI))
            .collect();
        if polled.is_empty() {
            return Err(io::ErrorKind::NotFound.into());
        }
        match poll(&mut polled, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let mut told = polled.iter().map(PollFd::revents);
        let mut of = |file: Option<&File>| match file {
            Some(_) => told.next().unwrap_or(PollFlags::empty()),
            None => PollFlags::empty(),
        };
        let [own, machine] = files.map(&mut of);
        let gone = |told: PollFlags| told.intersects(PollFlags::ERR | PollFlags::NVAL);
        if gone(own) {
            self.own = None;
        }
        if gone(machine) {
            self.machine = None;
        }
        let fired = |told: PollFlags| told.contains(PollFlags::PRI) && !gone(told);
        Ok(fired(own) || fired(machine) && self.limits.machine_is_short())
    }
}

fn trigger(path: &Path) -> io::Result<File> {
    let mut file = File::options().read(true).write(true).open(path)?;
    match file.write(TRIGGER)? {
        written if written == TRIGGER.len() => Ok(file),
        _ => Err(io::ErrorKind::WriteZero.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn triggers_are_set_where_there_are_files() {
        let root = tempfile::tempdir().unwrap();
        let limits = Limits {
            configured: None,
            root: root.path().to_owned(),
        };
        let watch = Watch::new(&limits);
        assert_eq!(watch.of(), None);
        // It ends at once.
        watch.start(|| panic!("nobody can have told")).unwrap();
        for (directory, file) in [
            ("proc/pressure", "memory"),
            ("sys/fs/cgroup/a", "memory.pressure"),
        ] {
            let directory = root.path().join(directory);
            std::fs::create_dir_all(&directory).unwrap();
            std::fs::write(directory.join(file), "").unwrap();
        }
        assert_eq!(Watch::new(&limits).of(), Some("the machine's"));
        std::fs::create_dir_all(root.path().join("proc/self")).unwrap();
        std::fs::write(root.path().join("proc/self/cgroup"), "0::/a\n").unwrap();
        let both = Some("its control group's and the machine's");
        assert_eq!(Watch::new(&limits).of(), both);
        let own = std::fs::read(root.path().join("sys/fs/cgroup/a/memory.pressure"));
        assert_eq!(own.unwrap(), TRIGGER);
    }

    /// The same file of the processor's, whose waiting a test can cause.
    #[test]
    fn the_kernel_tells_of_waiting() {
        let root = tempfile::tempdir().unwrap();
        let limits = Limits {
            configured: None,
            root: root.path().to_owned(),
        };
        let Ok(machine) = trigger(Path::new("/proc/pressure/cpu")) else {
            return eprintln!("skipped: no PSI here");
        };
        let mut watch = Watch {
            limits,
            own: None,
            machine: Some(machine),
        };
        let done = std::sync::atomic::AtomicBool::new(false);
        let threads = 2 * std::thread::available_parallelism().map_or(4, usize::from);
        let told = std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    while !done.load(std::sync::atomic::Ordering::Relaxed) {
                        std::hint::spin_loop();
                    }
                });
            }
            let told = watch.wait();
            done.store(true, std::sync::atomic::Ordering::Relaxed);
            told
        });
        assert!(told.unwrap());
    }
}
