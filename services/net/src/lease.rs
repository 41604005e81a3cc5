//! A DHCP lease after its check: nothing in a [`Lease`] can break what it is applied to.
//!
//! The server is any machine on the wire. Addresses must be usable, the mask must be one, lists
//! are cut, and names are validated; what fails is left out, or refuses the lease when it is
//! the address itself.

use std::net::Ipv4Addr;
use std::time::Duration;

use mozim::DhcpV4Lease;

use crate::hostname::{DomainName, Hostname};

/// More servers of a kind than anything asks; longer lists are cut.
const MAX_SERVERS: usize = 4;
/// More search domains than glibc used to take; longer lists are cut.
const MAX_SEARCH: usize = 6;
/// More static routes than a home or a rack hands out; longer lists are cut.
const MAX_ROUTES: usize = 16;

/// Why a lease is not used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum LeaseError {
    /// The address is none that a machine can have.
    #[error("the DHCP server offered the address {0}, which no machine can have")]
    Address(Ipv4Addr),
    /// The mask has holes.
    #[error("the DHCP server offered the mask {0}, which is none")]
    Mask(Ipv4Addr),
}

/// One route of a lease; the default route has the prefix 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// First address of the destination.
    pub destination: Ipv4Addr,
    /// Prefix length of the destination, 0 to 32.
    pub prefix: u8,
    /// The router, or `None` when the destination is on the link.
    pub gateway: Option<Ipv4Addr>,
}

/// What a server granted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// The address of this machine.
    pub address: Ipv4Addr,
    /// Its prefix length, 1 to 32.
    pub prefix: u8,
    /// Default route and static routes.
    pub routes: Vec<Route>,
    /// Who granted it.
    pub server: Ipv4Addr,
    /// Name servers, in the server's order.
    pub dns: Vec<Ipv4Addr>,
    /// Domains to search, the machine's own first.
    pub search: Vec<DomainName>,
    /// The name that the server has for this machine.
    pub hostname: Option<Hostname>,
    /// Time servers, in the server's order.
    pub ntp: Vec<Ipv4Addr>,
    /// How long it is valid; `None` is for ever.
    pub lifetime: Option<Duration>,
    /// When the client asks its server to renew it.
    pub renew: Duration,
    /// When the client asks any server.
    pub rebind: Duration,
}

impl Lease {
    /// The router of the default route.
    pub fn gateway(&self) -> Option<Ipv4Addr> {
        let default = self.routes.iter().find(|route| route.prefix == 0)?;
        default.gateway
    }
}

impl TryFrom<&DhcpV4Lease> for Lease {
    type Error = LeaseError;

    fn try_from(raw: &DhcpV4Lease) -> Result<Self, LeaseError> {
        if !is_host(raw.yiaddr) {
            return Err(LeaseError::Address(raw.yiaddr));
        }
        let domain = raw.domain_name.iter();
        let mut search: Vec<DomainName> = Vec::new();
        for name in domain.chain(raw.domain_search.iter().flatten()) {
            if let Some(name) = DomainName::parse(name)
                && !search.contains(&name)
            {
                search.push(name);
            }
        }
        search.truncate(MAX_SEARCH);
        Ok(Lease {
            address: raw.yiaddr,
            prefix: prefix(raw.yiaddr, raw.subnet_mask)?,
            routes: routes(raw),
            server: raw.srv_id,
            dns: hosts(raw.dns_srvs.as_deref()),
            search,
            hostname: raw.host_name.as_deref().and_then(Hostname::parse),
            ntp: hosts(raw.ntp_srvs.as_deref()),
            lifetime: (raw.lease_time_sec != u32::MAX)
                .then(|| Duration::from_secs(raw.lease_time_sec.into())),
            renew: Duration::from_secs(raw.t1_sec.into()),
            rebind: Duration::from_secs(raw.t2_sec.into()),
        })
    }
}

/// Whether one machine can have this address.
fn is_host(address: Ipv4Addr) -> bool {
    let first = address.octets()[0];
    first != 0 && first != 127 && first < 224
}

fn hosts(addresses: Option<&[Ipv4Addr]>) -> Vec<Ipv4Addr> {
    let mut kept = Vec::new();
    for address in addresses.unwrap_or_default() {
        if is_host(*address) && !kept.contains(address) {
            kept.push(*address);
        }
    }
    kept.truncate(MAX_SERVERS);
    kept
}

fn prefix(address: Ipv4Addr, mask: Ipv4Addr) -> Result<u8, LeaseError> {
    let bits = u32::from(mask);
    if bits == 0 {
        // No mask was sent: the class of the address says it (RFC 2131 lets servers do that).
        return Ok(match address.octets()[0] {
            0..=127 => 8,
            128..=191 => 16,
            _ => 24,
        });
    }
    let length = bits.leading_ones();
    if length != bits.count_ones() {
        return Err(LeaseError::Mask(mask));
    }
    u8::try_from(length).map_err(|_| LeaseError::Mask(mask))
}

