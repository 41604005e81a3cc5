//! What PID 1 says: on the machine's console and in its own log ring.
//!
//! A console that does not take a line (a serial line held by flow control) loses it: PID 1 never
//! waits for a console. The ring keeps every line within its bound.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::{Arc, Mutex};

use crate::logs::Log;

/// PID 1's voice. Cloning gives another handle to the same one.
#[derive(Clone)]
pub struct Console {
    device: Arc<Mutex<Option<File>>>,
    log: Log,
}

impl Console {
    /// Speaks into its log only, until [`Console::open`] finds the device.
    pub fn silent() -> Self {
        Console {
            device: Arc::new(Mutex::new(None)),
            log: Log::new(INIT_RING_BYTES),
        }
    }

    /// Opens the machine's console, and says there what was said before it could be opened.
    pub fn open(&self) {
        let flags = (rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOCTTY).bits();
        let opened = OpenOptions::new()
            .write(true)
            .custom_flags(i32::try_from(flags).unwrap_or(0))
            .open("/dev/console");
        // Without a console the box runs all the same; there is nowhere to say so.
        let first = lock(&self.device).is_none();
        *lock(&self.device) = opened.ok();
        if first {
            for line in self.log.lines() {
                self.say_only_aloud(&line);
            }
        }
    }

    /// Says one line, with a syslog severity (3 error, 4 warning, 6 information).
    pub fn say(&self, level: u8, message: &str) {
        self.log.push(level, message);
        if let Some(device) = lock(&self.device).as_mut() {
            let _ = device.write_all(format!("kos: {message}\n").as_bytes());
        }
    }

    /// Says one line on the machine's console and keeps it nowhere: a secret for whoever stands
    /// in front of the machine.
    pub fn say_only_aloud(&self, message: &str) {
        if let Some(device) = lock(&self.device).as_mut() {
            let _ = device.write_all(format!("kos: {message}\n").as_bytes());
        }
    }

    /// PID 1's own log.
    pub fn log(&self) -> &Log {
        &self.log
    }
}

/// 256 KiB: some three thousand lines of PID 1 about itself, weeks of a calm box.
const INIT_RING_BYTES: usize = 256 * 1024;

/// Locks a mutex; a holder that panicked left a value that is still whole for all uses here.
pub fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}
