//! The task that owns one service: it alone changes its state, everybody else sends it messages.

mod acts;
mod heed;
mod request;

use std::os::fd::OwnedFd;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use kos_manifest::service::{ReadinessKind, Schedule, Service};
use kos_sys::clock::{boottime_milliseconds, unix_time};
use tokio::io::unix::AsyncFd;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::conditions::{self, DEVICES};
use crate::descriptor;
use crate::group::{Group, Told};
use crate::lifecycle::{Event, Lifecycle, Policy};
use crate::logs::Log;
use crate::notify::{Budget, Said};
use crate::probe;
use crate::process::{Process, Woken};
use crate::schedule;
use crate::spec;
use crate::supervisor::Shared;
pub use request::{Command, Dependency, Request, ServiceView, Update};

/// The owner of one service.
pub struct ServiceTask {
    service: Arc<Service>,
    /// What it will be once its process is gone.
    next: Option<Arc<Service>>,
    shared: Arc<Shared>,
    life: Lifecycle,
    commands: mpsc::Receiver<Command>,
    view: watch::Sender<ServiceView>,
    dependencies: Vec<Dependency>,
    devices: watch::Receiver<u64>,
    clock: watch::Receiver<u64>,
    notify: AsyncFd<OwnedFd>,
    budget: Budget,
    output: OwnedFd,
    /// Opened at the first start, closed when it rests.
    sockets: Option<Vec<OwnedFd>>,
    group: Option<Group>,
    process: Option<Process>,
    probe: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    started_ms: u64,
    status_text: String,
    timer: Option<Instant>,
    watchdog: Watchdog,
    scheduled: Scheduled,
    /// Whether what it says of itself may be written down: its reasons are not its own to flood.
    quiet: bool,
    /// Whether there is no such service any more.
    removed: bool,
}

/// How long it may be silent, and when it has been.
#[derive(Debug, Default)]
struct Watchdog {
    period: Option<Duration>,
    due: Option<Instant>,
}

/// When its timer goes off, and from when that is counted.
#[derive(Debug, Default)]
struct Scheduled {
    due: Option<Instant>,
    /// The last start, or the last time that the timer went off (boot clock, milliseconds).
    last_ms: u64,
    /// The last time that the timer went off, since 1970.
    fired: Option<Duration>,
}

/// What a task is made from.
pub struct Parts {
    /// What to run.
    pub service: Arc<Service>,
    /// The rest of PID 1.
    pub shared: Arc<Shared>,
    /// Where requests come from.
    pub commands: mpsc::Receiver<Command>,
    /// Where its state goes.
    pub view: watch::Sender<ServiceView>,
    /// What it comes after.
    pub dependencies: Vec<Dependency>,
    /// Where its output goes.
    pub log: Log,
}

/// What woke the task.
enum Wake {
    Command(Option<Command>),
    Process(Woken),
    Group(Told),
    Timer,
    WatchdogDue,
    Scheduled,
    Notified(Vec<Said>),
    Answered,
    ClockSet,
    /// Something that the next turn looks at.
    Look,
}

impl ServiceTask {
    /// Makes the task, and what stays the same over all its processes: the pipe that it writes to
    /// and the socket that it notifies on.
    ///
    /// # Errors
    /// When the kernel gives no pipe or socket.
    pub fn new(parts: Parts) -> Result<Self> {
        let Parts {
            service,
            shared,
            commands,
            view,
            dependencies,
            log,
        } = parts;
        let (reader, output) = kos_sys::sockets::pipe_cloexec_nonblocking()?;
        let path = spec::notify_socket(&service.name);
        let notify = descriptor::register(kos_sys::sockets::notify_socket(&path)?)
            .context("cannot wait for notifications")?;
        own_notify_socket(&service)?;
        follow_output(&service.name, &shared, reader, log);
        let mut task = ServiceTask {
            life: Lifecycle::new(Policy::from(service.as_ref())),
            devices: shared.devices.subscribe(),
            clock: shared.clock.subscribe(),
            watchdog: Watchdog {
                period: service.watchdog,
                due: None,
            },
            service,
            next: None,
            shared,
            commands,
            view,
            dependencies,
            notify,
            budget: Budget::new(Instant::now()),
            output,
            sockets: None,
            group: None,
            process: None,
            probe: None,
            started_ms: 0,
            status_text: String::new(),
            timer: None,
            scheduled: Scheduled::default(),
            quiet: false,
            removed: false,
        };
        task.plan();
        Ok(task)
    }

