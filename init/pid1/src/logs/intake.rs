//! What fills the rings: the pipe of a service, and the kernel's messages.
//!
//! Nobody can make PID 1 work for them without end: a service that writes faster than its
//! allowance waits on its own pipe, loses nothing by that, and its log says so.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::time::Duration;

use tokio::time::Instant;

use super::Log;
use crate::descriptor;
use crate::ring::{LineCutter, severity};

/// What PID 1 takes from one service in a second. A human reads less, a ring holds less; more
/// would let one service's chatter take PID 1's processor from the others.
const BYTES_PER_SECOND: usize = 1024 * 1024;

/// What a line costs of that beside its bytes: a million empty lines are work, too.
const LINE_COST: usize = 64;

/// How often a service that floods on is told of: a line per second would push out its own.
const TOLD_EVERY: Duration = Duration::from_secs(60);

/// Reads what a service writes until its pipe is closed by everybody, which PID 1 itself holds
/// open: for ever.
///
/// # Errors
/// When the pipe cannot be waited for or read.
pub async fn follow_output(pipe: OwnedFd, log: Log, echo: impl Fn(&str)) -> std::io::Result<()> {
    let pipe = descriptor::register(File::from(pipe))?;
    let mut cutter = LineCutter::default();
    let mut allowance = Allowance::new(Instant::now());
    loop {
        let mut guard = pipe.readable().await?;
        let mut lines = 0;
        let take = |line: &str| {
            let (level, message) = severity(line);
            log.push(level, message);
            echo(message);
            lines += 1;
        };
        let read = match guard.try_io(|file| read_once(file.get_ref(), &mut cutter, take)) {
            Ok(Ok(0)) => return Ok(()),
            Ok(Ok(read)) => read,
            Ok(Err(error)) if error.kind() == ErrorKind::Interrupted => continue,
            Ok(Err(error)) => return Err(error),
            Err(_would_block) => continue,
        };
        match allowance.spend(Instant::now(), read + lines * LINE_COST) {
            Some(until) => {
                let now = Instant::now();
                if let Some(told) = allowance.held_back(now, until - now) {
                    log.push(4, &told);
                }
                tokio::time::sleep_until(until).await;
            }
            // One busy service is one among many: the others' turn.
            None => tokio::task::yield_now().await,
        }
    }
}

/// One read, and its lines; says how many bytes it was. The buffer is the stack's, because one for
/// each service would be most of what PID 1 holds for it.
fn read_once(
    mut file: &File,
    cutter: &mut LineCutter,
    take: impl FnMut(&str),
) -> std::io::Result<usize> {
    let mut buffer = [0; 16 * 1024];
    let read = file.read(&mut buffer)?;
    cutter.feed(buffer.get(..read).unwrap_or_default(), take);
    Ok(read)
}

/// What is left of a service's second, and what is to be said of its waiting.
struct Allowance {
    second: Instant,
    left: usize,
    told: Option<Instant>,
    times: u64,
    waited: Duration,
}

impl Allowance {
    fn new(now: Instant) -> Self {
        Allowance {
            second: now,
            left: BYTES_PER_SECOND,
            told: None,
            times: 0,
            waited: Duration::ZERO,
        }
    }

    /// Takes what was read; gives when to go on if there is nothing left.
    fn spend(&mut self, now: Instant, cost: usize) -> Option<Instant> {
        let second = Duration::from_secs(1);
        if now.duration_since(self.second) >= second {
            self.second = now;
            self.left = BYTES_PER_SECOND;
        }
        self.left = self.left.saturating_sub(cost);
        (self.left == 0).then(|| self.second + second)
    }

    /// Notes a wait; gives the sentence for the log when it is time for one.
    fn held_back(&mut self, now: Instant, wait: Duration) -> Option<String> {
        self.times += 1;
        self.waited += wait;
        let is_due = self
            .told
            .is_none_or(|told| now.duration_since(told) >= TOLD_EVERY);
        is_due.then(|| {
            self.told = Some(now);
            let (times, waited) = (
                std::mem::take(&mut self.times),
                std::mem::take(&mut self.waited),
            );
            format!(
                "(held back {times} times, {} ms in all: more than {} KiB of output in a second)",
                waited.as_millis(),
                BYTES_PER_SECOND / 1024
            )
        })
    }
}

