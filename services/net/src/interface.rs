//! One link and all that is known about it, and how that is told.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::dhcp::Control;
use crate::fixed::Fixed;
use crate::lease::Lease;
use crate::netlink::{Address, Link};
use crate::rdnss::{self, Advertised};
use crate::state::{Interface, InterfaceState, LeaseState, Method};

/// A link and all that is known about it.
pub struct Managed {
    /// The link.
    pub link: Link,
    /// Its addresses.
    pub addresses: BTreeSet<Address>,
    /// Routers of its IPv6 default routes.
    pub routers: BTreeSet<Ipv6Addr>,
    advertised_dns: Vec<AdvertisedServer>,
    /// Its lease, and when it was granted or renewed.
    pub lease: Option<(Lease, Instant)>,
    /// The owner's address for it, and whether it has it.
    pub fixed: Option<(Fixed, bool)>,
    /// What is wrong, in words.
    pub trouble: Option<String>,
    /// Where its tasks are told.
    pub control: watch::Sender<Control>,
    /// Its tasks: DHCP, or the fixed address, or both when that one is of IPv6.
    pub tasks: Vec<JoinHandle<()>>,
}

struct AdvertisedServer {
    address: Ipv6Addr,
    /// `None` is for ever.
    expires: Option<Instant>,
}

impl Managed {
    /// A link of which nothing is known yet.
    pub fn new(
        link: Link,
        trouble: Option<String>,
        control: watch::Sender<Control>,
        fixed: Option<Fixed>,
        tasks: Vec<JoinHandle<()>>,
    ) -> Self {
        Managed {
            link,
            addresses: BTreeSet::new(),
            routers: BTreeSet::new(),
            advertised_dns: Vec::new(),
            lease: None,
            fixed: fixed.map(|fixed| (fixed, false)),
            trouble,
            control,
            tasks,
        }
    }

    /// The kernel told about the link again; its tasks hear of the carrier.
    pub fn change(&mut self, link: Link) {
        if self.link.carrier != link.carrier {
            let text = if link.carrier {
                "carrier"
            } else {
                "no carrier"
            };
            tracing::info!("{}: {text}", link.name);
        }
        self.control.send_if_modified(|control| {
            let is_changed = control.carrier != link.carrier;
            control.carrier = link.carrier;
            is_changed
        });
        self.link = link;
    }

    /// A router advertised name servers.
    pub fn take_advertised(&mut self, advertised: Advertised) {
        let known = &mut self.advertised_dns;
        known.retain(|server| !advertised.servers.contains(&server.address));
        if advertised.lifetime == 0 {
            return;
        }
        let lifetime = Duration::from_secs(advertised.lifetime.into());
        let expires = (advertised.lifetime != u32::MAX).then(|| Instant::now() + lifetime);
        let servers = advertised.servers.into_iter();
        // The newest first, and no more than a few: a stranger can advertise without end.
        known.splice(
            0..0,
            servers.map(|address| AdvertisedServer { address, expires }),
        );
        known.truncate(rdnss::MAX_SERVERS);
    }

    /// When the next advertised name server is to be forgotten.
    pub fn next_expiry(&self) -> Option<Instant> {
        self.advertised_dns
            .iter()
            .filter_map(|server| server.expires)
            .min()
    }

    /// Forgets advertised name servers whose time is over.
    pub fn drop_expired(&mut self) {
        let now = Instant::now();
        self.advertised_dns
            .retain(|server| server.expires.is_none_or(|at| at > now));
    }

    /// Name servers, the lease's first.
    pub fn dns(&self) -> Vec<IpAddr> {
        let leased = self
            .lease
            .iter()
            .flat_map(|(lease, _)| &lease.dns)
            .copied()
            .map(IpAddr::V4);
        let advertised = self
            .advertised_dns
            .iter()
            .map(|server| IpAddr::V6(server.address));
        leased.chain(advertised).collect()
    }

    /// It has an address that reaches beyond the link.
    pub fn is_configured(&self) -> bool {
        let is_global = |address: &Address| match address.ip {
            IpAddr::V4(_) => false,
            IpAddr::V6(ip) => !ip.is_unicast_link_local(),
        };
        self.lease.is_some()
            || self.address_fixed().is_some()
            || self.addresses.iter().any(is_global)
    }

    /// The owner's address, once the link has it.
    fn address_fixed(&self) -> Option<IpAddr> {
        let (fixed, is_set) = self.fixed.as_ref()?;
        is_set.then_some(fixed.address.address)
    }

    /// Router of the IPv4 default route.
    pub fn gateway(&self) -> Option<Ipv4Addr> {
        let leased = self.lease.as_ref().and_then(|(lease, _)| lease.gateway());
        leased.or_else(|| match &self.fixed {
            Some((fixed, true)) => fixed.gateway_v4(),
            _ => None,
        })
    }

    /// No DHCP here.
    fn method(&self) -> Method {
        match &self.fixed {
            Some((fixed, _)) if fixed.is_ipv4() => Method::Static,
            _ => Method::Dhcp,
        }
    }

    fn interface_state(&self) -> InterfaceState {
        match () {
            () if !self.link.up => InterfaceState::Down,
            () if !self.link.carrier => InterfaceState::NoCarrier,
            () if self.is_configured() => InterfaceState::Configured,
            () => InterfaceState::Configuring,
        }
    }

