//! `sd_notify` as PID 1 hears it: bounded datagrams of `KEY=value` lines from a program that is
//! not trusted.

/// Longest `STATUS=` kept, in characters: a line on the console.
const MAX_STATUS: usize = 256;

/// What a service said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notification {
    /// `READY=1`
    Ready,
    /// `STATUS=…`, without control characters.
    Status(String),
}

/// Takes a datagram apart. Keys that PID 1 does not act on are passed over, as sd_notify demands.
pub fn parse(datagram: &[u8]) -> Vec<Notification> {
    let text = String::from_utf8_lossy(datagram);
    let mut status = None;
    let mut ready = false;
    for line in text.lines() {
        match line.split_once('=') {
            Some(("READY", "1")) => ready = true,
            Some(("STATUS", text)) => {
                let shown = text
                    .chars()
                    .filter(|letter| !letter.is_control())
                    .take(MAX_STATUS);
                status = Some(Notification::Status(shown.collect()));
            }
            _ => {}
        }
    }
    // At most one of each, whatever the datagram repeats.
    status
        .into_iter()
        .chain(ready.then_some(Notification::Ready))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_keys_are_heard_and_others_passed_over() {
        let heard = parse(b"READY=1\nSTATUS=serving\nWATCHDOG=1\nX\n=\n");
        assert_eq!(
            heard,
            [
                Notification::Status("serving".to_owned()),
                Notification::Ready
            ]
        );
        assert_eq!(parse(b"READY=0"), []);
    }

    #[test]
    fn a_flood_in_one_datagram_is_two_notifications_at_most() {
        let datagram = b"READY=1\nSTATUS=x\x1b[2J\n".repeat(100);
        assert_eq!(parse(&datagram).len(), 2);
        assert_eq!(parse(&datagram)[0], Notification::Status("x[2J".to_owned()));
        let long = format!("STATUS={}", "y".repeat(10_000));
        assert_eq!(
            parse(long.as_bytes()),
            [Notification::Status("y".repeat(MAX_STATUS))]
        );
    }

    #[test]
    fn bytes_that_are_not_text_do_no_harm() {
        assert_eq!(parse(b"\xff\xfe\0"), []);
    }
}