    /// Owns the service until there is no such service any more, or PID 1 ends.
    pub async fn run(mut self) {
        loop {
            if let Some(event) = self.foreseen() {
                self.take(event);
                continue;
            }
            if self.removed && self.process.is_none() {
                return self.leave().await;
            }
            match self.wake().await {
                // The supervisor holds a sender for as long as there is the service.
                Wake::Command(None) => self.removed = true,
                Wake::Command(Some(command)) => self.obey(command),
                Wake::Process(Woken::Executing) => {
                    self.take(Event::Executing);
                    self.begin_probing();
                }
                Wake::Process(Woken::Ended(ending)) => {
                    // What it said before it went comes first.
                    self.listen();
                    self.take(Event::Ended(ending));
                }
                Wake::Group(Told::Counters) => self.look_at_group(),
                Wake::Group(Told::Pressure(response, why)) => self.relieve(response, why),
                Wake::Timer => {
                    self.timer = None;
                    self.take(Event::Timer);
                }
                Wake::WatchdogDue => self.watchdog_missed(),
                Wake::Scheduled => self.scheduled_now(),
                Wake::Notified(all) => all.into_iter().for_each(|said| self.heed(said)),
                Wake::Answered => {
                    self.probe = None;
                    self.take(Event::Answered);
                }
                Wake::ClockSet => self.plan(),
                Wake::Process(Woken::Nothing) | Wake::Look => {}
            }
        }
    }

    async fn wake(&mut self) -> Wake {
        let looks = self.life.is_waiting() || self.life.is_unmet() || self.life.depends();
        let unmet = self.life.is_unmet();
        let by_clock = self.service.timer.is_some();
        let exhausted = self.budget.exhausted_until(Instant::now());
        tokio::select! {
            command = self.commands.recv() => Wake::Command(command),
            woken = process_wake(&mut self.process, &self.service) => Wake::Process(woken),
            told = group_wake(self.group.as_ref()) => Wake::Group(told),
            () = sleep_until(self.timer) => Wake::Timer,
            () = sleep_until(self.watchdog.due) => Wake::WatchdogDue,
            () = sleep_until(self.scheduled.due) => Wake::Scheduled,
            () = answered(&mut self.probe) => Wake::Answered,
            // What is beyond the budget waits in its socket, and its sender with it.
            () = sleep_until(exhausted), if exhausted.is_some() => Wake::Look,
            Ok(mut guard) = self.notify.readable(), if exhausted.is_none() => {
                let mut all = Vec::new();
                if heed::receive_all(self.notify.get_ref(), &mut self.budget, &mut all) {
                    guard.clear_ready();
                }
                Wake::Notified(all)
            }
            () = request::any_changed(&mut self.dependencies), if looks => Wake::Look,
            _ = self.devices.changed(), if unmet => Wake::Look,
            _ = self.clock.changed(), if by_clock => Wake::ClockSet,
        }
    }

