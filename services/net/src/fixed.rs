//! A fixed address on one link, as the owner wrote it: one task, which gives it to the link at
//! once, and again whenever the cable is back.
//!
//! It stays when this service ends: whoever talks to the box meanwhile goes on.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use kos_manifest::box_settings::values::PrefixAddress;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use crate::dhcp::{Control, News, Report, told};
use crate::netlink::{Link, Netlink};

/// Wait after the kernel refused, doubled up to the second.
const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_LONGEST: Duration = Duration::from_secs(60);

/// An address and the way out of its network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fixed {
    /// The address of this machine.
    pub address: PrefixAddress,
    /// Router of the default route.
    pub gateway: Option<IpAddr>,
}

impl Fixed {
    /// Whether it takes the place of DHCP, which is IPv4's.
    pub fn is_ipv4(&self) -> bool {
        self.address.address.is_ipv4()
    }

    /// Router of the IPv4 default route.
    pub fn gateway_v4(&self) -> Option<Ipv4Addr> {
        match self.gateway {
            Some(IpAddr::V4(gateway)) => Some(gateway),
            _ => None,
        }
    }
}

/// Keeps the address on a link until it is told to stop, or the manager is gone.
pub async fn keep(
    link: Link,
    fixed: Fixed,
    netlink: Netlink,
    mut control: watch::Receiver<Control>,
    reports: mpsc::Sender<Report>,
) {
    let mut retry = RETRY_FIRST;
    loop {
        let result = netlink.apply_fixed(link.index, &fixed).await;
        let is_set = result.is_ok();
        let news = match result {
            Ok(()) => News::Fixed,
            Err(error) => News::Trouble(format!("{error:#}")),
        };
        let report = Report {
            index: link.index,
            news,
        };
        if reports.send(report).await.is_err() {
            return;
        }
        let had_carrier = control.borrow().carrier;
        let changed = told(&mut control, |now| now.stop || now.carrier != had_carrier);
        let now = if is_set {
            retry = RETRY_FIRST;
            changed.await
        } else {
            let now = timeout(retry, changed).await;
            retry = (retry * 2).min(RETRY_LONGEST);
            now.unwrap_or(Some(Control {
                carrier: had_carrier,
                stop: false,
            }))
        };
        if now.is_none_or(|now| now.stop) {
            return;
        }
    }
}
