//! DNS servers from IPv6 router advertisements (RFC 8106).
//!
//! The kernel configures addresses and routes from advertisements by itself and passes the
//! options that it has no use for to whoever listens (`RTNLGRP_ND_USEROPT`). rtnetlink knows the
//! group but not its message, so the few fields are read here. What was advertised before this
//! service started is heard again with the next advertisement.

use std::net::Ipv6Addr;

use anyhow::{Context, Result};
use rtnetlink::sys::protocols::NETLINK_ROUTE;
use rtnetlink::sys::{AsyncSocket, AsyncSocketExt, SocketAddr, TokioSocket};
use tokio::sync::mpsc;

/// `RTNLGRP_ND_USEROPT` of linux/rtnetlink.h.
const GROUP: u32 = 20;
/// `RTM_NEWNDUSEROPT` of linux/rtnetlink.h.
const MESSAGE: u16 = 68;
/// `struct nlmsghdr`: length u32, type u16, flags u16, sequence u32, port u32.
const HEADER: usize = 16;
/// `struct nduseroptmsg`: family u8, pad, options' length u16, link i32, ICMP type u8, code u8, pads.
const FIXED: usize = 16;
/// RDNSS (RFC 8106, 5.1): type, length in units of 8 octets, reserved u16, lifetime u32, addresses.
const OPTION_RDNSS: u8 = 25;
/// An advertisement fits into a packet of Ethernet; the message adds little.
const BUFFER: usize = 8192;
/// More servers than anything asks; longer lists are cut.
pub const MAX_SERVERS: usize = 4;
/// Advertisements that may wait for the manager, which takes them at once.
const QUEUE: usize = 16;

/// What a router advertised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advertised {
    /// The link it came over.
    pub index: u32,
    /// The servers.
    pub servers: Vec<Ipv6Addr>,
    /// How long they may be asked, in seconds; `u32::MAX` is for ever, 0 is no more.
    pub lifetime: u32,
}

/// Listens for ever.
pub fn listen() -> Result<mpsc::Receiver<Advertised>> {
    let mut socket = TokioSocket::new(NETLINK_ROUTE).context("cannot open a netlink socket")?;
    let inner = socket.socket_mut();
    inner
        .bind(&SocketAddr::new(0, 0))
        .context("cannot bind a netlink socket")?;
    inner
        .add_membership(GROUP)
        .context("cannot listen to router advertisements")?;
    let (sender, receiver) = mpsc::channel(QUEUE);
    tokio::spawn(async move {
        let mut buffer = Vec::with_capacity(BUFFER);
        loop {
            buffer.clear();
            match socket.recv_from(&mut buffer).await {
                // Port 0 is the kernel.
                Ok(from) if from.port_number() == 0 => {}
                Ok(_) => continue,
                // An overrun: the next advertisement says the same again.
                Err(error) => {
                    tracing::debug!("router advertisements: {error}");
                    continue;
                }
            }
            for advertised in parse(&buffer) {
                if sender.send(advertised).await.is_err() {
                    return;
                }
            }
        }
    });
    Ok(receiver)
}

/// Reads the messages of one datagram; what is not understood is skipped.
fn parse(mut datagram: &[u8]) -> Vec<Advertised> {
    let mut found = Vec::new();
    while let Some(length) = bytes(datagram, 0).map(u32::from_ne_bytes) {
        let Some(message) = usize::try_from(length)
            .ok()
            .and_then(|end| datagram.get(HEADER..end))
        else {
            break;
        };
        if bytes(datagram, 4).map(u16::from_ne_bytes) == Some(MESSAGE) {
            found.extend(parse_message(message).unwrap_or_default());
        }
        // Messages are aligned to four octets.
        let next = (HEADER + message.len()).next_multiple_of(4);
        datagram = datagram.get(next..).unwrap_or_default();
    }
    found
}

