//! Log rings that can be written, read and waited on, and the tasks that fill them.
//!
//! One ring per service, one for the kernel, one for PID 1. Nothing here grows without bound: a
//! ring has its bytes, a line has its length, and a service that writes faster than
//! [`BYTES_PER_SECOND`] waits on its own pipe.

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use kos_manifest::control::LogPage;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::console::lock;
use crate::descriptor;
use crate::ring::{LineCutter, Ring, severity};

/// Ring of one service: 256 KiB hold some three thousand lines, the last minutes of a busy one.
pub const SERVICE_RING_BYTES: usize = 256 * 1024;

/// Ring of the kernel: a whole boot's messages fit.
pub const KERNEL_RING_BYTES: usize = 256 * 1024;

/// What PID 1 reads from one service in a second. A human reads less, a ring holds less; more
/// would let one service's chatter take PID 1's processor from the others.
const BYTES_PER_SECOND: usize = 1024 * 1024;

/// Most lines in one answer.
const MAX_PAGE: usize = 1000;

/// A log that many may read and wait on. Cloning gives another handle to the same one.
#[derive(Clone)]
pub struct Log {
    ring: Arc<Mutex<Ring>>,
    grown: watch::Sender<()>,
}

impl Log {
    /// An empty log of at most `capacity` bytes.
    pub fn new(capacity: usize) -> Self {
        Log {
            ring: Arc::new(Mutex::new(Ring::new(capacity))),
            grown: watch::Sender::new(()),
        }
    }

    /// Adds a line.
    pub fn push(&self, level: u8, message: &str) {
        let time = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or(Duration::ZERO);
        let time_unix_ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        lock(&self.ring).push(time_unix_ms, level, message);
        self.grown.send_replace(());
    }

    /// All lines that the ring holds.
    pub fn lines(&self) -> Vec<String> {
        let page = lock(&self.ring).page(0, MAX_PAGE);
        page.entries
            .into_iter()
            .map(|entry| entry.message)
            .collect()
    }

    /// Lines from `cursor` on; when there are none yet, waits for up to `wait`.
    pub async fn read(&self, cursor: u64, max: usize, wait: Duration) -> LogPage {
        let mut grown = self.grown.subscribe();
        if !wait.is_zero() && !lock(&self.ring).has(cursor) {
            let _ = tokio::time::timeout(wait, grown.changed()).await;
        }
        lock(&self.ring).page(cursor, max.min(MAX_PAGE))
    }
}

/// Reads what a service writes until its pipe is closed by everybody, which PID 1 itself holds
/// open: for ever.
///
/// # Errors
/// When the pipe cannot be waited for or read.
pub async fn follow_output(pipe: OwnedFd, log: Log, echo: impl Fn(&str)) -> std::io::Result<()> {
    let pipe = descriptor::register(File::from(pipe))?;
    let mut cutter = LineCutter::default();
    let mut buffer = vec![0; 16 * 1024];
    let mut second = Instant::now();
    let mut budget = BYTES_PER_SECOND;
    loop {
        let mut guard = pipe.readable().await?;
        let read = match guard.try_io(|file| file.get_ref().read(&mut buffer)) {
            Ok(Ok(0)) => return Ok(()),
            Ok(Ok(read)) => read,
            Ok(Err(error)) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Ok(Err(error)) => return Err(error),
            Err(_would_block) => continue,
        };
        cutter.feed(buffer.get(..read).unwrap_or_default(), |line| {
            let (level, message) = severity(line);
            log.push(level, message);
            echo(message);
        });
        if second.elapsed() >= Duration::from_secs(1) {
            second = Instant::now();
            budget = BYTES_PER_SECOND;
        }
        budget = budget.saturating_sub(read);
        if budget == 0 {
            tokio::time::sleep_until(second + Duration::from_secs(1)).await;
        } else {
            // One busy service is one among many: the others' turn.
            tokio::task::yield_now().await;
        }
    }
}

/// Reads the kernel's messages for ever, from the first that it still has.
pub async fn follow_kernel(log: Log) -> std::io::Result<()> {
    let flags = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or(0);
    let device = std::fs::OpenOptions::new()
        .read(true)
        .custom_flags(flags)
        .open("/dev/kmsg")?;
    let device = descriptor::register(device)?;
    // One record per read; a record is at most 8 KiB or so by the kernel's own bound.
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let mut guard = device.readable().await?;
        match guard.try_io(|file| file.get_ref().read(&mut buffer)) {
            Ok(Ok(read)) => {
                let record = String::from_utf8_lossy(buffer.get(..read).unwrap_or_default());
                if let Some((level, message)) = kernel_record(&record) {
                    log.push(level, message);
                }
            }
            // EPIPE: the kernel's own ring went over what we had not read; the next read goes on.
            Ok(Err(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => {
                log.push(
                    4,
                    "(messages lost: the kernel wrote faster than they were read)",
                );
            }
            Ok(Err(error)) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Ok(Err(error)) => return Err(error),
            Err(_would_block) => {}
        }
        tokio::task::yield_now().await;
    }
}

/// Takes a `/dev/kmsg` record (`6,339,5140900,-;message`, continuation lines behind it) apart.
///
/// Source: Documentation/ABI/testing/dev-kmsg of the kernel.
fn kernel_record(record: &str) -> Option<(u8, &str)> {
    let (prefix, text) = record.split_once(';')?;
    let priority: u32 = prefix.split(',').next()?.parse().ok()?;
    let level = u8::try_from(priority & 7).ok()?;
    Some((level, text.lines().next().unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_records() {
        let record = "6,339,5140900,-;NET: Registered PF_INET6\n SUBSYSTEM=net\n";
        assert_eq!(kernel_record(record), Some((6, "NET: Registered PF_INET6")));
        assert_eq!(kernel_record("30,1,2,-;daemon"), Some((6, "daemon")));
        assert_eq!(kernel_record("garbage"), None);
    }

    #[tokio::test]
    async fn a_reader_waits_for_the_next_line() {
        let log = Log::new(4096);
        let reader = tokio::spawn({
            let log = log.clone();
            async move { log.read(0, 10, Duration::from_secs(60)).await }
        });
        tokio::task::yield_now().await;
        log.push(6, "hello");
        assert_eq!(reader.await.unwrap().entries[0].message, "hello");
    }
}