    /// What follows from how things are, without anybody having said anything.
    fn foreseen(&self) -> Option<Event> {
        if self.life.is_waiting() || self.life.is_unmet() {
            let unmet = self.unmet();
            if self.life.is_unmet() {
                return match unmet {
                    None => Some(Event::ConditionsMet),
                    // Another one, now that the first is met or the manifest has changed.
                    Some(reason) if reason != self.life.reason() => {
                        Some(Event::ConditionUnmet(reason))
                    }
                    Some(_) => None,
                };
            }
            if let Some(reason) = unmet {
                return Some(Event::ConditionUnmet(reason));
            }
            if let Some(reason) = self.dependencies.iter().find_map(Dependency::failure) {
                return Some(Event::DependencyFailed(reason));
            }
            let all = self.dependencies.iter().all(Dependency::is_settled);
            return all.then_some(Event::DependenciesReady);
        }
        if self.life.depends() {
            let failed = self
                .dependencies
                .iter()
                .find_map(Dependency::failed_for_good);
            return failed.map(Event::DependencyFailed);
        }
        None
    }

    fn unmet(&self) -> Option<String> {
        let own = conditions::unmet(
            &self.service.conditions,
            &self.shared.place,
            Path::new(DEVICES),
        );
        own.or_else(|| self.dependencies.iter().find_map(Dependency::unmet))
    }

    fn begin_probing(&mut self) {
        let readiness = &self.service.readiness;
        let by_probe = matches!(readiness.kind, ReadinessKind::Socket | ReadinessKind::Http);
        if by_probe && self.life.is_launching() {
            let readiness = readiness.clone();
            self.probe = Some(Box::pin(async move { probe::answered(&readiness).await }));
        }
    }

    /// Finds out when the timer goes off next.
    fn plan(&mut self) {
        self.scheduled.due = self.service.timer.as_ref().and_then(|timer| {
            let offset = schedule::offset(timer, self.shared.place.machine, &self.service.name);
            let since = boottime_milliseconds().saturating_sub(self.scheduled.last_ms);
            let since = Duration::from_millis(since);
            let wait = schedule::wait(timer, offset, since, unix_time(), self.scheduled.fired)?;
            Instant::now().checked_add(wait)
        });
    }

    fn scheduled_now(&mut self) {
        self.scheduled.last_ms = boottime_milliseconds();
        let by_clock = matches!(
            self.service.timer.as_ref().map(|timer| timer.schedule),
            Some(Schedule::At { .. })
        );
        self.scheduled.fired = by_clock.then(unix_time);
        self.plan();
        // Through the supervisor, which starts first what this one requires.
        self.shared.wishes.add(&self.service.name);
    }
}

/// Sending takes the right to write. Nobody else's sandbox has this socket in it.
fn own_notify_socket(service: &Service) -> Result<()> {
    let path = spec::notify_socket(&service.name);
    std::os::unix::fs::chown(&path, Some(service.uid), Some(service.uid))
        .context("cannot give the notification socket to its service")
}

fn follow_output(name: &str, shared: &Arc<Shared>, reader: OwnedFd, log: Log) {
    let console = shared.console.clone();
    let name = name.to_owned();
    let echo_services = shared.echo_services;
    tokio::spawn(async move {
        let echo = |line: &str| {
            if echo_services {
                console.say_only_aloud(&format!("{name}: {line}"));
            }
        };
        if let Err(error) = crate::logs::intake::follow_output(reader, log, echo).await {
            console.say(3, &format!("output of {name} is lost from now on: {error}"));
        }
    });
}

/// Waits for whatever happens to the process; for ever when there is none.
async fn process_wake(process: &mut Option<Process>, service: &Service) -> Woken {
    match process {
        Some(process) => process.wake(&service.limits).await,
        None => std::future::pending().await,
    }
}

async fn group_wake(group: Option<&Group>) -> Told {
    match group {
        Some(group) => group.wake().await,
        None => std::future::pending().await,
    }
}

async fn answered(probe: &mut Option<Pin<Box<dyn Future<Output = ()> + Send>>>) {
    match probe {
        Some(probe) => probe.await,
        None => std::future::pending().await,
    }
}

async fn sleep_until(timer: Option<Instant>) {
    match timer {
        Some(instant) => tokio::time::sleep_until(instant).await,
        None => std::future::pending().await,
    }
}
