//! The owner of the state: events from the kernel, the DHCP tasks and the clock come in, the
//! files for the others go out. Nothing else holds what is known about the network.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use futures_util::FutureExt;
use kos_sdk::stop::Stop;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use crate::clock::{self, Source, TimeServer};
use crate::dhcp::{Control, Dhcp, News, Report};
use crate::fixed;
use crate::hostname::{self, DomainName};
use crate::interface::Managed;
use crate::lease::Lease;
use crate::naming::Naming;
use crate::netlink::{Event, Link, Netlink};
use crate::owner::OwnerSettings;
use crate::rdnss::{self, Advertised};
use crate::state::{Files, State};
use crate::timekeeping::Timekeeping;

/// The box must boot without a network: after this it is ready without one.
const READY_TIMEOUT: Duration = Duration::from_secs(5);
/// For all links together to release their leases; PID 1's patience is longer.
const STOP_TIMEOUT: Duration = Duration::from_secs(2);
/// An interface that the owner named and that is not there by then is missed aloud: adapters on
/// USB take some seconds.
const INTERFACE_TIMEOUT: Duration = Duration::from_secs(10);
/// Messages that may wait for this owner.
const QUEUE: usize = 16;
/// A DHCP task that panicked starts again, but not at once: the packet may come again.
const PANIC_PAUSE: Duration = Duration::from_secs(10);
/// More links than a box has; further ones are left alone.
const MAX_LINKS: usize = 32;

/// What the service was told at its start.
#[derive(Debug)]
pub struct Options {
    /// Where the files go.
    pub directory: PathBuf,
    /// Time servers of the owner; when there are any, no others are asked.
    pub time_servers: Vec<TimeServer>,
    /// What the owner wrote about the network.
    pub owner: OwnerSettings,
    /// Also handle links that are made of software.
    pub any_link: bool,
    /// What was wrong with the settings, in words.
    pub errors: Vec<String>,
}

/// The owner.
pub struct Manager {
    options: Options,
    netlink: Netlink,
    files: Files,
    links: BTreeMap<u32, Managed>,
    report_sender: mpsc::Sender<Report>,
    time_servers: watch::Sender<Vec<TimeServer>>,
    timekeeping: Timekeeping,
    naming: Naming,
    /// The time is over in which the owner's interface should have been found.
    misses_interface: bool,
    ready: bool,
    status: String,
}

/// Runs the service until it is told to stop.
pub async fn run(options: Options) -> Result<()> {
    for text in options
        .errors
        .iter()
        .map(String::as_str)
        .chain(options.owner.wifi())
    {
        tracing::warn!("{text}");
    }
    let (netlink, mut events) = Netlink::connect()?;
    // Without it only the DNS servers of IPv6-only networks are missed.
    let mut advertised = rdnss::listen()
        .inspect_err(|error| tracing::warn!("{error:#}"))
        .unwrap_or_else(|_| mpsc::channel(1).1);
    let (report_sender, mut reports) = mpsc::channel(QUEUE);
    let (clock_sender, mut clock_news) = mpsc::channel(QUEUE);
    let (answer_sender, mut answers) = mpsc::channel(QUEUE);
    let (time_servers, time_server_list) = watch::channel(Vec::new());
    tokio::spawn(clock::keep(time_server_list, clock_sender));
    let mut manager = Manager {
        files: Files::new(options.directory.clone()),
        options,
        netlink,
        links: BTreeMap::new(),
        report_sender,
        time_servers,
        timekeeping: Timekeeping::default(),
        naming: Naming::new(answer_sender),
        misses_interface: false,
        ready: false,
        status: String::new(),
    };
    manager.netlink.set_loopback_up().await?;
    manager.dump().await?;

    let mut stop = Stop::listen().context("cannot handle signals")?;
    let patience = Instant::now() + READY_TIMEOUT;
    let interface_patience = Instant::now() + INTERFACE_TIMEOUT;
    loop {
        manager.publish()?;
        let expiry = manager.next_expiry();
        tokio::select! {
            () = stop.requested() => break,
            event = events.recv() => match event {
                Some(event) => manager.on_event(event).await?,
                None => bail!("the netlink connection has ended"),
            },
            Some(report) = reports.recv() => manager.on_report(report),
            Some(news) = clock_news.recv() => {
                let is_online = manager.links.values().any(Managed::is_configured);
                manager.timekeeping.take(news, is_online);
            }
            Some(dns) = advertised.recv() => manager.on_advertised(dns),
            Some(answer) = answers.recv() => manager.naming.answered(answer),
            () = sleep_until(patience), if !manager.ready => manager.set_ready(),
            () = sleep_until(interface_patience), if !manager.misses_interface => {
                manager.miss_interface();
            }
            () = sleep_until(expiry.unwrap_or(patience)), if expiry.is_some() => {
                manager.drop_expired();
            }
        }
    }
    manager.stop(&mut reports).await;
    manager.publish()
}