/// Classless routes replace the router option (RFC 3442); a router of 0.0.0.0 means "on the link".
fn routes(raw: &DhcpV4Lease) -> Vec<Route> {
    let mut routes: Vec<Route> = Vec::new();
    let mut add = |route: Route| {
        let twice =
            |other: &Route| (other.destination, other.prefix) == (route.destination, route.prefix);
        if routes.len() < MAX_ROUTES && !routes.iter().any(twice) {
            routes.push(route);
        }
    };
    if let Some(classless) = &raw.classless_routes {
        for route in classless {
            let Some(shift) = 32_u32.checked_sub(route.prefix_length.into()) else {
                continue;
            };
            let mask = u32::MAX.checked_shl(shift).unwrap_or(0);
            if !route.router.is_unspecified() && !is_host(route.router) {
                continue;
            }
            add(Route {
                destination: Ipv4Addr::from(u32::from(route.destination) & mask),
                prefix: route.prefix_length,
                gateway: (!route.router.is_unspecified()).then_some(route.router),
            });
        }
    } else if let Some(gateway) = hosts(raw.gateways.as_deref()).first() {
        add(Route {
            destination: Ipv4Addr::UNSPECIFIED,
            prefix: 0,
            gateway: Some(*gateway),
        });
    }
    routes
}

#[cfg(test)]
mod tests {
    use mozim::DhcpV4ClasslessRoute;

    use super::*;

    const MASK: Ipv4Addr = Ipv4Addr::new(255, 255, 255, 0);

    fn raw() -> DhcpV4Lease {
        let mut raw = DhcpV4Lease::default();
        raw.yiaddr = Ipv4Addr::new(10, 0, 2, 15);
        raw.subnet_mask = MASK;
        raw.lease_time_sec = 3600;
        raw
    }

    #[test]
    fn an_ordinary_lease_is_taken() {
        let mut raw = raw();
        raw.gateways = Some(vec![Ipv4Addr::new(10, 0, 2, 2)]);
        raw.dns_srvs = Some(vec![Ipv4Addr::new(10, 0, 2, 3)]);
        raw.host_name = Some("kos-test".into());
        raw.domain_name = Some("home.arpa".into());
        let lease = Lease::try_from(&raw).unwrap();
        assert_eq!((lease.address, lease.prefix), (raw.yiaddr, 24));
        assert_eq!(lease.gateway(), Some(Ipv4Addr::new(10, 0, 2, 2)));
        assert_eq!(lease.dns, [Ipv4Addr::new(10, 0, 2, 3)]);
        assert_eq!(lease.hostname, Hostname::parse("kos-test"));
        assert_eq!(lease.search.len(), 1);
        assert_eq!(lease.lifetime, Some(Duration::from_secs(3600)));
    }

    #[test]
    fn for_ever_has_no_lifetime() {
        let mut raw = raw();
        raw.lease_time_sec = u32::MAX;
        assert_eq!(Lease::try_from(&raw).unwrap().lifetime, None);
    }

    #[test]
    fn addresses_that_no_machine_has_are_refused() {
        for octets in [
            [0, 0, 0, 0],
            [127, 0, 0, 1],
            [224, 0, 0, 1],
            [255, 255, 255, 255],
        ] {
            let mut raw = raw();
            raw.yiaddr = octets.into();
            assert_eq!(
                Lease::try_from(&raw),
                Err(LeaseError::Address(octets.into()))
            );
        }
    }

    #[test]
    fn masks_with_holes_are_refused_and_missing_ones_follow_the_class() {
        let mut raw = raw();
        raw.subnet_mask = Ipv4Addr::new(255, 0, 255, 0);
        assert_eq!(
            Lease::try_from(&raw),
            Err(LeaseError::Mask(raw.subnet_mask))
        );
        raw.subnet_mask = Ipv4Addr::UNSPECIFIED;
        assert_eq!(Lease::try_from(&raw).unwrap().prefix, 8);
        raw.subnet_mask = Ipv4Addr::BROADCAST;
        assert_eq!(Lease::try_from(&raw).unwrap().prefix, 32);
    }

    #[test]
    fn odd_lists_and_names_are_cut_not_trusted() {
        let mut raw = raw();
        let zero = Ipv4Addr::UNSPECIFIED;
        let many = (1..=255).map(|last| Ipv4Addr::new(10, 0, 3, last));
        raw.dns_srvs = Some([zero, zero].into_iter().chain(many).collect());
        raw.ntp_srvs = Some(vec![Ipv4Addr::BROADCAST]);
        raw.host_name = Some("x\nnameserver 6.6.6.6".into());
        raw.domain_search = Some((0..100).map(|number| format!("d{number}.test")).collect());
        let lease = Lease::try_from(&raw).unwrap();
        assert_eq!(lease.dns.len(), MAX_SERVERS);
        assert!(lease.ntp.is_empty());
        assert_eq!(lease.hostname, None);
        assert_eq!(lease.search.len(), MAX_SEARCH);
    }

    #[test]
    fn classless_routes_replace_the_router() {
        let mut raw = raw();
        raw.gateways = Some(vec![Ipv4Addr::new(10, 0, 2, 2)]);
        let route = |destination: [u8; 4], prefix_length, router: [u8; 4]| DhcpV4ClasslessRoute {
            destination: destination.into(),
            prefix_length,
            router: router.into(),
        };
        raw.classless_routes = Some(vec![
            route([0, 0, 0, 0], 0, [10, 0, 2, 9]),
            route([192, 168, 7, 9], 24, [0, 0, 0, 0]),
            route([192, 168, 7, 0], 24, [10, 0, 2, 9]),
            route([1, 2, 3, 4], 33, [10, 0, 2, 9]),
            route([1, 2, 3, 4], 32, [255, 255, 255, 255]),
        ]);
        let lease = Lease::try_from(&raw).unwrap();
        assert_eq!(lease.gateway(), Some(Ipv4Addr::new(10, 0, 2, 9)));
        let link = Route {
            destination: [192, 168, 7, 0].into(),
            prefix: 24,
            gateway: None,
        };
        assert_eq!(lease.routes[1..], [link]);
    }
}