fn parse_message(message: &[u8]) -> Option<Vec<Advertised>> {
    let length = usize::from(u16::from_ne_bytes(bytes(message, 2)?));
    let index = u32::try_from(i32::from_ne_bytes(bytes(message, 4)?)).ok()?;
    let mut options = message.get(FIXED..)?.get(..length)?;
    let mut found = Vec::new();
    while let [kind, units, ..] = *options {
        let Some(option) = options
            .get(..usize::from(units) * 8)
            .filter(|one| !one.is_empty())
        else {
            break;
        };
        if kind == OPTION_RDNSS
            && let Some(lifetime) = bytes(option, 4).map(u32::from_be_bytes)
        {
            let (addresses, _) = option.get(8..)?.as_chunks::<16>();
            let servers = addresses.iter().copied().map(Ipv6Addr::from);
            let servers = servers.filter(|ip| !ip.is_unspecified() && !ip.is_multicast());
            let servers = servers.filter(|ip| !ip.is_loopback());
            found.push(Advertised {
                index,
                servers: servers.take(MAX_SERVERS).collect(),
                lifetime,
            });
        }
        options = options.get(option.len()..)?;
    }
    Some(found)
}

fn bytes<const LENGTH: usize>(from: &[u8], at: usize) -> Option<[u8; LENGTH]> {
    from.get(at..)?.first_chunk().copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn option(lifetime: u32, servers: &[Ipv6Addr]) -> Vec<u8> {
        let mut option = vec![OPTION_RDNSS, (1 + 2 * servers.len()) as u8, 0, 0];
        option.extend(lifetime.to_be_bytes());
        option.extend(servers.iter().flat_map(Ipv6Addr::octets));
        option
    }

    fn message(index: i32, options: &[u8]) -> Vec<u8> {
        let mut message = ((HEADER + FIXED + options.len()) as u32)
            .to_ne_bytes()
            .to_vec();
        message.extend(MESSAGE.to_ne_bytes());
        message.extend([0; 10]);
        message.extend([10, 0]);
        message.extend((options.len() as u16).to_ne_bytes());
        message.extend(index.to_ne_bytes());
        message.extend([134, 0, 0, 0, 0, 0, 0, 0]);
        message.extend(options);
        message
    }

    #[test]
    fn servers_are_read() {
        let server: Ipv6Addr = "fec0::3".parse().unwrap();
        let mut datagram = message(2, &option(1800, &[server, Ipv6Addr::LOCALHOST]));
        datagram.extend(message(3, &option(0, &[server])));
        let expected = [
            Advertised {
                index: 2,
                servers: vec![server],
                lifetime: 1800,
            },
            Advertised {
                index: 3,
                servers: vec![server],
                lifetime: 0,
            },
        ];
        assert_eq!(parse(&datagram), expected);
    }

    #[test]
    fn cut_messages_end_the_reading() {
        let server: Ipv6Addr = "fec0::3".parse().unwrap();
        let whole = message(2, &option(1800, &[server; 9]));
        assert_eq!(parse(&whole)[0].servers.len(), MAX_SERVERS);
        for length in 0..whole.len() {
            assert_eq!(parse(&whole[..length]), []);
        }
        assert_eq!(parse(&message(-1, &option(1, &[server]))), []);
        assert_eq!(parse(&message(2, &[OPTION_RDNSS, 0, 0, 0, 0, 0, 0, 0])), []);
    }

    #[test]
    fn noise_does_no_harm() {
        // Knuth's generator: the same noise at every run.
        let mut state = 1_u64;
        let mut noise = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 56) as u8
        };
        let whole = message(2, &option(1800, &["fec0::3".parse().unwrap(); 3]));
        for _ in 0..20_000 {
            let mut datagram: Vec<u8> = whole.clone();
            for _ in 0..4 {
                let at = usize::from(noise()) % datagram.len();
                datagram[at] = noise();
            }
            for advertised in parse(&datagram) {
                assert!(advertised.servers.len() <= MAX_SERVERS);
            }
        }
    }
}
