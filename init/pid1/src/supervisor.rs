//! The services of the box: who they are, how to ask something of them, how they all are.
//!
//! The supervisor starts one task per service and then owns nothing of their states. Which
//! services there are can change (`reload.rs`).

mod order;
mod reload;
mod shared;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kos_manifest::control::{ServiceStatus, State};
use kos_manifest::service::{ControlGrant, Service, ServiceSet};
use kos_sys::cgroup::Cgroup;
use kos_sys::clock::boottime_milliseconds;
use tokio::sync::{mpsc, oneshot, watch};

use crate::console::lock;
use crate::group;
use crate::logs::Log;
use crate::manifests::Manifests;
use crate::task::{Command, Dependency, Parts, Request, ServiceTask, ServiceView};
pub use shared::{Shared, Wishes};

/// Requests that may wait for one service's task. It takes them at once; more than a few waiting
/// means that somebody floods, and the flooder waits.
const COMMAND_QUEUE: usize = 16;

#[derive(Clone)]
struct Handle {
    service: Arc<Service>,
    commands: mpsc::Sender<Command>,
    view: watch::Receiver<ServiceView>,
    log: Log,
}

/// Why a request was not taken.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// No service has that name.
    #[error("there is no service '{name}', allowed: {allowed}")]
    NoSuchService {
        /// The name asked for.
        name: String,
        /// Those that exist.
        allowed: String,
    },
    /// The service cannot do it now.
    #[error("{0}")]
    NotNow(String),
    /// A manifest is wrong, and nothing has changed.
    #[error("{0}")]
    WrongManifest(String),
}

/// All services.
pub struct Supervisor {
    shared: Arc<Shared>,
    handles: Mutex<BTreeMap<String, Handle>>,
    /// What those services are by their manifests, and where those are kept. One reload at a time.
    reloading: tokio::sync::Mutex<(Manifests, ServiceSet)>,
}

impl Supervisor {
    /// Starts a task for each service. A service whose task cannot be made is told and left out.
    pub fn new(services: ServiceSet, manifests: Manifests, shared: Arc<Shared>) -> Self {
        let all = services.iter().cloned().map(Arc::new).collect();
        let supervisor = Supervisor {
            shared,
            handles: Mutex::default(),
            reloading: tokio::sync::Mutex::new((manifests, services)),
        };
        supervisor.add(all);
        supervisor
    }

    /// What all parts share.
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Makes tasks for services that are new, which rest until somebody starts them.
    fn add(&self, services: Vec<Arc<Service>>) {
        let mut ends = Vec::new();
        {
            let mut handles = lock(&self.handles);
            for service in services {
                let (commands, requests) = mpsc::channel(COMMAND_QUEUE);
                let (publish, view) = watch::channel(ServiceView::initial(service.enabled));
                let handle = Handle {
                    service: service.clone(),
                    commands,
                    view,
                    log: self.shared.console.logs().open(&service.name),
                };
                ends.push((handle.clone(), requests, publish));
                handles.insert(service.name.clone(), handle);
            }
        }
        for (handle, commands, view) in ends {
            let name = handle.service.name.clone();
            let parts = Parts {
                dependencies: self.dependencies(&handle.service),
                service: handle.service,
                shared: self.shared.clone(),
                commands,
                view,
                log: handle.log,
            };
            match ServiceTask::new(parts) {
                Ok(task) => drop(tokio::spawn(task.run())),
                Err(error) => self
                    .shared
                    .console
                    .say(3, &format!("service {name} is lost: {error:#}")),
            }
        }
    }

    /// What a service comes after, among those that there are.
    fn dependencies(&self, service: &Service) -> Vec<Dependency> {
        let handles = lock(&self.handles);
        let dependency = |other: &String| {
            Some(Dependency {
                name: other.clone(),
                required: service.requires.contains(other),
                view: handles.get(other)?.view.clone(),
            })
        };
        service.after.iter().filter_map(dependency).collect()
    }

    /// Starts every enabled service and what it needs, in parallel where nothing orders them.
    pub async fn start_enabled(&self) {
        let services = self.services();
        let enabled: Vec<&str> = services
            .values()
            .filter(|service| service.enabled)
            .map(|service| service.name.as_str())
            .collect();
        for name in order::with_needs(&services, &enabled) {
            if let Err(error) = self.ask(name, Request::Start).await {
                self.shared
                    .console
                    .say(3, &format!("cannot start: {error}"));
            }
        }
    }

