//! DHCP on one link: one task, from the cable's being plugged in to the release of the lease.
//!
//! The protocol is mozim's. This task gives it what it does not have: the carrier, the kernel's
//! addresses, a check of what the server said, and an end to a request that no server confirms.

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context, Result};
use mozim::{DhcpV4Client, DhcpV4Config, DhcpV4Lease, DhcpV4State};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::hostname::Hostname;
use crate::lease::Lease;
use crate::netlink::{Link, Netlink};

/// A server that offered an address and does not confirm it: ask all servers again. mozim would
/// repeat the request for ever, and does not look at refusals in this state.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// After this without an answer the console says so; the search goes on.
const SILENCE: Duration = Duration::from_secs(10);
/// Wait after an error of the socket or of the kernel, doubled up to the second.
const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_LONGEST: Duration = Duration::from_secs(60);
/// A release is a courtesy to the server; the shutdown does not wait longer for it.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(1);

/// What the manager tells the task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Control {
    /// The link has a carrier.
    pub carrier: bool,
    /// Release the lease and end.
    pub stop: bool,
}

/// What the task tells the manager.
#[derive(Debug)]
pub struct Report {
    /// The link's index.
    pub index: u32,
    /// What happened.
    pub news: News,
}

/// What happened on a link.
#[derive(Debug)]
pub enum News {
    /// The link has the address of this lease, granted just now.
    Leased(Box<Lease>),
    /// The link has the owner's fixed address.
    Fixed,
    /// The link has no address any more.
    Lost(String),
    /// Something went wrong or takes long; the task goes on.
    Trouble(String),
}

/// A lease in use.
struct Held {
    raw: DhcpV4Lease,
    address: Ipv4Addr,
    expires: Option<Instant>,
}

/// Waits until the manager says so; `None` when it is gone.
pub async fn told(
    control: &mut watch::Receiver<Control>,
    is_awaited: impl FnMut(&Control) -> bool,
) -> Option<Control> {
    // Copied at once: the guard locks the channel.
    control.wait_for(is_awaited).await.ok().map(|now| *now)
}

/// The task's state.
pub struct Dhcp {
    link: Link,
    hostname: Option<Hostname>,
    netlink: Netlink,
    control: watch::Receiver<Control>,
    reports: mpsc::Sender<Report>,
    held: Option<Held>,
}

impl Dhcp {
    /// A task for a link; `hostname` is told to the server.
    pub fn new(
        link: Link,
        hostname: Option<Hostname>,
        netlink: Netlink,
        control: watch::Receiver<Control>,
        reports: mpsc::Sender<Report>,
    ) -> Self {
        Dhcp {
            link,
            hostname,
            netlink,
            control,
            reports,
            held: None,
        }
    }

    /// Runs until it is told to stop, or the manager is gone.
    pub async fn run(mut self) {
        let mut retry = RETRY_FIRST;
        while self.wait_for_carrier().await {
            let result = self.converse().await;
            let Err(error) = result else {
                retry = RETRY_FIRST;
                continue;
            };
            self.report(News::Trouble(format!("{error:#}"))).await;
            let mut control = self.control.clone();
            tokio::select! {
                () = sleep(retry) => retry = (retry * 2).min(RETRY_LONGEST),
                _ = told(&mut control, |now| now.stop) => break,
            }
        }
        self.lose("stopped").await;
    }

    /// Waits until the link can carry packets; false means stop. A lease outlives an unplugged
    /// cable, but not its own time.
    async fn wait_for_carrier(&mut self) -> bool {
        let mut control = self.control.clone();
        loop {
            let expires = self.held.as_ref().and_then(|held| held.expires);
            tokio::select! {
                now = told(&mut control, |now| now.stop || now.carrier) => {
                    return now.is_some_and(|now| !now.stop);
                }
                () = async {
                    match expires {
                        Some(at) => sleep_until(at).await,
                        None => std::future::pending().await,
                    }
                } => self.lose("the lease ended while the cable was out").await,
            }
        }
    }