/// Reads the kernel's messages for ever, from the first that it still has.
///
/// # Errors
/// When `/dev/kmsg` cannot be opened, waited for or read.
pub async fn follow_kernel(log: Log) -> std::io::Result<()> {
    let flags = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or(0);
    let device = std::fs::OpenOptions::new()
        .read(true)
        .custom_flags(flags)
        .open("/dev/kmsg")?;
    let device = descriptor::register(device)?;
    // One record per read; a record is at most 8 KiB or so by the kernel's own bound.
    let mut buffer = vec![0; 16 * 1024];
    let mut expected = None;
    loop {
        let mut guard = device.readable().await?;
        match guard.try_io(|file| file.get_ref().read(&mut buffer)) {
            Ok(Ok(read)) => {
                let record = String::from_utf8_lossy(buffer.get(..read).unwrap_or_default());
                if let Some(record) = KernelRecord::parse(&record) {
                    if let Some(lost) = record.lost_before(expected) {
                        log.push(
                            4,
                            &format!("({lost} messages lost: the kernel overwrote them)"),
                        );
                    }
                    expected = Some(record.sequence + 1);
                    log.push(record.level, record.message);
                }
            }
            // EPIPE: the kernel's own ring went over what we had not read; the next record's
            // number says how much.
            Ok(Err(error)) if error.kind() == ErrorKind::BrokenPipe => {}
            Ok(Err(error)) if error.kind() == ErrorKind::Interrupted => {}
            Ok(Err(error)) => return Err(error),
            Err(_would_block) => {}
        }
        tokio::task::yield_now().await;
    }
}

/// A `/dev/kmsg` record: `6,339,5140900,-;message`, continuation lines behind it.
///
/// Source: Documentation/ABI/testing/dev-kmsg of the kernel.
#[derive(Debug, PartialEq, Eq)]
struct KernelRecord<'a> {
    level: u8,
    sequence: u64,
    message: &'a str,
}

impl<'a> KernelRecord<'a> {
    fn parse(record: &'a str) -> Option<Self> {
        let (prefix, text) = record.split_once(';')?;
        let mut numbers = prefix.split(',');
        let priority: u32 = numbers.next()?.parse().ok()?;
        Some(KernelRecord {
            level: u8::try_from(priority & 7).ok()?,
            sequence: numbers.next()?.parse().ok()?,
            message: text.lines().next().unwrap_or_default(),
        })
    }

    /// How many records are missing before this one, when any are. The first ever read may have
    /// any number: those before it were gone before there was a reader.
    fn lost_before(&self, expected: Option<u64>) -> Option<u64> {
        let lost = self.sequence.checked_sub(expected.unwrap_or(0))?;
        (lost > 0).then_some(lost)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_records() {
        let text = "6,339,5140900,-;NET: Registered PF_INET6\n SUBSYSTEM=net\n";
        let record = KernelRecord::parse(text).unwrap();
        assert_eq!(
            (record.level, record.message),
            (6, "NET: Registered PF_INET6")
        );
        assert_eq!(record.lost_before(Some(339)), None);
        assert_eq!(record.lost_before(Some(300)), Some(39));
        assert_eq!(KernelRecord::parse("30,1,2,-;daemon").unwrap().level, 6);
        assert_eq!(KernelRecord::parse("garbage"), None);
        assert_eq!(KernelRecord::parse("6;no number"), None);
    }

    #[test]
    fn a_flood_waits_for_its_second_and_is_told_of_now_and_then() {
        let start = Instant::now();
        let mut allowance = Allowance::new(start);
        assert_eq!(allowance.spend(start, BYTES_PER_SECOND - 1), None);
        let until = allowance.spend(start, 100).unwrap();
        assert_eq!(until, start + Duration::from_secs(1));
        let told = allowance
            .held_back(start, Duration::from_millis(900))
            .unwrap();
        assert!(
            told.starts_with("(held back 1 times, 900 ms in all"),
            "{told}"
        );
        assert_eq!(allowance.spend(until, 100), None);
        let soon = start + Duration::from_secs(30);
        assert_eq!(allowance.held_back(soon, Duration::from_secs(1)), None);
        let later = start + Duration::from_secs(61);
        let told = allowance.held_back(later, Duration::from_secs(1)).unwrap();
        assert!(
            told.starts_with("(held back 2 times, 2000 ms in all"),
            "{told}"
        );
    }
}
