//! The services of the box: who they are, how to ask something of them, how they all are.
//!
//! The supervisor starts one task per service and then owns nothing of their states.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use kos_manifest::control::{ServiceStatus, State};
use kos_manifest::seccomp::SyscallSets;
use kos_manifest::service::{ControlGrant, Service, ServiceSet};
use kos_sys::cgroup::{Cgroup, CgroupRoot};
use kos_sys::clock::boottime_milliseconds;
use tokio::sync::{mpsc, oneshot, watch};

use crate::console::Console;
use crate::logs::Log;
use crate::news::Newsroom;
use crate::reaper::Reaper;
use crate::shutdown;
use crate::task::{Command, Dependency, Parts, Request, ServiceTask, ServiceView};

/// Requests that may wait for one service's task. It takes them at once; more than a few waiting
/// means that somebody floods, and the flooder waits.
const COMMAND_QUEUE: usize = 16;

/// What all parts of PID 1 share.
pub struct Shared {
    /// PID 1's voice.
    pub console: Console,
    /// The owner of `waitpid`.
    pub reaper: Reaper,
    /// The cgroup tree.
    pub cgroups: CgroupRoot,
    /// The sets of system calls that manifests name.
    pub syscall_sets: SyscallSets,
    /// Counts every change of anything that others see.
    pub changes: watch::Sender<u64>,
    /// Whether services are heard on the machine's console.
    pub echo_services: bool,
    /// Where requests to go down arrive.
    pub shutdown: Arc<shutdown::Requests>,
    /// Where what happens is told to those who listen.
    pub news: Newsroom,
}

impl Shared {
    /// Says that something has changed.
    pub fn changed(&self) {
        self.changes.send_modify(|generation| *generation += 1);
    }
}

struct Handle {
    service: Service,
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
}

/// All services.
pub struct Supervisor {
    shared: Arc<Shared>,
    handles: BTreeMap<String, Handle>,
}

impl Supervisor {
    /// Starts a task for each service. A service whose task cannot be made is told and left out.
    pub fn new(services: &ServiceSet, shared: Arc<Shared>) -> Self {
        let mut handles = BTreeMap::new();
        let mut ends = BTreeMap::new();
        for service in services.iter() {
            let (commands, requests) = mpsc::channel(COMMAND_QUEUE);
            let (publish, view) = watch::channel(ServiceView::initial(service.enabled));
            let handle = Handle {
                service: service.clone(),
                commands,
                view,
                log: shared.console.logs().open(&service.name),
            };
            handles.insert(service.name.clone(), handle);
            ends.insert(service.name.clone(), (requests, publish));
        }
        for (name, (commands, view)) in ends {
            let Some(handle) = handles.get(&name) else {
                continue;
            };
            let dependencies = handle
                .service
                .after
                .iter()
                .filter_map(|other| {
                    Some(Dependency {
                        name: other.clone(),
                        required: handle.service.requires.contains(other),
                        view: handles.get(other)?.view.clone(),
                    })
                })
                .collect();
            let parts = Parts {
                service: handle.service.clone(),
                shared: shared.clone(),
                commands,
                view,
                dependencies,
                log: handle.log.clone(),
            };
            match ServiceTask::new(parts) {
                Ok(task) => drop(tokio::spawn(task.run())),
                Err(error) => {
                    shared
                        .console
                        .say(3, &format!("service {name} is lost: {error:#}"));
                }
            }
        }
        Supervisor { shared, handles }
    }