    /// Some words for the console.
    pub fn summary(&self) -> String {
        let name = &self.link.name;
        match (self.interface_state(), &self.lease) {
            (InterfaceState::Configured, Some((lease, _))) => format!("{name} {}", lease.address),
            (InterfaceState::Configured, None) => match self.address_fixed() {
                Some(address) => format!("{name} {address}"),
                None => format!("{name} IPv6 only"),
            },
            (InterfaceState::Configuring, _) => format!("{name} has no address yet"),
            (InterfaceState::NoCarrier, _) => format!("{name} has no carrier"),
            (InterfaceState::Down, _) => format!("{name} is down"),
        }
    }

    /// Everything, for `state.json`.
    pub fn state(&self) -> Interface {
        let addresses = |is_v4: bool| {
            let of_family = self
                .addresses
                .iter()
                .filter(|address| address.ip.is_ipv4() == is_v4);
            of_family
                .map(|address| format!("{}/{}", address.ip, address.prefix))
                .collect()
        };
        let lease = self.lease.as_ref();
        Interface {
            name: self.link.name.clone(),
            mac: self.link.mac_text(),
            state: self.interface_state(),
            method: self.method(),
            ipv4: addresses(true),
            ipv6: addresses(false),
            gateway: self.gateway().map(IpAddr::V4),
            ipv6_routers: self.routers.iter().copied().map(IpAddr::V6).collect(),
            dns: self.dns(),
            hostname: lease.and_then(|(lease, _)| lease.hostname.clone()),
            lease: lease.map(|(lease, since)| lease_state(lease, *since)),
            error: self.trouble.clone(),
        }
    }
}

fn lease_state(lease: &Lease, since: Instant) -> LeaseState {
    let obtained_at = unix_seconds(since);
    LeaseState {
        server: IpAddr::V4(lease.server),
        obtained_at,
        lifetime_s: lease.lifetime.map(|lifetime| lifetime.as_secs()),
        renew_at: obtained_at + lease.renew.as_secs(),
        rebind_at: obtained_at + lease.rebind.as_secs(),
        expires_at: lease
            .lifetime
            .map(|lifetime| obtained_at + lifetime.as_secs()),
    }
}

/// A moment on the clock as it is now: a clock that was set since has moved the past along.
pub fn unix_seconds(moment: Instant) -> u64 {
    let then = SystemTime::now().checked_sub(moment.elapsed());
    then.and_then(|then| then.duration_since(UNIX_EPOCH).ok())
        .unwrap_or_default()
        .as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn managed() -> Managed {
        let link = Link {
            index: 2,
            name: "eth0".into(),
            mac: [2, 0, 0, 0, 0, 1],
            up: true,
            carrier: true,
            is_virtual: false,
        };
        let (control, _) = watch::channel(Control {
            carrier: true,
            stop: false,
        });
        Managed::new(link, None, control, None, Vec::new())
    }

    fn advertised(last: u16, lifetime: u32) -> Advertised {
        let server = Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, last);
        Advertised {
            index: 2,
            servers: vec![server],
            lifetime,
        }
    }

    #[tokio::test]
    async fn advertised_servers_are_bounded_renewed_and_dropped() {
        let mut managed = managed();
        for last in 1..=100 {
            managed.take_advertised(advertised(last, 1800));
        }
        assert_eq!(managed.dns().len(), rdnss::MAX_SERVERS);
        assert_eq!(managed.dns()[0], "fd77::64".parse::<IpAddr>().unwrap());
        managed.take_advertised(advertised(100, u32::MAX));
        assert_eq!(managed.dns().len(), rdnss::MAX_SERVERS);
        managed.take_advertised(advertised(100, 0));
        assert_eq!(managed.dns().len(), rdnss::MAX_SERVERS - 1);
        managed
            .advertised_dns
            .iter_mut()
            .for_each(|one| one.expires = Some(Instant::now()));
        managed.drop_expired();
        assert!(managed.dns().is_empty() && managed.next_expiry().is_none());
    }

    #[tokio::test]
    async fn a_link_local_address_is_no_configuration() {
        let mut managed = managed();
        managed.addresses.insert(Address {
            ip: "fe80::1".parse().unwrap(),
            prefix: 64,
        });
        assert_eq!(managed.state().state, InterfaceState::Configuring);
        assert_eq!(managed.summary(), "eth0 has no address yet");
        managed.addresses.insert(Address {
            ip: "fd77::1".parse().unwrap(),
            prefix: 64,
        });
        assert_eq!(managed.state().state, InterfaceState::Configured);
        assert_eq!(managed.summary(), "eth0 IPv6 only");
        managed.link.carrier = false;
        assert_eq!(managed.state().state, InterfaceState::NoCarrier);
    }

    #[tokio::test]
    async fn a_fixed_address_counts_once_it_is_set() {
        let mut managed = managed();
        let fixed = Fixed {
            address: "192.168.1.20/24".parse().unwrap(),
            gateway: Some("192.168.1.1".parse().unwrap()),
        };
        managed.fixed = Some((fixed, false));
        assert_eq!(managed.summary(), "eth0 has no address yet");
        assert_eq!(managed.state().method, Method::Static);
        assert_eq!(managed.gateway(), None);
        managed.fixed = Some((fixed, true));
        assert_eq!(managed.state().state, InterfaceState::Configured);
        assert_eq!(managed.summary(), "eth0 192.168.1.20");
        assert_eq!(managed.gateway(), Some([192, 168, 1, 1].into()));
    }
}
