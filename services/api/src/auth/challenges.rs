//! Nonces that wait for the owner's signature: random, bounded in number and time, each good for
//! one try, right or wrong.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::tries::network;

/// How long a nonce waits: enough to copy it into another terminal by hand.
pub const LIFETIME: Duration = Duration::from_secs(120);
/// Nonces that wait at one time.
const IN_ALL: usize = 32;
/// Of these, the ones of one peer; its oldest makes room for one more. A stranger who asks without
/// end pushes out only his own.
const PER_PEER: usize = 4;
/// Bytes of a nonce.
const BYTES: usize = 32;

/// Every nonce that waits, the oldest first.
#[derive(Default)]
pub struct Challenges {
    waiting: VecDeque<Challenge>,
}

struct Challenge {
    nonce: String,
    peer: IpAddr,
    until: Instant,
}

/// Why there is no new nonce.
#[derive(Debug, PartialEq, Eq)]
pub enum Refusal {
    /// As many wait as may; the oldest is over in so many seconds.
    Full(u64),
    /// The kernel has no random numbers.
    NoRandomness(String),
}

impl Challenges {
    /// A new nonce for a peer.
    ///
    /// # Errors
    /// When too many peers have one that waits.
    pub fn issue(&mut self, peer: IpAddr, now: Instant) -> Result<String, Refusal> {
        self.forget_old(now);
        let peer = network(peer);
        let own = self.waiting.iter().filter(|one| one.peer == peer).count();
        if own >= PER_PEER
            && let Some(oldest) = self.waiting.iter().position(|one| one.peer == peer)
        {
            self.waiting.remove(oldest);
        }
        if let Some(oldest) = self.waiting.front()
            && self.waiting.len() >= IN_ALL
        {
            let left = oldest.until.saturating_duration_since(now);
            return Err(Refusal::Full(left.as_secs() + 1));
        }
        let mut bytes = [0; BYTES];
        getrandom::fill(&mut bytes).map_err(|error| Refusal::NoRandomness(error.to_string()))?;
        let nonce = base64url(&bytes);
        self.waiting.push_back(Challenge {
            nonce: nonce.clone(),
            peer,
            until: now + LIFETIME,
        });
        Ok(nonce)
    }

    /// Takes a nonce away; false when it does not wait: never given, used, or too old. Whoever
    /// answers may have another address than whoever asked: a laptop changes its network, and the
    /// signature says more than an address.
    pub fn take(&mut self, nonce: &str, now: Instant) -> bool {
        self.forget_old(now);
        let found = self.waiting.iter().position(|one| one.nonce == nonce);
        found.is_some_and(|index| self.waiting.remove(index).is_some())
    }

    fn forget_old(&mut self, now: Instant) {
        self.waiting.retain(|one| one.until > now);
    }
}

/// The URL-safe alphabet of RFC 4648, section 5, without padding.
fn base64url(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let mut bits = 0;
        for index in 0..3 {
            bits = bits << 8 | u32::from(group.get(index).copied().unwrap_or(0));
        }
        // One byte fills two letters, two fill three, three fill four.
        for letter in 0..=group.len() {
            let index = bits >> (18 - 6 * letter) & 63;
            text.push(char::from(ALPHABET[index as usize]));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    #[test]
    fn a_nonce_is_good_once_and_for_two_minutes() {
        let mut challenges = Challenges::default();
        let start = Instant::now();
        let nonce = challenges.issue(PEER, start).unwrap();
        assert_eq!(nonce.len(), 43);
        assert!(!challenges.take("", start));
        assert!(challenges.take(&nonce, start));
        assert!(!challenges.take(&nonce, start));
        let late = challenges.issue(PEER, start).unwrap();
        assert_ne!(late, nonce);
        assert!(!challenges.take(&late, start + LIFETIME));
        assert!(challenges.waiting.is_empty());
    }

    #[test]
    fn one_peer_pushes_out_only_its_own() {
        let mut challenges = Challenges::default();
        let now = Instant::now();
        let owner = challenges.issue("10.0.0.9".parse().unwrap(), now).unwrap();
        let first = challenges.issue(PEER, now).unwrap();
        for _ in 0..1000 {
            challenges.issue(PEER, now).unwrap();
        }
        assert_eq!(challenges.waiting.len(), 1 + PER_PEER);
        assert!(!challenges.take(&first, now));
        assert!(challenges.take(&owner, now));
    }

    #[test]
    fn no_more_wait_than_may() {
        let mut challenges = Challenges::default();
        let now = Instant::now();
        for host in 0..32 {
            let peer = IpAddr::from([10, 0, 0, host]);
            challenges.issue(peer, now).unwrap();
        }
        assert_eq!(challenges.issue(PEER, now), Err(Refusal::Full(121)));
        assert!(challenges.issue(PEER, now + LIFETIME).is_ok());
    }

    #[test]
    fn base64url_has_the_letters_of_the_rfc() {
        for (bytes, text) in [
            (&b""[..], ""),
            (b"f", "Zg"),
            (b"fo", "Zm8"),
            (b"foo", "Zm9v"),
            (b"foob", "Zm9vYg"),
            (&[0xfb, 0xff, 0xfe], "-__-"),
        ] {
            assert_eq!(base64url(bytes), text);
        }
    }
}