impl Manager {
    async fn dump(&mut self) -> Result<()> {
        let events = self.netlink.dump().await?;
        let is_there = |index: &u32| {
            events
                .iter()
                .any(|event| matches!(event, Event::Link(link) if link.index == *index))
        };
        let gone: Vec<u32> = self
            .links
            .keys()
            .filter(|index| !is_there(index))
            .copied()
            .collect();
        for index in gone {
            self.forget(index);
        }
        for managed in self.links.values_mut() {
            managed.addresses.clear();
            managed.routers.clear();
        }
        for event in events {
            self.on_plain_event(event).await;
        }
        Ok(())
    }

    async fn on_event(&mut self, event: Event) -> Result<()> {
        if event == Event::Overrun {
            tracing::debug!("netlink overrun: reading everything anew");
            return self.dump().await;
        }
        self.on_plain_event(event).await;
        Ok(())
    }

    async fn on_plain_event(&mut self, event: Event) {
        let mut with = |index: u32, change: &dyn Fn(&mut Managed)| {
            if let Some(managed) = self.links.get_mut(&index) {
                change(managed);
            }
        };
        match event {
            Event::Link(link) => self.on_link(link).await,
            Event::LinkGone(index) => self.forget(index),
            Event::Address(index, address) => {
                with(index, &|managed| {
                    managed.addresses.insert(address);
                });
                self.choose_time_servers();
            }
            Event::AddressGone(index, address) => {
                with(index, &|managed| {
                    managed.addresses.remove(&address);
                });
                self.choose_time_servers();
            }
            Event::Router(index, router) => with(index, &|managed| {
                managed.routers.insert(router);
            }),
            Event::RouterGone(index, router) => with(index, &|managed| {
                managed.routers.remove(&router);
            }),
            // Answered by its caller, which may dump.
            Event::Overrun => {}
        }
    }

    async fn on_link(&mut self, link: Link) {
        if let Some(managed) = self.links.get_mut(&link.index) {
            managed.change(link);
            return;
        }
        if (link.is_virtual && !self.options.any_link) || self.links.len() >= MAX_LINKS {
            return;
        }
        tracing::info!("{}: found, {}", link.name, link.mac_text());
        let mut trouble = None;
        if !link.up
            && let Err(error) = self.netlink.set_up(link.index).await
        {
            tracing::warn!("{}: {error:#}", link.name);
            trouble = Some(format!("{error:#}"));
        }
        let (control, control_receiver) = watch::channel(Control {
            carrier: link.carrier,
            stop: false,
        });
        let owned = self.options.owner.claim(&link);
        let mut tasks = Vec::new();
        if let Some(owned) = owned {
            tasks.push(tokio::spawn(fixed::keep(
                link.clone(),
                owned,
                self.netlink.clone(),
                control_receiver.clone(),
                self.report_sender.clone(),
            )));
        }
        if owned.is_none_or(|owned| !owned.is_ipv4()) {
            tasks.push(self.start_dhcp(&link, control_receiver));
        }
        let managed = Managed::new(link, trouble, control, owned, tasks);
        self.links.insert(managed.link.index, managed);
    }

