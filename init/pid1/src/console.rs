//! What PID 1 says: on every console of the machine and in its own log ring.
//!
//! A PC has a screen and perhaps a serial line, and who needs the pairing code may stand before
//! either: PID 1 speaks on each console that the kernel uses, not on the preferred one alone.
//!
//! A console that does not take a line (a serial line held by flow control) loses it: PID 1 never
//! waits for a console. The ring keeps every line within its bound.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use crate::logs::{INIT, Log, Logs};

/// PID 1's voice. Cloning gives another handle to the same one.
#[derive(Clone)]
pub struct Console {
    devices: Arc<Mutex<Vec<File>>>,
    logs: Logs,
    log: Log,
}

impl Console {
    /// Speaks into its log only, until [`Console::open`] finds the devices.
    pub fn silent() -> Self {
        let logs = Logs::default();
        Console {
            devices: Arc::new(Mutex::new(Vec::new())),
            log: logs.open(INIT),
            logs,
        }
    }

    /// Opens the machine's consoles, and says there what was said before they could be opened.
    pub fn open(&self) {
        let flags = (rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOCTTY).bits();
        let opened: Vec<File> = active_consoles(Path::new("/sys"))
            .iter()
            .filter_map(|path| {
                OpenOptions::new()
                    .write(true)
                    .custom_flags(i32::try_from(flags).unwrap_or(0))
                    .open(path)
                    .ok()
            })
            .collect();
        // Without a console the box runs all the same; there is nowhere to say so.
        let first = lock(&self.devices).is_empty();
        *lock(&self.devices) = opened;
        if first {
            for line in self.log.lines() {
                self.say_only_aloud(&line);
            }
        }
    }

    /// Says one line, with a syslog severity (3 error, 4 warning, 6 information).
    pub fn say(&self, level: u8, message: &str) {
        self.log.push(level, message);
        self.say_only_aloud(message);
    }

    /// Says one line on the machine's console and keeps it nowhere: a secret for whoever stands
    /// in front of the machine.
    pub fn say_only_aloud(&self, message: &str) {
        let line = format!("kos: {message}\n");
        for device in lock(&self.devices).iter_mut() {
            let _ = device.write_all(line.as_bytes());
        }
    }

    /// PID 1's own log.
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// All logs of the box, PID 1's own among them.
    pub fn logs(&self) -> &Logs {
        &self.logs
    }
}

/// More consoles than any machine has, so that a listing ends.
const MAX_CONSOLES: usize = 8;

/// The consoles that the kernel prints on, as device nodes; `/dev/console` where it does not say.
fn active_consoles(sys_root: &Path) -> Vec<PathBuf> {
    let listing = std::fs::read_to_string(sys_root.join("class/tty/console/active"));
    let names = listing.unwrap_or_default();
    let mut devices: Vec<PathBuf> = names
        .split_ascii_whitespace()
        .filter(|name| !name.contains('/'))
        .take(MAX_CONSOLES)
        .map(|name| Path::new("/dev").join(name))
        .collect();
    if devices.is_empty() {
        devices.push("/dev/console".into());
    }
    devices
}

/// Locks a mutex; a holder that panicked left a value that is still whole for all uses here.
pub fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_console_of_the_kernel_is_spoken_on() {
        let sys = tempfile::tempdir().unwrap();
        assert_eq!(active_consoles(sys.path()), [Path::new("/dev/console")]);
        let directory = sys.path().join("class/tty/console");
        std::fs::create_dir_all(&directory).unwrap();
        std::fs::write(directory.join("active"), "tty0 ttyS0\n").unwrap();
        assert_eq!(
            active_consoles(sys.path()),
            [Path::new("/dev/tty0"), Path::new("/dev/ttyS0")]
        );
    }
}
