//! Triggers of pressure stall information: the kernel wakes us when a cgroup's processes have waited
//! too long for memory, a processor or a disk.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::path::Path;
use std::time::Duration;

use crate::error::{SysError, Told};

/// A trigger. It wakes `POLLPRI` (tokio: `Interest::PRIORITY`) when it fires, at most once per window,
/// and `POLLERR` when its cgroup is gone; dropped, it is gone itself.
#[derive(Debug)]
pub struct Trigger {
    file: File,
}

impl Trigger {
    /// Sets a trigger on a pressure file (`memory.pressure` of a cgroup): more than `threshold` of
    /// waiting within `window`, by some of the threads or, with `all`, by all of them at once. The
    /// kernel wants windows of 500 ms to 10 s; without `CAP_SYS_RESOURCE` only multiples of 2 s.
    ///
    /// # Errors
    /// The kernel has no PSI (the file is missing, or `EOPNOTSUPP` with `psi=0`) or refuses the times.
    pub fn open(
        path: &Path,
        all: bool,
        threshold: Duration,
        window: Duration,
    ) -> Result<Self, SysError> {
        let text = line(all, threshold, window);
        let subject = || format!("'{text}' to {}", path.display());
        let mut file = File::options()
            .read(true)
            .write(true)
            .open(path)
            .told("write", subject())?;
        // The end of the string is part of it: the kernel cuts off the last byte.
        let bytes = [text.as_bytes(), b"\0"].concat();
        let written = file.write(&bytes).told("write", subject())?;
        if written != bytes.len() {
            let reason = format!("it took {written} bytes of {}", bytes.len());
            return Err(SysError::refused("write", subject(), reason));
        }
        Ok(Trigger { file })
    }
}

impl AsFd for Trigger {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl AsRawFd for Trigger {
    fn as_raw_fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }
}

fn line(all: bool, threshold: Duration, window: Duration) -> String {
    let level = if all { "full" } else { "some" };
    format!("{level} {} {}", threshold.as_micros(), window.as_micros())
}

#[cfg(test)]
mod tests {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    use super::*;

    #[test]
    fn a_trigger_is_what_the_kernel_reads() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("memory.pressure");
        let (threshold, window) = (Duration::from_millis(150), Duration::from_secs(2));
        assert!(Trigger::open(&path, false, threshold, window).is_err());
        std::fs::write(&path, "").unwrap();
        Trigger::open(&path, true, threshold, window).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text, "full 150000 2000000\0");
    }

    /// On the whole machine's processors, which this test keeps busy with more than there are.
    #[test]
    fn a_machine_that_waits_wakes_its_trigger() {
        let path = Path::new("/proc/pressure/cpu");
        let (threshold, window) = (Duration::from_millis(1), Duration::from_millis(500));
        let trigger = match Trigger::open(path, false, threshold, window) {
            Ok(trigger) => trigger,
            Err(error) => return eprintln!("skipped: {}", error.full()),
        };
        let done = std::sync::atomic::AtomicBool::new(false);
        let threads = 2 * std::thread::available_parallelism().map_or(4, usize::from);
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    while !done.load(std::sync::atomic::Ordering::Relaxed) {
                        std::hint::spin_loop();
                    }
                });
            }
            let limit = Timespec {
                tv_sec: 60,
                tv_nsec: 0,
            };
            let mut ready = [PollFd::new(&trigger, PollFlags::PRI)];
            let count = poll(&mut ready, Some(&limit));
            done.store(true, std::sync::atomic::Ordering::Relaxed);
            assert_eq!(count, Ok(1));
            assert_eq!(ready[0].revents(), PollFlags::PRI);
        });
    }
}
