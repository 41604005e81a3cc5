//! The limit on wrong tries to pair, by code or by key. A code has 40 bits: at 30 tries a minute, guessing one takes
//! longer than any boot lasts; without the limit it would take hours.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

/// Wrong tries count for this long.
const WINDOW: Duration = Duration::from_secs(60);
/// Wrong tries within the window after which one peer must wait.
const PER_PEER: usize = 10;
/// Wrong tries within the window after which everybody must wait: an attacker may have many
/// addresses.
const IN_ALL: usize = 30;

/// The wrong tries of the last minute. Bounded: no more than [`IN_ALL`] are ever counted.
#[derive(Default)]
pub struct WrongTries {
    all: VecDeque<Instant>,
    peers: HashMap<IpAddr, VecDeque<Instant>>,
}

impl WrongTries {
    /// Whether a peer may try now.
    ///
    /// # Errors
    /// The seconds to wait, when it may not.
    pub fn check(&mut self, peer: IpAddr, now: Instant) -> Result<(), u64> {
        self.forget_old(now);
        let waits = [
            wait(&self.all, IN_ALL, now),
            self.peers
                .get(&network(peer))
                .and_then(|tries| wait(tries, PER_PEER, now)),
        ];
        match waits.into_iter().flatten().max() {
            None => Ok(()),
            Some(seconds) => Err(seconds),
        }
    }

    /// Counts a wrong try.
    pub fn record(&mut self, peer: IpAddr, now: Instant) {
        self.all.push_back(now);
        self.peers.entry(network(peer)).or_default().push_back(now);
    }

    fn forget_old(&mut self, now: Instant) {
        let is_old = |at: &Instant| now.duration_since(*at) >= WINDOW;
        let drain = |tries: &mut VecDeque<Instant>| {
            while tries.front().is_some_and(is_old) {
                tries.pop_front();
            }
        };
        drain(&mut self.all);
        self.peers.retain(|_, tries| {
            drain(tries);
            !tries.is_empty()
        });
    }
}

/// Seconds until fewer than `limit` tries count.
fn wait(tries: &VecDeque<Instant>, limit: usize, now: Instant) -> Option<u64> {
    let oldest_that_counts = tries.len().checked_sub(limit)?;
    let until = tries.get(oldest_that_counts)?.checked_add(WINDOW)?;
    Some(until.saturating_duration_since(now).as_secs() + 1)
}

/// One household is one peer: IPv6 hosts have a whole /64 to choose addresses from.
pub(super) fn network(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => {
            Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    #[test]
    fn a_peer_waits_after_ten_wrong_tries_and_may_try_again_a_minute_later() {
        let mut tries = WrongTries::default();
        let start = Instant::now();
        for second in 0..10 {
            let now = start + Duration::from_secs(second);
            assert_eq!(tries.check(PEER, now), Ok(()));
            tries.record(PEER, now);
        }
        let now = start + Duration::from_secs(10);
        assert_eq!(tries.check(PEER, now), Err(51));
        assert_eq!(tries.check("10.0.0.9".parse().unwrap(), now), Ok(()));
        assert_eq!(tries.check(PEER, start + WINDOW), Ok(()));
    }

    #[test]
    fn many_peers_together_make_everybody_wait() {
        let mut tries = WrongTries::default();
        let now = Instant::now();
        for host in 0..30 {
            let peer = IpAddr::from([10, 0, 0, host]);
            assert_eq!(tries.check(peer, now), Ok(()));
            tries.record(peer, now);
        }
        assert!(tries.check(PEER, now).is_err());
    }

    #[test]
    fn addresses_of_one_ipv6_network_are_one_peer() {
        let mut tries = WrongTries::default();
        let now = Instant::now();
        for host in 0..10_u16 {
            let peer = Ipv6Addr::new(0x2001, 0xdb8, 0, 1, 0, 0, 0, host).into();
            tries.record(peer, now);
        }
        assert!(
            tries
                .check("2001:db8:0:1::ff".parse().unwrap(), now)
                .is_err()
        );
        assert!(
            tries
                .check("2001:db8:0:2::ff".parse().unwrap(), now)
                .is_ok()
        );
    }
}
