//! The kernel's links, addresses and routes over netlink: dumps, changes and a monitor.
//!
//! Nothing here polls: the monitor's events come from the kernel's multicast groups.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use anyhow::{Context, Result};
use futures_util::{StreamExt, TryStreamExt};
use rtnetlink::packet_core::NetlinkPayload;
use rtnetlink::packet_route::address::{
    AddressAttribute, AddressHeaderFlags, AddressMessage, CacheInfo,
};
use rtnetlink::packet_route::link::{
    LinkAttribute, LinkFlags, LinkInfo, LinkLayerType, LinkMessage,
};
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteMessage, RouteProtocol, RouteType,
};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::{Handle, LinkUnspec, MulticastGroup, RouteMessageBuilder};
use tokio::sync::mpsc;

use crate::fixed::Fixed;
use crate::lease::{Lease, Route};

/// Events that may wait for the manager. It takes them at once; a full channel holds up only the
/// monitor, whose socket then overruns, and an overrun makes the manager read everything anew.
const EVENTS: usize = 256;
/// Routes of the first link get this metric, of the next one more: the first link found wins.
const METRIC_BASE: u32 = 1000;

/// A network interface with a MAC address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// The kernel's number for it.
    pub index: u32,
    /// Its name, such as `eth0`.
    pub name: String,
    /// Its hardware address.
    pub mac: [u8; 6],
    /// It was set up.
    pub up: bool,
    /// The cable is plugged in and something is at its other end.
    pub carrier: bool,
    /// It is made of software: a veth, a bridge, a tunnel.
    pub is_virtual: bool,
}

/// An address on a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Address {
    /// The address.
    pub ip: IpAddr,
    /// Its prefix length.
    pub prefix: u8,
}

/// Something that the kernel said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A link appeared or changed.
    Link(Link),
    /// A link is gone.
    LinkGone(u32),
    /// A link has an address and may use it.
    Address(u32, Address),
    /// A link has an address no more.
    AddressGone(u32, Address),
    /// The link has an IPv6 default route through this router.
    Router(u32, Ipv6Addr),
    /// That route is gone.
    RouterGone(u32, Ipv6Addr),
    /// Events were lost: dump everything.
    Overrun,
}

/// The IPv4 of one link.
struct Assignment {
    index: u32,
    /// The address and its prefix length.
    address: (Ipv4Addr, u8),
    /// `None` is for ever.
    lifetime: Option<Duration>,
    routes: Vec<RouteMessage>,
}

/// A connection to the kernel.
#[derive(Clone)]
pub struct Netlink {
    handle: Handle,
}

impl Netlink {
    /// Connects and subscribes. The connection's task ends with the runtime.
    pub fn connect() -> Result<(Self, mpsc::Receiver<Event>)> {
        let groups = [
            MulticastGroup::Link,
            MulticastGroup::Ipv4Ifaddr,
            MulticastGroup::Ipv6Ifaddr,
            MulticastGroup::Ipv6Route,
        ];
        // Two sockets: what a request causes carries the request's number, and on one socket it
        // would be taken for an answer and never reach the monitor.
        let (connection, handle, _) =
            rtnetlink::new_connection().context("cannot open a netlink socket")?;
        tokio::spawn(connection);
        let (monitor, _, mut messages) =
            rtnetlink::new_multicast_connection(&groups).context("cannot watch netlink")?;
        tokio::spawn(monitor);
        let (sender, events) = mpsc::channel(EVENTS);
        tokio::spawn(async move {
            while let Some((message, _)) = messages.next().await {
                let event = match message.payload {
                    NetlinkPayload::InnerMessage(message) => event(&message),
                    NetlinkPayload::Overrun(_) => Some(Event::Overrun),
                    _ => None,
                };
                if let Some(event) = event
                    && sender.send(event).await.is_err()
                {
                    return;
                }
            }
        });
        Ok((Netlink { handle }, events))
    }

