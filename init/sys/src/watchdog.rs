//! The hardware watchdog: a timer beside the processor that resets the machine when nobody has fed
//! it for a while.
//!
//! Opening its device starts it. It is never told to stop: the driver takes a close without the
//! letter `V` for a crash, which is what it is there for.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::{SysError, Told};
use crate::kernel_file;

/// `_IOWR('W', 6, int)`, the same number on all architectures of kOS. Source:
/// include/uapi/linux/watchdog.h of the kernel.
const WDIOC_SETTIMEOUT: u32 = 0xc004_5706;

/// `WDIOF_CARDRESET`: the last reset was the watchdog's.
const CARD_RESET: u64 = 0x20;

/// More watchdogs than a board has, so that a listing ends.
const MAX_WATCHDOGS: usize = 16;

/// A watchdog that the machine has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// What its driver calls it.
    pub identity: String,
    /// Whether it was what reset the machine before this boot.
    pub fired: bool,
    node: PathBuf,
}

impl Found {
    /// Looks for the watchdog of this identity, and takes the first that is there when there is
    /// none of it; `None` when the machine has no watchdog.
    ///
    /// # Errors
    /// The watchdogs cannot be listed.
    pub fn find(
        sys_root: &Path,
        dev_root: &Path,
        identity: Option<&str>,
    ) -> Result<Option<Self>, SysError> {
        let directory = sys_root.join("class/watchdog");
        let listing = match std::fs::read_dir(&directory) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            other => other.told("list", directory.display())?,
        };
        let mut names = Vec::new();
        for entry in listing.take(MAX_WATCHDOGS) {
            names.push(entry.told("list", directory.display())?.file_name());
        }
        // Their numbers are the order in which the kernel found them.
        names.sort();
        let mut first = None;
        for name in names {
            let attributes = directory.join(&name);
            let Ok(text) = kernel_file::read(&attributes.join("identity")) else {
                continue;
            };
            let found = Found {
                identity: text.trim().to_owned(),
                fired: kernel_file::read_number(&attributes.join("bootstatus"))
                    .is_ok_and(|status| status & CARD_RESET != 0),
                node: dev_root.join(&name),
            };
            if identity == Some(found.identity.as_str()) {
                return Ok(Some(found));
            }
            first = first.or(Some(found));
        }
        Ok(first)
    }

    /// Starts it.
    ///
    /// # Errors
    /// Somebody else has it, or it cannot wait that long.
    pub fn arm(self, timeout: Duration) -> Result<Watchdog, SysError> {
        let device = File::options()
            .write(true)
            .open(&self.node)
            .told("open", self.node.display())?;
        let mut watchdog = Watchdog {
            device,
            identity: self.identity,
            timeout: Duration::ZERO,
        };
        watchdog.set_timeout(timeout)?;
        Ok(watchdog)
    }
}

/// A watchdog that runs.
#[derive(Debug)]
pub struct Watchdog {
    device: File,
    identity: String,
    timeout: Duration,
}

impl Watchdog {
    /// What its driver calls it.
    pub fn identity(&self) -> &str {
        &self.identity
    }

    /// How long it waits, as its driver has taken it.
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Sets how long it waits, in whole seconds, and feeds it.
    ///
    /// # Errors
    /// The hardware cannot wait that long.
    pub fn set_timeout(&mut self, timeout: Duration) -> Result<(), SysError> {
        let subject = || format!("{} to {} s", self.identity, timeout.as_secs());
        let mut seconds = libc::c_int::try_from(timeout.as_secs())
            .map_err(|_| SysError::refused("set", subject(), "that is too long"))?;
        // SAFETY: the request reads and writes one int, which lives until the call returns; the
        // descriptor is open. The request's type differs between C libraries, hence the `into`.
        let result = unsafe {
            libc::ioctl(
                self.device.as_raw_fd(),
                WDIOC_SETTIMEOUT.into(),
                &raw mut seconds,
            )
        };
        if result < 0 {
            return Err(std::io::Error::last_os_error()).told("set", subject());
        }
        self.timeout = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
        // Not every driver takes a new timeout for food.
        self.feed()
    }

    /// Starts its time again.
    ///
    /// # Errors
    /// The device is gone.
    pub fn feed(&mut self) -> Result<(), SysError> {
        // Any byte but `V`, which announces an intended close.
        self.device.write_all(b"k").told("feed", &self.identity)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_found_by_identity_and_else_the_first_is_taken() {
        let root = tempfile::tempdir().unwrap();
        let (sys, dev) = (root.path().join("sys"), root.path().join("dev"));
        let find = |identity| Found::find(&sys, &dev, identity).unwrap();
        assert_eq!(find(None), None);
        for (name, identity, status) in [
            ("watchdog0", "iTCO_wdt\n", "0\n"),
            ("watchdog1", "i6300ESB timer\n", "32\n"),
        ] {
            let attributes = sys.join("class/watchdog").join(name);
            std::fs::create_dir_all(&attributes).unwrap();
            std::fs::write(attributes.join("identity"), identity).unwrap();
            std::fs::write(attributes.join("bootstatus"), status).unwrap();
        }
        let named = find(Some("i6300ESB timer")).unwrap();
        assert!(named.fired);
        assert_eq!(named.node, dev.join("watchdog1"));
        for other in [None, Some("Broadcom BCM2835 Watchdog timer")] {
            let first = find(other).unwrap();
            assert_eq!((first.identity.as_str(), first.fired), ("iTCO_wdt", false));
        }
    }

    #[test]
    fn what_is_no_watchdog_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let node = root.path().join("watchdog0");
        std::fs::write(&node, "").unwrap();
        let found = Found {
            identity: "a file".to_owned(),
            fired: false,
            node,
        };
        let error = found.arm(Duration::from_secs(30)).unwrap_err();
        assert!(error.full().contains("a file to 30 s"), "{}", error.full());
    }
}
