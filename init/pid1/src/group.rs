//! The cgroup of one service, from its first process until the service rests: its limits, its
//! counters, and what wakes PID 1 when it meets one or waits too long.

use std::future::{Future, poll_fn};
use std::task::Poll;

use anyhow::{Context, Result};
use kos_manifest::quantity;
use kos_manifest::service::{
    Limits, Pressure, PressureLevel, PressureResource, PressureResponse, Service,
};
use kos_sys::cgroup::{Cgroup, MemoryEvents};
use kos_sys::psi;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::cgroup_watch::Watched;
use crate::descriptor;
use crate::lifecycle::Ending;
use crate::supervisor::Shared;

/// Period of processor quotas: the kernel's default, 100 ms.
const CPU_PERIOD_USEC: u64 = 100_000;

/// The files of a group that say that something has happened to it.
const WATCHED: [&str; 3] = ["memory.events", "pids.events", "cgroup.events"];

/// The cgroup of one service.
pub struct Group {
    cgroup: Cgroup,
    watched: Watched,
    triggers: Vec<Trigger>,
}

struct Trigger {
    rule: Pressure,
    descriptor: AsyncFd<psi::Trigger>,
}

/// What woke whoever waits for a group.
#[derive(Debug)]
pub enum Told {
    /// One of its counters moved, or it froze.
    Counters,
    /// It has waited too long for something: what is to be done, and why.
    Pressure(PressureResponse, String),
}

/// The counters that say which limit was met.
#[derive(Debug, Clone, Copy, Default)]
pub struct Counters {
    memory: MemoryEvents,
    pids: u64,
}

/// The name of a service's group below the hierarchy's root.
pub fn name(service: &str) -> String {
    format!("services/{service}")
}

impl Group {
    /// Makes the group, or takes over the one that is there, and puts the limits in place.
    ///
    /// # Errors
    /// The kernel does not take a limit, or does not watch.
    pub fn new(service: &Service, shared: &Shared) -> Result<Self> {
        let cgroup = shared.cgroups.create(&name(&service.name))?;
        // One that was left frozen would keep its next process from ever starting.
        cgroup.freeze(false)?;
        let watched = shared.watch.add(cgroup.path(), &WATCHED)?;
        let mut group = Group {
            cgroup,
            watched,
            triggers: Vec::new(),
        };
        group.limit(service, shared)?;
        Ok(group)
    }

    /// Puts limits and rules in place of those that are there.
    ///
    /// # Errors
    /// As [`Group::new`].
    pub fn limit(&mut self, service: &Service, shared: &Shared) -> Result<()> {
        apply(&service.limits, &self.cgroup, shared.place.data_disk)?;
        self.triggers.clear();
        for rule in &service.pressure {
            self.triggers.push(Trigger {
                rule: rule.clone(),
                descriptor: trigger(&self.cgroup, rule)?,
            });
        }
        Ok(())
    }

    /// The kernel's side of it.
    pub fn cgroup(&self) -> &Cgroup {
        &self.cgroup
    }

    /// Waits for the next thing that happens to the group.
    pub async fn wake(&self) -> Told {
        tokio::select! {
            () = self.watched.changed() => Told::Counters,
            index = self.pressed() => {
                let rule = self.triggers.get(index).map(|trigger| &trigger.rule);
                rule.map_or(Told::Counters, |rule| Told::Pressure(rule.action, sentence(rule)))
            }
        }
    }

    /// Waits for the first trigger that goes off, by its place in the list.
    async fn pressed(&self) -> usize {
        let mut waits: Vec<_> = self
            .triggers
            .iter()
            .map(|trigger| Some(Box::pin(trigger.descriptor.ready(Interest::PRIORITY))))
            .collect();
        poll_fn(|context| {
            for (index, slot) in waits.iter_mut().enumerate() {
                let Some(wait) = slot else { continue };
                match wait.as_mut().poll(context) {
                    Poll::Ready(Ok(mut guard)) => {
                        guard.clear_ready();
                        return Poll::Ready(index);
                    }
                    // The loop is ending; a future that is done must not be asked again.
                    Poll::Ready(Err(_)) => *slot = None,
                    Poll::Pending => {}
                }
            }
            Poll::Pending
        })
        .await
    }