    /// Starts what timers wish for, for ever.
    pub async fn grant_wishes(self: Arc<Self>) {
        loop {
            let name = self.shared.wishes.next().await;
            // One that is gone, in quarantine, or going down with the box is not started.
            if !self.shared.shutdown.is_requested() {
                let _ = self.start_by(&name, Request::Scheduled).await;
            }
        }
    }

    /// Waits until no enabled service is still on its way up.
    pub async fn settled(&self) {
        self.until(|handle| !handle.service.enabled || handle.view.borrow().state.is_settled())
            .await;
    }

    /// Whether no service has ended for good by itself.
    pub fn none_failed(&self) -> bool {
        lock(&self.handles)
            .values()
            .all(|handle| handle.view.borrow().state != State::Failed)
    }

    /// Starts a service, and first what it requires and wants.
    ///
    /// # Errors
    /// When there is no such service, or it is in quarantine.
    pub async fn start(&self, name: &str) -> Result<(), RequestError> {
        self.start_by(name, Request::Start).await
    }

    async fn start_by(&self, name: &str, request: Request) -> Result<(), RequestError> {
        let services = self.services();
        for need in order::with_needs(&services, &[name]) {
            let runs = |handle: &Handle| {
                let state = handle.view.borrow().state;
                matches!(state, State::Ready | State::Starting | State::Frozen)
            };
            let running = lock(&self.handles).get(need).is_some_and(runs);
            if need != name && !running {
                // One in quarantine stays there; who requires it will say so.
                match self.ask(need, Request::Start).await {
                    Ok(()) | Err(RequestError::NotNow(_)) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        self.ask(name, request).await
    }

    /// Asks a service for something; returns when its task has taken the request.
    ///
    /// # Errors
    /// When there is no such service, or it cannot do it now.
    pub async fn ask(&self, name: &str, request: Request) -> Result<(), RequestError> {
        let commands = self.handle(name)?.commands;
        let (taken, answer) = oneshot::channel();
        let gone = || RequestError::NotNow(format!("the supervisor of {name} is gone"));
        commands
            .send(Command { request, taken })
            .await
            .map_err(|_| gone())?;
        answer
            .await
            .map_err(|_| gone())?
            .map_err(RequestError::NotNow)
    }

    /// Stops all services, each after those that come after it.
    pub async fn stop_all(&self, reason: &str) {
        let services = self.services();
        let names = services.keys().map(String::as_str).collect();
        self.stop_in_order(&services, names, || Request::Stop(reason.to_owned()))
            .await;
    }

    /// Stops some services by a request, each after those of all that have to go first.
    async fn stop_in_order(
        &self,
        services: &order::Services,
        names: Vec<&str>,
        request: impl Fn() -> Request,
    ) {
        let after = order::stops_after(services);
        let stops = names.into_iter().map(|name| {
            let first = after.get(name).cloned().unwrap_or_default();
            let request = request();
            async move {
                for other in first {
                    self.gone(other).await;
                }
                // A service that is not there any more needs no stopping.
                let _ = self.ask(name, request).await;
                self.gone(name).await;
            }
        });
        join_all(stops).await;
    }

    /// Waits until a service has no process.
    async fn gone(&self, name: &str) {
        let Ok(mut handle) = self.handle(name) else {
            return;
        };
        // A task that has ended has no process either.
        let _ = handle.view.wait_for(|view| !view.is_busy()).await;
    }

    /// Waits until no service has a process.
    pub async fn all_gone(&self) {
        self.until(|handle| !handle.view.borrow().is_busy()).await;
    }

    /// Asks the task of one service whether it lives, another one each turn.
    ///
    /// # Errors
    /// When the task is gone.
    pub async fn round_trip(&self, turn: usize) -> Result<(), RequestError> {
        let names = self.names();
        let Some(name) = names.get(turn % names.len().max(1)) else {
            return Ok(());
        };
        match self.ask(name, Request::Beat).await {
            // It has been removed since, or is being removed.
            Err(RequestError::NoSuchService { .. }) => Ok(()),
            Err(_) if self.reloading.try_lock().is_err() => Ok(()),
            result => result,
        }
    }

    /// How one service is.
    ///
    /// # Errors
    /// When there is no such service.
    pub fn status(&self, name: &str) -> Result<ServiceStatus, RequestError> {
        Ok(self.describe(&self.handle(name)?))
    }

    /// The names of all services.
    pub fn names(&self) -> Vec<String> {
        lock(&self.handles).keys().cloned().collect()
    }

    /// What a service is by its manifest.
    ///
    /// # Errors
    /// When there is no such service.
    pub fn service(&self, name: &str) -> Result<Arc<Service>, RequestError> {
        Ok(self.handle(name)?.service)
    }

    /// What the service with this uid may ask of PID 1; `None` when there is none.
    pub fn grant_of(&self, uid: u32) -> Option<ControlGrant> {
        lock(&self.handles)
            .values()
            .find(|handle| handle.service.uid == uid)
            .map(|handle| handle.service.sandbox.control)
    }

    /// The cgroup of a service; while the service rests, the kernel may not have it.
    pub fn group(&self, name: &str) -> Cgroup {
        self.shared.cgroups.group(&group::name(name))
    }

    /// Who a user is, for people: the service that it is the user of, or root.
    pub fn name_of(&self, uid: u32) -> String {
        let handles = lock(&self.handles);
        match handles.values().find(|handle| handle.service.uid == uid) {
            Some(handle) => handle.service.name.clone(),
            None if uid == 0 => "root".to_owned(),
            None => format!("user {uid}"),
        }
    }

    /// The log of a service.
    ///
    /// # Errors
    /// When there is no such service.
    pub fn log(&self, name: &str) -> Result<Log, RequestError> {
        Ok(self.handle(name)?.log)
    }

    /// Waits for a change after `generation`, for up to `wait`; returns the generation now.
    pub async fn wait_change(&self, generation: u64, wait: Duration) -> u64 {
        let mut changes = self.shared.changes.subscribe();
        let changed = changes.wait_for(|now| *now != generation);
        match tokio::time::timeout(wait, changed).await {
            Ok(Ok(now)) => *now,
            _ => *self.shared.changes.borrow(),
        }
    }

    async fn until(&self, all: impl Fn(&Handle) -> bool) {
        let mut changes = self.shared.changes.subscribe();
        while !lock(&self.handles).values().all(&all) {
            if changes.changed().await.is_err() {
                return;
            }
        }
    }

    /// All services by name, as they are at this moment.
    fn services(&self) -> order::Services {
        lock(&self.handles)
            .iter()
            .map(|(name, handle)| (name.clone(), handle.service.clone()))
            .collect()
    }

    fn handle(&self, name: &str) -> Result<Handle, RequestError> {
        let handles = lock(&self.handles);
        handles
            .get(name)
            .cloned()
            .ok_or_else(|| RequestError::NoSuchService {
                name: name.chars().take(64).collect(),
                allowed: handles.keys().cloned().collect::<Vec<_>>().join(", "),
            })
    }

    fn describe(&self, handle: &Handle) -> ServiceStatus {
        let view = handle.view.borrow().clone();
        let service = &handle.service;
        let cgroup = self.group(&service.name);
        let running = view.is_busy();
        // A group that is gone uses nothing.
        let used = |read: Result<u64, kos_sys::error::SysError>| {
            if running { read.unwrap_or_default() } else { 0 }
        };
        ServiceStatus {
            name: service.name.clone(),
            description: service.description.clone(),
            state: view.state.as_str().to_owned(),
            reason: view.reason,
            status_text: view.status_text,
            since_ms: view.since_ms,
            uptime_ms: if running {
                boottime_milliseconds().saturating_sub(view.started_ms)
            } else {
                0
            },
            pid: view.pid,
            restarts: view.restarts,
            last_failure: view.last_failure,
            memory: used(cgroup.memory_current()),
            memory_max: service.limits.memory.unwrap_or_default(),
            cpu_usec: used(cgroup.cpu_usage_microseconds()),
            tasks: u32::try_from(used(cgroup.pids_current())).unwrap_or(u32::MAX),
            essential: service.essential,
        }
    }
}

/// Runs futures side by side on this one thread until all are done.
async fn join_all(futures: impl Iterator<Item = impl Future<Output = ()>>) {
    let mut futures: Vec<_> = futures.map(|future| Some(Box::pin(future))).collect();
    std::future::poll_fn(|context| {
        let mut pending = false;
        for slot in &mut futures {
            if let Some(future) = slot {
                if future.as_mut().poll(context).is_ready() {
                    *slot = None;
                } else {
                    pending = true;
                }
            }
        }
        if pending {
            std::task::Poll::Pending
        } else {
            std::task::Poll::Ready(())
        }
    })
    .await;
}