    fn start_dhcp(&self, link: &Link, control: watch::Receiver<Control>) -> JoinHandle<()> {
        let (link, netlink) = (link.clone(), self.netlink.clone());
        let reports = self.report_sender.clone();
        tokio::spawn(async move {
            loop {
                let name = hostname::current();
                let dhcp = Dhcp::new(
                    link.clone(),
                    name,
                    netlink.clone(),
                    control.clone(),
                    reports.clone(),
                );
                // What strangers send is read by other people's code: a panic there costs this
                // link some seconds, and the service nothing.
                if AssertUnwindSafe(dhcp.run()).catch_unwind().await.is_ok() {
                    return;
                }
                let news = News::Trouble("the DHCP client panicked; it starts again".into());
                if reports
                    .send(Report {
                        index: link.index,
                        news,
                    })
                    .await
                    .is_err()
                {
                    return;
                }
                sleep(PANIC_PAUSE).await;
            }
        })
    }

    fn forget(&mut self, index: u32) {
        if let Some(managed) = self.links.remove(&index) {
            tracing::info!("{}: gone", managed.link.name);
            managed.tasks.iter().for_each(JoinHandle::abort);
            self.options.owner.release(index);
            self.choose_time_servers();
        }
    }

    fn on_report(&mut self, report: Report) {
        let Some(managed) = self.links.get_mut(&report.index) else {
            return;
        };
        let name = &managed.link.name;
        match report.news {
            News::Leased(lease) => {
                let is_new = managed.lease.as_ref().is_none_or(|(old, _)| *old != *lease);
                if is_new {
                    let seconds = lease.lifetime.map_or("ever".to_owned(), |lifetime| {
                        format!("{} s", lifetime.as_secs())
                    });
                    let Lease {
                        address,
                        prefix,
                        server,
                        ..
                    } = &*lease;
                    tracing::info!("{name}: {address}/{prefix} from {server} for {seconds}");
                } else {
                    tracing::debug!("{name}: {} renewed", lease.address);
                }
                managed.trouble = None;
                managed.lease = Some((*lease, Instant::now()));
                self.choose_time_servers();
                self.choose_hostname();
                self.set_ready();
            }
            News::Fixed => {
                if let Some((fixed, is_set)) = &mut managed.fixed {
                    if !*is_set {
                        tracing::info!("{name}: {} by the owner's settings", fixed.address);
                    }
                    *is_set = true;
                }
                managed.trouble = None;
                self.choose_time_servers();
                self.set_ready();
            }
            News::Lost(reason) => {
                tracing::info!("{name}: no address any more: {reason}");
                managed.lease = None;
                managed.trouble = Some(reason);
                self.choose_time_servers();
            }
            News::Trouble(text) => {
                tracing::warn!("{name}: {text}");
                managed.trouble = Some(text);
            }
        }
    }

    fn on_advertised(&mut self, advertised: Advertised) {
        let Some(managed) = self.links.get_mut(&advertised.index) else {
            return;
        };
        managed.take_advertised(advertised);
    }

    fn next_expiry(&self) -> Option<Instant> {
        self.links.values().filter_map(Managed::next_expiry).min()
    }

    fn drop_expired(&mut self) {
        self.links.values_mut().for_each(Managed::drop_expired);
    }

    /// The owner's servers; else DHCP's; else the routers, which are asked once.
    /// Without an address nobody can be asked.
    fn choose_time_servers(&self) {
        let mut chosen = Vec::new();
        if self.links.values().any(Managed::is_configured) {
            chosen.clone_from(&self.options.time_servers);
        }
        let leases = || {
            self.links
                .values()
                .filter_map(|managed| managed.lease.as_ref())
        };
        let mut add = |address: Ipv4Addr, source| {
            let server = TimeServer::new(IpAddr::V4(address), source);
            if !chosen.contains(&server) {
                chosen.push(server);
            }
        };
        if self.options.time_servers.is_empty() {
            let dhcp: Vec<Ipv4Addr> = leases().flat_map(|(lease, _)| lease.ntp.clone()).collect();
            if dhcp.is_empty() {
                for gateway in self.links.values().filter_map(Managed::gateway) {
                    add(gateway, Source::Gateway);
                }
            }
            for server in dhcp {
                add(server, Source::Dhcp);
            }
        }
        self.time_servers.send_if_modified(|servers| {
            let is_changed = *servers != chosen;
            *servers = chosen;
            is_changed
        });
    }