    /// Removes the group; says whether it is gone. One in which a process is still dying is not.
    pub fn remove(&self) -> bool {
        match self.cgroup.remove() {
            Ok(()) => true,
            Err(error) => error.errno() != Some(rustix::io::Errno::BUSY.raw_os_error()),
        }
    }
}

impl Counters {
    /// As they are now; zero where the kernel does not count.
    pub fn read(cgroup: &Cgroup) -> Self {
        Counters {
            memory: cgroup.memory_events().unwrap_or_default(),
            pids: cgroup.pids_events_max().unwrap_or_default(),
        }
    }

    /// What the counters say about an end, `self` being how they were before the process.
    pub fn explain(&self, ending: Ending, cgroup: &Cgroup, limits: &Limits) -> Ending {
        let after = Counters::read(cgroup);
        if after.memory.oom_kill > self.memory.oom_kill {
            let limit = limits.memory.map_or_else(
                || "when the machine had no more".to_owned(),
                |bytes| format!("at its limit of {}", quantity::show_bytes(bytes)),
            );
            let reason = format!("out of memory: killed by the kernel {limit}");
            return Ending { reason, code: None };
        }
        if after.pids > self.pids {
            let reason = format!("{} (it had met its {})", ending.reason, pids_limit(limits));
            return Ending { reason, ..ending };
        }
        ending
    }

    /// The limit that a running process has met since, as a remark.
    pub fn limit_met(&self, cgroup: &Cgroup, limits: &Limits) -> Option<String> {
        let times = Counters::read(cgroup).pids.saturating_sub(self.pids);
        // The exact number would change with each attempt of a fork bomb; its size tells enough.
        (times > 0).then(|| format!("running, but contained at its {}", pids_limit(limits)))
    }
}

fn pids_limit(limits: &Limits) -> String {
    format!("limit of {} processes", limits.pids)
}

/// Puts a service's limits in place. The controllers that are there must take them; one that this
/// kernel does not have (`io.weight` without a scheduler that knows it) is passed over by kos-sys.
fn apply(limits: &Limits, cgroup: &Cgroup, data_disk: Option<(u32, u32)>) -> Result<()> {
    cgroup.memory_low(limits.memory_low)?;
    cgroup.memory_high(limits.memory_high)?;
    cgroup.memory_max(limits.memory)?;
    cgroup.swap_max(Some(limits.memory_swap))?;
    cgroup.oom_group(limits.oom_group)?;
    cgroup.cpu_weight(limits.cpu_weight)?;
    let quota = limits
        .cpu_millis
        .map(|millis| u64::from(millis) * CPU_PERIOD_USEC / 1000);
    cgroup.cpu_max(quota, CPU_PERIOD_USEC)?;
    cgroup.pids_max(limits.pids)?;
    cgroup.io_weight(limits.io_weight)?;
    // Without a disk `/data` is memory, which has its own limit.
    if let Some(device) = data_disk {
        cgroup.io_max(device, limits.io_read, limits.io_write)?;
    }
    Ok(())
}

fn trigger(cgroup: &Cgroup, rule: &Pressure) -> Result<AsyncFd<psi::Trigger>> {
    let path = cgroup
        .path()
        .join(format!("{}.pressure", resource(rule.resource)));
    let all = rule.level == PressureLevel::Full;
    let trigger = psi::Trigger::open(&path, all, rule.threshold, rule.window)?;
    descriptor::register_priority(trigger).context("cannot wait for a pressure rule")
}

fn resource(resource: PressureResource) -> &'static str {
    match resource {
        PressureResource::Memory => "memory",
        PressureResource::Cpu => "cpu",
        PressureResource::Io => "io",
    }
}

fn sentence(rule: &Pressure) -> String {
    let who = match rule.level {
        PressureLevel::Some => "a thread of it",
        PressureLevel::Full => "all of it",
    };
    format!(
        "waited too long for {}: {who} for {} ms within {} ms",
        resource(rule.resource),
        rule.threshold.as_millis(),
        rule.window.as_millis()
    )
}
