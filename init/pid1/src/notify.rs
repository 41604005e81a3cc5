//! `sd_notify` as PID 1 hears it: bounded datagrams of `KEY=value` lines from a program that is
//! not trusted.

use std::time::Duration;

use tokio::time::Instant;

/// Longest `STATUS=` kept, in characters: a line on the console.
const MAX_STATUS: usize = 256;

/// Datagrams heard from one service in a second. A watchdog and a progress bar need less; what is
/// sent faster waits in the socket, and then in the sender.
const PER_SECOND: u32 = 64;

/// What a service said in one datagram: each key at most once, whatever the datagram repeats.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Said {
    /// `READY=1`
    pub ready: bool,
    /// `RELOADING=1`
    pub reloading: bool,
    /// `STOPPING=1`
    pub stopping: bool,
    /// `STATUS=…`, without control characters.
    pub status: Option<String>,
    /// `WATCHDOG=1`
    pub alive: bool,
    /// `WATCHDOG=trigger`
    pub hangs: bool,
    /// `WATCHDOG_USEC=…`
    pub watchdog: Option<Duration>,
    /// `EXTEND_TIMEOUT_USEC=…`
    pub extend: Option<Duration>,
}

/// Takes a datagram apart. Keys that PID 1 does not act on are passed over, as sd_notify demands.
pub fn parse(datagram: &[u8]) -> Said {
    let text = String::from_utf8_lossy(datagram);
    let mut said = Said::default();
    for line in text.lines() {
        match line.split_once('=') {
            Some(("READY", "1")) => said.ready = true,
            Some(("RELOADING", "1")) => said.reloading = true,
            Some(("STOPPING", "1")) => said.stopping = true,
            Some(("STATUS", text)) => {
                let shown = text
                    .chars()
                    .filter(|letter| !letter.is_control())
                    .take(MAX_STATUS);
                said.status = Some(shown.collect());
            }
            Some(("WATCHDOG", "1")) => said.alive = true,
            Some(("WATCHDOG", "trigger")) => said.hangs = true,
            Some(("WATCHDOG_USEC", text)) => said.watchdog = microseconds(text),
            Some(("EXTEND_TIMEOUT_USEC", text)) => said.extend = microseconds(text),
            _ => {}
        }
    }
    said
}

fn microseconds(text: &str) -> Option<Duration> {
    text.parse().ok().map(Duration::from_micros)
}

/// How much of a service PID 1 still hears in this second.
#[derive(Debug)]
pub struct Budget {
    left: u32,
    second: Instant,
}

impl Budget {
    /// A whole one.
    pub fn new(now: Instant) -> Self {
        Budget {
            left: PER_SECOND,
            second: now,
        }
    }

    /// Takes one datagram from it; says whether there was one left.
    pub fn take(&mut self, now: Instant) -> bool {
        if now.duration_since(self.second) >= Duration::from_secs(1) {
            *self = Budget::new(now);
        }
        let some = self.left > 0;
        self.left = self.left.saturating_sub(1);
        some
    }

    /// When it is whole again; `None` while something is left, or when that is now.
    pub fn exhausted_until(&self, now: Instant) -> Option<Instant> {
        let whole = self.second + Duration::from_secs(1);
        (self.left == 0 && whole > now).then_some(whole)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_keys_are_heard_and_others_passed_over() {
        let said = parse(b"READY=1\nSTATUS=serving\nWATCHDOG=1\nX\n=\nEXTEND_TIMEOUT_USEC=7000000");
        assert_eq!(
            said,
            Said {
                ready: true,
                status: Some("serving".to_owned()),
                alive: true,
                extend: Some(Duration::from_secs(7)),
                ..Said::default()
            }
        );
        assert_eq!(
            parse(b"READY=0\nWATCHDOG=2\nWATCHDOG_USEC=-1"),
            Said::default()
        );
        assert!(parse(b"WATCHDOG=trigger").hangs);
    }

    #[test]
    fn a_status_is_short_and_printable() {
        let datagram = b"READY=1\nSTATUS=x\x1b[2J\n".repeat(100);
        assert_eq!(parse(&datagram).status.unwrap(), "x[2J");
        let long = format!("STATUS={}", "y".repeat(10_000));
        assert_eq!(
            parse(long.as_bytes()).status.unwrap(),
            "y".repeat(MAX_STATUS)
        );
    }

    #[test]
    fn bytes_that_are_not_text_do_no_harm() {
        assert_eq!(parse(b"\xff\xfe\0"), Said::default());
    }

    #[test]
    fn a_flood_is_heard_so_far_and_then_in_the_next_second() {
        let now = Instant::now();
        let mut budget = Budget::new(now);
        for _ in 0..PER_SECOND {
            assert_eq!(budget.exhausted_until(now), None);
            assert!(budget.take(now));
        }
        assert!(!budget.take(now));
        let next = budget.exhausted_until(now).unwrap();
        assert_eq!(next, now + Duration::from_secs(1));
        assert_eq!(budget.exhausted_until(next), None);
        assert!(budget.take(next));
    }
}