    /// Everything as it is now, as the events that would have led to it: links in the order of
    /// their numbers, then the rest.
    pub async fn dump(&self) -> Result<Vec<Event>> {
        let mut found = Vec::new();
        let mut links = self.handle.link().get().execute();
        while let Some(link) = links.try_next().await.context("cannot list the links")? {
            found.extend(Link::from_message(&link));
        }
        found.sort_by_key(|link| link.index);
        let mut events: Vec<Event> = found.into_iter().map(Event::Link).collect();
        let mut addresses = self.handle.address().get().execute();
        while let Some(address) = addresses
            .try_next()
            .await
            .context("cannot list the addresses")?
        {
            events.extend(event(&RouteNetlinkMessage::NewAddress(address)));
        }
        let filter = RouteMessageBuilder::<Ipv6Addr>::new().build();
        let mut routes = self.handle.route().get(filter).execute();
        // A kernel without IPv6 has no such routes to list; that is no error.
        while let Ok(Some(route)) = routes.try_next().await {
            events.extend(event(&RouteNetlinkMessage::NewRoute(route)));
        }
        Ok(events)
    }

    /// Sets the loopback up: every network namespace starts without it.
    pub async fn set_loopback_up(&self) -> Result<()> {
        let message = LinkUnspec::new_with_name("lo").up().build();
        self.handle
            .link()
            .set(message)
            .execute()
            .await
            .context("cannot set the loopback up")
    }

    /// Sets a link up.
    pub async fn set_up(&self, index: u32) -> Result<()> {
        let message = LinkUnspec::new_with_index(index).up().build();
        self.handle
            .link()
            .set(message)
            .execute()
            .await
            .context("cannot set the link up")
    }

    /// Gives a link the address and the routes of a lease. The kernel takes the address back by
    /// itself when the lease ends, even if this service has died.
    pub async fn apply(&self, index: u32, lease: &Lease) -> Result<()> {
        let routes = lease.routes.iter();
        self.assign(Assignment {
            index,
            address: (lease.address, lease.prefix),
            lifetime: lease.lifetime,
            routes: routes
                .map(|route| route_message(index, route, RouteProtocol::Dhcp))
                .collect(),
        })
        .await
    }

    /// Gives a link the owner's address and way out, for ever.
    pub async fn apply_fixed(&self, index: u32, fixed: &Fixed) -> Result<()> {
        let prefix = fixed.address.prefix;
        let six = match fixed.address.address {
            IpAddr::V6(six) => six,
            IpAddr::V4(four) => {
                let default = fixed.gateway_v4().map(|gateway| Route {
                    destination: Ipv4Addr::UNSPECIFIED,
                    prefix: 0,
                    gateway: Some(gateway),
                });
                return self
                    .assign(Assignment {
                        index,
                        address: (four, prefix),
                        lifetime: None,
                        routes: default
                            .map(|route| route_message(index, &route, RouteProtocol::Static))
                            .into_iter()
                            .collect(),
                    })
                    .await;
            }
        };
        // The kernel has other IPv6 addresses on the link, which are its own.
        let request = self.handle.address().add(index, six.into(), prefix);
        let request = request.replace();
        request.execute().await.context("cannot set the address")?;
        if let Some(IpAddr::V6(gateway)) = fixed.gateway {
            let route = RouteMessageBuilder::<Ipv6Addr>::new()
                .gateway(gateway)
                .output_interface(index)
                .priority(METRIC_BASE + index)
                .protocol(RouteProtocol::Static)
                .build();
            let request = self.handle.route().add(route).replace();
            request.execute().await.context("cannot set a route")?;
        }
        Ok(())
    }