    /// What all parts share.
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Starts every enabled service, in parallel where nothing orders them.
    pub async fn start_enabled(&self) {
        for handle in self
            .handles
            .values()
            .filter(|handle| handle.service.enabled)
        {
            if let Err(error) = self.ask(&handle.service.name, Request::Start).await {
                self.shared
                    .console
                    .say(3, &format!("cannot start: {error}"));
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
        self.handles
            .values()
            .all(|handle| handle.view.borrow().state != State::Failed)
    }

    /// Starts a service, and first what it requires.
    ///
    /// # Errors
    /// When there is no such service.
    pub async fn start(&self, name: &str) -> Result<(), RequestError> {
        for required in self.with_requirements(name) {
            let running = self.handles.get(&required).is_some_and(|handle| {
                matches!(handle.view.borrow().state, State::Ready | State::Starting)
            });
            if !running {
                self.ask(&required, Request::Start).await?;
            }
        }
        self.ask(name, Request::Start).await
    }

    /// Asks a service for something; returns when its task has taken the request.
    ///
    /// # Errors
    /// When there is no such service, or it cannot do it now.
    pub async fn ask(&self, name: &str, request: Request) -> Result<(), RequestError> {
        let handle = self.handle(name)?;
        let (taken, answer) = oneshot::channel();
        let gone = || RequestError::NotNow(format!("the supervisor of {name} is gone"));
        handle
            .commands
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
        let stops = self
            .handles
            .keys()
            .map(|name| self.stop_in_turn(name, reason));
        join_all(stops).await;
    }

    /// Waits until no service has a process.
    pub async fn all_gone(&self) {
        self.until(|handle| handle.view.borrow().started_ms == 0)
            .await;
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
            // It has been removed since.
            Err(RequestError::NoSuchService { .. }) => Ok(()),
            result => result,
        }
    }

    /// How one service is.
    ///
    /// # Errors
    /// When there is no such service.
    pub fn status(&self, name: &str) -> Result<ServiceStatus, RequestError> {
        Ok(self.describe(self.handle(name)?))
    }

    /// The names of all services, sorted.
    pub fn names(&self) -> Vec<String> {
        self.handles.keys().cloned().collect()
    }

    /// What a service is.
    ///
    /// # Errors
    /// When there is no such service.
    pub fn service(&self, name: &str) -> Result<Service, RequestError> {
        Ok(self.handle(name)?.service.clone())
    }

    /// The cgroup of a service, whether it is there or not.
    pub fn group(&self, name: &str) -> Cgroup {
        self.shared.cgroups.group(&format!("services/{name}"))
    }

    /// What a service of this uid may ask of PID 1.
    pub fn grant_of(&self, uid: u32) -> Option<ControlGrant> {
        self.handles
            .values()
            .find(|handle| handle.service.uid == uid)
            .map(|handle| handle.service.sandbox.control)
    }

    /// Who a user is, for people: the service that it is the user of, or root.
    pub fn name_of(&self, uid: u32) -> String {
        let of = |handle: &&Handle| handle.service.uid == uid;
        match self.handles.values().find(of) {
            Some(handle) => handle.service.name.clone(),
            None if uid == 0 => "root".to_owned(),
            None => format!("user {uid}"),
        }
    }

    /// The log of a service.
    ///
    /// # Errors
    /// When there is no such service.
    pub fn log(&self, name: &str) -> Result<&Log, RequestError> {
        Ok(&self.handle(name)?.log)
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

    async fn stop_in_turn(&self, name: &str, reason: &str) {
        let mut changes = self.shared.changes.subscribe();
        let busy = |handle: &Handle| handle.view.borrow().started_ms != 0;
        while self
            .handles
            .values()
            .any(|other| other.service.after.iter().any(|after| after == name) && busy(other))
        {
            if changes.changed().await.is_err() {
                return;
            }
        }
        // A service that is not there any more needs no stopping.
        let _ = self.ask(name, Request::Stop(reason.to_owned())).await;
        let Some(handle) = self.handles.get(name) else {
            return;
        };
        while busy(handle) {
            if changes.changed().await.is_err() {
                return;
            }
        }
    }

    async fn until(&self, all: impl Fn(&Handle) -> bool) {
        let mut changes = self.shared.changes.subscribe();
        while !self.handles.values().all(&all) {
            if changes.changed().await.is_err() {
                return;
            }
        }
    }

    /// What a service requires, deepest first, without itself.
    fn with_requirements(&self, name: &str) -> Vec<String> {
        let mut found = Vec::new();
        let mut look = vec![name.to_owned()];
        while let Some(next) = look.pop() {
            for required in self
                .handles
                .get(&next)
                .iter()
                .flat_map(|h| &h.service.requires)
            {
                if !found.contains(required) {
                    found.push(required.clone());
                    look.push(required.clone());
                }
            }
        }
        found.reverse();
        found
    }

    fn handle(&self, name: &str) -> Result<&Handle, RequestError> {
        self.handles
            .get(name)
            .ok_or_else(|| RequestError::NoSuchService {
                name: name.chars().take(64).collect(),
                allowed: self.handles.keys().cloned().collect::<Vec<_>>().join(", "),
            })
    }

    fn describe(&self, handle: &Handle) -> ServiceStatus {
        let view = handle.view.borrow().clone();
        let service = &handle.service;
        let cgroup = self
            .shared
            .cgroups
            .group(&format!("services/{}", service.name));
        let running = view.started_ms != 0;
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
