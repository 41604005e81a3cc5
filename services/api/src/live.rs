//! Services and machine as last seen, shared by everyone who looks.
//!
//! One task waits for PID 1 to say that something changed. Memory and CPU change all the time and
//! PID 1 says nothing about that, so they are sampled as well, but only while someone watches.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kos_sdk::control::{ServiceStatus, SystemStatus};
use serde::Serialize;
use tokio::sync::{Mutex, Notify, watch};

use crate::app::stopped;
use crate::control::{Control, ControlError};
use crate::memory::Memory;

/// How often memory and CPU are sampled while someone watches.
const SAMPLE_EVERY: Duration = Duration::from_secs(2);
/// A sample this young is young enough for a page that is asked for now.
const FRESH: Duration = Duration::from_millis(250);
/// CPU time is a difference of two samples; closer ones make noise.
const CPU_SPAN: Duration = Duration::from_millis(900);
/// Time between two looks when changes come in a burst.
const CALM: Duration = Duration::from_millis(150);
/// Time between two tries when PID 1 is away.
const RETRY: Duration = Duration::from_secs(1);
/// How long one wait for a change lasts.
const WAIT_MS: u32 = 25_000;

/// A service, and what its two last samples say.
#[derive(Debug, Clone, Serialize)]
pub struct ServiceView {
    /// As PID 1 says it.
    #[serde(flatten)]
    pub status: ServiceStatus,
    /// Share of one CPU that it used lately, in percent; absent until two samples were taken.
    pub cpu_percent: Option<f64>,
}

/// One look at everything.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// In the order of their names.
    pub services: Vec<ServiceView>,
    /// The machine; `None` until PID 1 was reached once.
    pub system: Option<SystemStatus>,
    /// The machine's memory.
    pub memory: Option<Memory>,
    /// Why the rest may be old or missing.
    pub error: Option<ControlError>,
}

impl Snapshot {
    /// The machine's name, or nothing before PID 1 was reached.
    pub fn hostname(&self) -> &str {
        self.system
            .as_ref()
            .map_or("", |system| system.hostname.as_str())
    }

    /// A service by name.
    pub fn service(&self, name: &str) -> Option<&ServiceStatus> {
        self.services
            .iter()
            .map(|view| &view.status)
            .find(|status| status.name == name)
    }
}

/// The latest [`Snapshot`] and the means to renew it.
pub struct Live {
    control: Arc<Control>,
    sampler: Mutex<Sampler>,
    latest: watch::Sender<Arc<Snapshot>>,
    changed: Notify,
}

#[derive(Default)]
struct Sampler {
    taken: Option<Instant>,
    cpu: HashMap<String, CpuSample>,
}

struct CpuSample {
    at: Instant,
    usec: u64,
    percent: Option<f64>,
}

impl Live {
    /// Sees nothing yet.
    pub fn new(control: Arc<Control>) -> Self {
        let nothing = Snapshot {
            services: Vec::new(),
            system: None,
            memory: None,
            error: Some(ControlError::Away("not asked yet".into())),
        };
        Live {
            control,
            sampler: Mutex::default(),
            latest: watch::Sender::new(Arc::new(nothing)),
            changed: Notify::new(),
        }
    }

    /// What was seen last, however long ago.
    pub fn latest(&self) -> Arc<Snapshot> {
        self.latest.borrow().clone()
    }

    /// What is true now.
    pub async fn fresh(&self) -> Arc<Snapshot> {
        self.look(FRESH).await;
        self.latest()
    }

    /// Every new snapshot from now on; as long as the receiver lives, samples are taken.
    pub fn watch(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.changed.notify_one();
        self.latest.subscribe()
    }

    /// Something was just done: look soon, do not wait for PID 1 to tell.
    pub fn nudge(&self) {
        self.changed.notify_one();
    }

    /// Follows PID 1 until the service stops.
    pub async fn run(&self, stopping: watch::Receiver<bool>) {
        tokio::select! {
            () = self.wait_for_changes() => {}
            () = self.sample() => {}
            () = stopped(stopping) => {}
        }
    }

    async fn wait_for_changes(&self) {
        let mut generation = 0;
        loop {
            match self.control.wait_change(generation, WAIT_MS).await {
                Ok(now) if now == generation => {}
                Ok(now) => {
                    generation = now;
                    self.changed.notify_one();
                }
                Err(_) => {
                    // Another PID 1 counts from its own beginning.
                    generation = 0;
                    self.changed.notify_one();
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }

    async fn sample(&self) {
        loop {
            let tick = async {
                tokio::time::sleep(SAMPLE_EVERY).await;
                if self.latest.receiver_count() == 0 {
                    std::future::pending::<()>().await;
                }
            };
            tokio::select! {
                () = self.changed.notified() => {}
                () = tick => {}
            }
            self.look(Duration::ZERO).await;
            tokio::time::sleep(CALM).await;
        }
    }

    /// Looks, unless someone else has within `young_enough`.
    async fn look(&self, young_enough: Duration) {
        let mut sampler = self.sampler.lock().await;
        if sampler
            .taken
            .is_some_and(|taken| taken.elapsed() < young_enough)
        {
            return;
        }
        let seen = tokio::try_join!(self.control.services(), self.control.system());
        sampler.taken = Some(Instant::now());
        let before = self.latest();
        let snapshot = match seen {
            Ok((services, system)) => Snapshot {
                services: sampler.views(services),
                system: Some(system),
                memory: Memory::now(),
                error: None,
            },
            Err(error) => Snapshot {
                memory: Memory::now(),
                error: Some(error),
                ..Snapshot::clone(&before)
            },
        };
        self.latest.send_replace(Arc::new(snapshot));
    }
}

impl Sampler {
    fn views(&mut self, services: Vec<ServiceStatus>) -> Vec<ServiceView> {
        let now = Instant::now();
        self.cpu
            .retain(|name, _| services.iter().any(|service| service.name == *name));
        services
            .into_iter()
            .map(|status| ServiceView {
                cpu_percent: self.cpu_percent(&status, now),
                status,
            })
            .collect()
    }

    fn cpu_percent(&mut self, status: &ServiceStatus, now: Instant) -> Option<f64> {
        let usec = status.cpu_usec;
        let sample = self
            .cpu
            .entry(status.name.clone())
            .or_insert_with(|| CpuSample {
                at: now,
                usec,
                percent: None,
            });
        let span = now.duration_since(sample.at);
        if usec < sample.usec {
            // A new cgroup counts from zero.
            *sample = CpuSample {
                at: now,
                usec,
                percent: None,
            };
        } else if span >= CPU_SPAN {
            #[expect(clippy::cast_precision_loss, reason = "a percentage to look at")]
            let used = (usec - sample.usec) as f64 / 1_000_000.0;
            *sample = CpuSample {
                at: now,
                usec,
                percent: Some(used / span.as_secs_f64() * 100.0),
            };
        }
        sample.percent
    }
}