    /// The first link's name for this machine.
    fn choose_hostname(&mut self) {
        let mut leases = self
            .links
            .values()
            .filter_map(|managed| managed.lease.as_ref());
        if let Some(name) = leases.find_map(|(lease, _)| lease.hostname.clone()) {
            self.naming.choose(name);
        }
    }

    fn set_ready(&mut self) {
        if !self.ready {
            self.ready = true;
            self.status = self.summary();
            kos_sdk::notify::ready_with(&self.status);
        }
    }

    fn publish(&mut self) -> Result<()> {
        let summary = self.summary();
        if self.ready && summary != self.status {
            kos_sdk::notify::status(&summary);
            self.status = summary;
        }
        let state = self.state();
        let directory = self.options.directory.display();
        self.files
            .write(&state)
            .with_context(|| format!("cannot write to {directory}"))
    }

    /// One line for the console.
    fn summary(&self) -> String {
        let lines: Vec<String> = self.links.values().map(Managed::summary).collect();
        let mut summary = if lines.is_empty() {
            "no network interface".to_owned()
        } else {
            lines.join(", ")
        };
        for note in self.owner_notes() {
            summary.push_str(". ");
            summary.push_str(&note);
        }
        summary
    }

    /// What of the owner's settings cannot be done.
    fn owner_notes(&self) -> Vec<String> {
        let owner = &self.options.owner;
        let names = self.links.values().map(|managed| &*managed.link.name);
        let missing = self
            .misses_interface
            .then(|| owner.missing(names))
            .flatten();
        let wifi = owner.wifi().map(str::to_owned);
        missing.into_iter().chain(wifi).collect()
    }

    fn miss_interface(&mut self) {
        self.misses_interface = true;
        let names = self.links.values().map(|managed| &*managed.link.name);
        if let Some(text) = self.options.owner.missing(names) {
            tracing::warn!("{text}");
        }
    }

    fn state(&self) -> State {
        let mut dns: Vec<IpAddr> = Vec::new();
        let mut search: Vec<DomainName> = Vec::new();
        for managed in self.links.values() {
            for server in managed.dns() {
                if !dns.contains(&server) {
                    dns.push(server);
                }
            }
            for domain in managed.lease.iter().flat_map(|(lease, _)| &lease.search) {
                if !search.contains(domain) {
                    search.push(domain.clone());
                }
            }
        }
        if !self.options.owner.dns().is_empty() {
            dns = self.options.owner.dns().to_vec();
        }
        let errors = self
            .options
            .errors
            .iter()
            .chain(&self.naming.error)
            .cloned()
            .chain(self.owner_notes())
            .collect();
        State {
            hostname: self.naming.hostname.clone(),
            interfaces: self.links.values().map(Managed::state).collect(),
            dns,
            search,
            ntp: self.timekeeping.state(),
            errors,
        }
    }

    /// Releases every lease, within a deadline; reports are still taken so that no task waits.
    async fn stop(&mut self, reports: &mut mpsc::Receiver<Report>) {
        for managed in self.links.values() {
            managed.control.send_modify(|control| control.stop = true);
        }
        let deadline = Instant::now() + STOP_TIMEOUT;
        let indexes: Vec<u32> = self.links.keys().copied().collect();
        for index in indexes {
            while let Some(managed) = self.links.get_mut(&index)
                && let Some(task) = managed.tasks.last_mut()
            {
                tokio::select! {
                    ended = timeout_at(deadline, &mut *task) => {
                        if ended.is_err() {
                            task.abort();
                        }
                        managed.tasks.pop();
                    }
                    Some(report) = reports.recv() => self.on_report(report),
                }
            }
        }
        while let Ok(report) = reports.try_recv() {
            self.on_report(report);
        }
    }
}