    /// Gives a link an IPv4 address and routes, and takes every other IPv4 address and every other
    /// route of this service from it: IPv4 on such a link is this service's alone.
    async fn assign(&self, wanted: Assignment) -> Result<()> {
        let (address, prefix) = wanted.address;
        let mut request = self
            .handle
            .address()
            .add(wanted.index, address.into(), prefix)
            .replace();
        let seconds = wanted.lifetime.map_or(u32::MAX, seconds);
        let mut lifetime = CacheInfo::default();
        lifetime.ifa_preferred = seconds;
        lifetime.ifa_valid = seconds;
        request
            .message_mut()
            .attributes
            .push(AddressAttribute::CacheInfo(lifetime));
        request.execute().await.context("cannot set the address")?;
        self.remove_addresses(wanted.index, Some(wanted.address))
            .await?;
        self.remove_routes(wanted.index, &wanted.routes).await?;
        for message in wanted.routes {
            let request = self.handle.route().add(message).replace();
            request.execute().await.context("cannot set a route")?;
        }
        Ok(())
    }

    /// Takes every IPv4 address and every route of this service from a link.
    pub async fn withdraw(&self, index: u32) -> Result<()> {
        self.remove_routes(index, &[]).await?;
        self.remove_addresses(index, None).await
    }

    async fn remove_addresses(&self, index: u32, keep: Option<(Ipv4Addr, u8)>) -> Result<()> {
        let mut addresses = self
            .handle
            .address()
            .get()
            .set_link_index_filter(index)
            .execute();
        let mut stale = Vec::new();
        while let Some(message) = addresses
            .try_next()
            .await
            .context("cannot list the addresses")?
        {
            let Some(Address {
                ip: IpAddr::V4(ip),
                prefix,
            }) = address(&message)
            else {
                continue;
            };
            if keep != Some((ip, prefix)) {
                stale.push(message);
            }
        }
        for message in stale {
            // It may have expired since; gone is gone.
            if let Err(error) = self.handle.address().del(message).execute().await {
                tracing::debug!("cannot remove an address: {error}");
            }
        }
        Ok(())
    }

    async fn remove_routes(&self, index: u32, keep: &[RouteMessage]) -> Result<()> {
        let filter = RouteMessageBuilder::<Ipv4Addr>::new().build();
        let mut routes = self.handle.route().get(filter).execute();
        let mut stale = Vec::new();
        while let Some(message) = routes.try_next().await.context("cannot list the routes")? {
            let ours = [RouteProtocol::Dhcp, RouteProtocol::Static];
            if ours.contains(&message.header.protocol)
                && attribute(
                    &message,
                    |one| matches!(one, RouteAttribute::Oif(oif) if *oif == index),
                )
                && !keep.iter().any(|wanted| is_same_route(wanted, &message))
            {
                stale.push(message);
            }
        }
        for message in stale {
            if let Err(error) = self.handle.route().del(message).execute().await {
                tracing::debug!("cannot remove a route: {error}");
            }
        }
        Ok(())
    }
}

/// Netlink counts whole seconds, and the largest number means "for ever".
fn seconds(lifetime: Duration) -> u32 {
    u32::try_from(lifetime.as_secs()).unwrap_or(u32::MAX)
}

fn route_message(index: u32, route: &Route, protocol: RouteProtocol) -> RouteMessage {
    let mut builder = RouteMessageBuilder::<Ipv4Addr>::new()
        .destination_prefix(route.destination, route.prefix)
        .output_interface(index)
        .priority(METRIC_BASE + index)
        .protocol(protocol);
    if let Some(gateway) = route.gateway {
        // Some networks grant a /32 with a router outside it; the router is on the link then.
        builder = builder.gateway(gateway).onlink();
    }
    builder.build()
}

fn attribute(message: &RouteMessage, is_wanted: impl Fn(&RouteAttribute) -> bool) -> bool {
    message.attributes.iter().any(is_wanted)
}