    /// One conversation with the servers, over when the carrier is lost or the task must stop.
    async fn converse(&mut self) -> Result<()> {
        // A lease from before the cable was out is confirmed rather than asked for anew.
        let known = self.held.as_ref().map(|held| held.raw.clone());
        let mut client = DhcpV4Client::init(self.config()?, known)
            .await
            .context("cannot start DHCP")?;
        let mut control = self.control.clone();
        let ended = tokio::select! {
            now = told(&mut control, |now| now.stop || !now.carrier) => Ok(now.is_some_and(|now| now.stop)),
            error = self.follow(&mut client) => Err(error),
        };
        match ended {
            Ok(true) => self.release(&mut client).await,
            Ok(false) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn config(&self) -> Result<DhcpV4Config> {
        let mut config = DhcpV4Config::new(&self.link.name);
        config
            .set_iface_index(self.link.index)
            .set_iface_mac_raw(&self.link.mac)
            .context("cannot use the link's MAC address")?
            .use_mac_as_client_id();
        if let Some(name) = &self.hostname {
            config.set_host_name(name.as_str());
        }
        Ok(config)
    }

    /// Follows the protocol's states for ever; returns only an error.
    async fn follow(&mut self, client: &mut DhcpV4Client) -> anyhow::Error {
        let mut silence = Some(Instant::now() + SILENCE);
        let mut is_requesting = false;
        loop {
            let state = if is_requesting {
                timeout(REQUEST_TIMEOUT, client.run()).await.ok()
            } else if let (Some(at), None) = (silence, &self.held) {
                tokio::select! {
                    state = client.run() => Some(state),
                    // mozim starts its wait for an offer anew, with the same back-off.
                    () = sleep_until(at) => {
                        silence = None;
                        self.report(News::Trouble("no DHCP server has answered yet".into())).await;
                        continue;
                    }
                }
            } else {
                Some(client.run().await)
            };
            let state = match state {
                Some(Ok(state)) => state,
                Some(Err(error)) => return anyhow::Error::new(error).context("DHCP failed"),
                None => {
                    is_requesting = false;
                    client.clean_up();
                    let text = "the DHCP server offered an address and did not confirm it";
                    self.report(News::Trouble(text.into())).await;
                    continue;
                }
            };
            is_requesting = state == DhcpV4State::Selecting;
            match state {
                DhcpV4State::Done(raw) => {
                    if let Err(error) = self.take(*raw).await {
                        return error;
                    }
                }
                DhcpV4State::InitReboot => self.lose("the lease has ended").await,
                _ => {}
            }
        }
    }

    /// Checks and applies what a server granted.
    async fn take(&mut self, raw: DhcpV4Lease) -> Result<()> {
        let lease = Lease::try_from(&raw)?;
        self.netlink.apply(self.link.index, &lease).await?;
        self.held = Some(Held {
            raw,
            address: lease.address,
            expires: lease
                .lifetime
                .and_then(|lifetime| Instant::now().checked_add(lifetime)),
        });
        self.report(News::Leased(Box::new(lease))).await;
        Ok(())
    }

    async fn lose(&mut self, reason: &str) {
        if self.held.take().is_none() {
            return;
        }
        if let Err(error) = self.netlink.withdraw(self.link.index).await {
            tracing::warn!("{}: {error:#}", self.link.name);
        }
        self.report(News::Lost(reason.to_owned())).await;
    }

    async fn release(&mut self, client: &mut DhcpV4Client) {
        let Some(held) = &self.held else { return };
        match timeout(RELEASE_TIMEOUT, client.release(&held.raw)).await {
            Ok(Ok(())) => tracing::info!("{}: released {}", self.link.name, held.address),
            Ok(Err(error)) => tracing::warn!("{}: cannot release: {error}", self.link.name),
            Err(_) => tracing::warn!("{}: cannot release in time", self.link.name),
        }
        self.lose("released").await;
    }

    async fn report(&self, news: News) {
        // Only a manager that has ended does not listen.
        let _ = self
            .reports
            .send(Report {
                index: self.link.index,
                news,
            })
            .await;
    }
}