fn is_same_route(one: &RouteMessage, other: &RouteMessage) -> bool {
    let facts = |message: &RouteMessage| {
        let mut destination = Ipv4Addr::UNSPECIFIED;
        let mut gateway = None;
        for attribute in &message.attributes {
            match attribute {
                RouteAttribute::Destination(RouteAddress::Inet(address)) => destination = *address,
                RouteAttribute::Gateway(RouteAddress::Inet(address)) => gateway = Some(*address),
                _ => {}
            }
        }
        (
            destination,
            message.header.destination_prefix_length,
            gateway,
        )
    };
    facts(one) == facts(other)
}

impl Link {
    /// The link if it has a MAC address and is not the loopback.
    fn from_message(message: &LinkMessage) -> Option<Link> {
        let flags = message.header.flags;
        if !is_about_link(message)
            || message.header.link_layer_type != LinkLayerType::Ether
            || flags.contains(LinkFlags::Loopback)
        {
            return None;
        }
        let (mut name, mut mac, mut is_virtual) = (None, None, false);
        for attribute in &message.attributes {
            match attribute {
                LinkAttribute::IfName(text) => name = Some(text.clone()),
                LinkAttribute::Address(bytes) => mac = <[u8; 6]>::try_from(bytes.as_slice()).ok(),
                LinkAttribute::LinkInfo(facts) => {
                    is_virtual = facts.iter().any(|fact| matches!(fact, LinkInfo::Kind(_)));
                }
                _ => {}
            }
        }
        Some(Link {
            index: message.header.index,
            name: name?,
            mac: mac.filter(|mac| *mac != [0; 6])?,
            up: flags.contains(LinkFlags::Up),
            carrier: flags.contains(LinkFlags::Up | LinkFlags::LowerUp),
            is_virtual,
        })
    }

    /// The hardware address in colons, as everyone writes it.
    pub fn mac_text(&self) -> String {
        self.mac.map(|byte| format!("{byte:02x}")).join(":")
    }
}

/// Bridges tell about their ports with messages of the same kind, which are not about the link.
fn is_about_link(message: &LinkMessage) -> bool {
    message.header.interface_family == AddressFamily::Unspec
}

fn address(message: &AddressMessage) -> Option<Address> {
    let (mut local, mut peer) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(ip) => local = Some(*ip),
            AddressAttribute::Address(ip) => peer = Some(*ip),
            _ => {}
        }
    }
    // IPv6 has only the second; for IPv4 the first is this end's.
    Some(Address {
        ip: local.or(peer)?,
        prefix: message.header.prefix_len,
    })
}

/// The router of an IPv6 default route.
fn router(message: &RouteMessage) -> Option<(u32, Ipv6Addr)> {
    if message.header.destination_prefix_length != 0 || message.header.kind != RouteType::Unicast {
        return None;
    }
    let (mut index, mut gateway) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Oif(oif) => index = Some(*oif),
            RouteAttribute::Gateway(RouteAddress::Inet6(address)) => gateway = Some(*address),
            _ => {}
        }
    }
    Some((index?, gateway?))
}

fn event(message: &RouteNetlinkMessage) -> Option<Event> {
    match message {
        RouteNetlinkMessage::NewLink(link) => Link::from_message(link).map(Event::Link),
        RouteNetlinkMessage::DelLink(link) if is_about_link(link) => {
            Some(Event::LinkGone(link.header.index))
        }
        RouteNetlinkMessage::NewAddress(message) => {
            let unusable = AddressHeaderFlags::Tentative | AddressHeaderFlags::Dadfailed;
            if message.header.flags.intersects(unusable) {
                return None;
            }
            Some(Event::Address(message.header.index, address(message)?))
        }
        RouteNetlinkMessage::DelAddress(message) => {
            Some(Event::AddressGone(message.header.index, address(message)?))
        }
        RouteNetlinkMessage::NewRoute(message) => {
            router(message).map(|(index, gateway)| Event::Router(index, gateway))
        }
        RouteNetlinkMessage::DelRoute(message) => {
            router(message).map(|(index, gateway)| Event::RouterGone(index, gateway))
        }
        _ => None,
    }
}
