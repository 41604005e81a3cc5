//! The task that owns one service: it alone changes its state, everybody else sends it messages.

use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use kos_manifest::control::State;
use kos_manifest::launch::LaunchSpec;
use kos_manifest::service::{Service, StepProgram};
use kos_sys::clock::boottime_milliseconds;
use kos_sys::sockets::{Received, receive};
use tokio::io::unix::AsyncFd;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use crate::descriptor;
use crate::lifecycle::{Action, Event, Lifecycle, Policy};
use crate::logs::Log;
use crate::news::News;
use crate::notify::{self, Notification};
use crate::process::{Process, Standing, Woken};
use crate::record::Reason;
use crate::shutdown::End;
use crate::spec;
use crate::supervisor::Shared;

/// Most notification datagrams taken in one turn of the loop.
const MAX_NOTIFICATIONS_PER_TURN: usize = 32;

/// What others may ask of a service; the answer comes once the state shows it.
#[derive(Debug)]
pub struct Command {
    /// The request.
    pub request: Request,
    /// Told when the request has been taken.
    pub taken: oneshot::Sender<Result<(), String>>,
}

/// See [`Command`].
#[derive(Debug)]
pub enum Request {
    /// Say that the task lives.
    Beat,
    /// Run.
    Start,
    /// End, and why.
    Stop(String),
    /// End and run again.
    Restart,
    /// Send the program a signal.
    Kill(i32),
    /// Stand still.
    Freeze,
    /// Go on.
    Thaw,
    /// End and be kept from running, and why.
    Quarantine(String),
    /// Be allowed to run again.
    Release,
}

/// What others see of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceView {
    /// Its state.
    pub state: State,
    /// Why.
    pub reason: String,
    /// What it says of itself.
    pub status_text: String,
    /// Since when (boot clock, milliseconds).
    pub since_ms: u64,
    /// When its process was started; 0 without one.
    pub started_ms: u64,
    /// Its program's process; 0 without one.
    pub pid: u32,
    /// Restarts by itself.
    pub restarts: u32,
    /// Why it ended by itself the last time.
    pub last_failure: String,
}

impl ServiceView {
    /// Before the task has run for the first time.
    pub fn initial(enabled: bool) -> Self {
        ServiceView {
            state: if enabled {
                State::Starting
            } else {
                State::Stopped
            },
            reason: if enabled {
                "waiting to be started"
            } else {
                "not started"
            }
            .to_owned(),
            status_text: String::new(),
            since_ms: boottime_milliseconds(),
            started_ms: 0,
            pid: 0,
            restarts: 0,
            last_failure: String::new(),
        }
    }
}

/// A service that this one comes after.
pub struct Dependency {
    /// Its name.
    pub name: String,
    /// Whether this one cannot do without it.
    pub required: bool,
    /// Its state.
    pub view: watch::Receiver<ServiceView>,
}

/// The owner of one service.
pub struct ServiceTask {
    service: Service,
    shared: Arc<Shared>,
    life: Lifecycle,
    commands: mpsc::Receiver<Command>,
    view: watch::Sender<ServiceView>,
    dependencies: Vec<Dependency>,
    notify: AsyncFd<OwnedFd>,
    null: OwnedFd,
    output: OwnedFd,
    process: Option<Process>,
    started_ms: u64,
    status_text: String,
    timer: Option<Instant>,
}

/// What a task is made from.
pub struct Parts {
    /// What to run.
    pub service: Service,
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
    Timer,
    Notified,
    DependencyChanged,
}

impl ServiceTask {
    /// Makes the task, and what stays the same over all its processes: the pipe that it writes to
    /// and the socket that it notifies on.
    ///
    /// # Errors
    /// When the kernel gives no pipe, socket or `/dev/null`.
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
        // Sending takes the right to write. Nobody else's sandbox has this socket in it.
        std::os::unix::fs::chown(&path, Some(service.uid), Some(service.uid))
            .context("cannot give the notification socket to its service")?;
        let null = std::fs::File::open("/dev/null")
            .context("cannot open /dev/null")?
            .into();
        let console = shared.console.clone();
        let name = service.name.clone();
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
        let life = Lifecycle::new(Policy::from(&service));
        Ok(ServiceTask {
            service,
            shared,
            life,
            commands,
            view,
            dependencies,
            notify,
            null,
            output,
            process: None,
            started_ms: 0,
            status_text: String::new(),
            timer: None,
        })
    }

    /// Owns the service until PID 1 ends.
    pub async fn run(mut self) {
        let mut changes = self.shared.changes.subscribe();
        let mut notifications = Vec::new();
        loop {
            if self.life.is_waiting()
                && let Some(event) = self.dependencies_event()
            {
                self.take(event);
                continue;
            }
            let waiting = self.life.is_waiting();
            let wake = tokio::select! {
                command = self.commands.recv() => Wake::Command(command),
                woken = process_wake(&mut self.process, &self.service) => Wake::Process(woken),
                () = sleep_until(self.timer) => Wake::Timer,
                Ok(mut guard) = self.notify.readable() => {
                    if receive_notifications(self.notify.get_ref(), &mut notifications) {
                        guard.clear_ready();
                    }
                    Wake::Notified
                }
                _ = changes.changed(), if waiting => Wake::DependencyChanged,
            };
            match wake {
                // The supervisor holds a sender for as long as PID 1 lives.
                Wake::Command(None) => return,
                Wake::Command(Some(command)) => self.obey(command),
                Wake::Process(Woken::Executing) => self.take(Event::Executing),
                Wake::Process(Woken::Ended(ending)) => {
                    // What it said before it went comes first.
                    receive_notifications(self.notify.get_ref(), &mut notifications);
                    self.heed(&mut notifications);
                    self.take(Event::Ended(ending));
                }
                Wake::Process(Woken::LimitMet(remark)) => self.remark(remark),
                Wake::Process(Woken::Frozen) => self.take(Event::Froze),
                Wake::Process(Woken::Nothing) | Wake::DependencyChanged => {}
                Wake::Timer => {
                    self.timer = None;
                    self.take(Event::Timer);
                }
                Wake::Notified => self.heed(&mut notifications),
            }
        }
    }

    /// Whether what it waits for is there, or will never be.
    fn dependencies_event(&self) -> Option<Event> {
        for dependency in &self.dependencies {
            let view = dependency.view.borrow();
            match (view.state, dependency.required) {
                (State::Ready, _) => {}
                (State::Failed | State::Stopped | State::Quarantined, true) => {
                    let reason = format!(
                        "requires {}, which is {}: {}",
                        dependency.name, view.state, view.reason
                    );
                    return Some(Event::DependencyFailed(reason));
                }
                (State::Failed | State::Stopped | State::Quarantined | State::Frozen, false) => {}
                // Still on its way, or about to be tried again.
                _ => return None,
            }
        }
        Some(Event::DependenciesReady)
    }

    fn obey(&mut self, command: Command) {
        let state = self.life.state();
        let name = &self.service.name;
        let answer = match command.request {
            Request::Start | Request::Restart if state == State::Quarantined => Err(format!(
                "{name} is quarantined ({}); it can be started after Release",
                self.life.reason()
            )),
            // That the task came here is the answer.
            Request::Beat => Ok(()),
            Request::Start => {
                self.take(Event::Start);
                Ok(())
            }
            Request::Stop(reason) => {
                self.take(Event::Stop(reason));
                Ok(())
            }
            Request::Restart => {
                self.take(Event::Restart);
                Ok(())
            }
            Request::Kill(signal) => match &self.process {
                Some(process) => process
                    .signal_program(signal)
                    .map_err(|error| format!("{error:#}")),
                None => Err(format!("{} is not running", self.service.name)),
            },
            Request::Freeze if matches!(state, State::Ready | State::Frozen) => {
                self.take(Event::Freeze {
                    reason: "frozen by the operator".to_owned(),
                    for_ms: None,
                });
                Ok(())
            }
            Request::Thaw if state == State::Frozen => {
                self.take(Event::Thaw);
                Ok(())
            }
            Request::Freeze => Err(format!("{name} is {state}; what is ready can be frozen")),
            Request::Thaw => Err(format!("{name} is {state}, not frozen")),
            Request::Quarantine(reason) => {
                self.take(Event::Quarantine(format!("quarantined: {reason}")));
                Ok(())
            }
            Request::Release if state == State::Quarantined => {
                self.take(Event::Release);
                Ok(())
            }
            Request::Release => Err(format!("{name} is {state}, not quarantined")),
        };
        // Whoever asked may have gone; the service has heard all the same.
        let _ = command.taken.send(answer);
    }

    /// Takes an event and all that follows from it at once.
    fn take(&mut self, event: Event) {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            if let Event::Ended(_) | Event::SpawnFailed(_) = event {
                self.process = None;
                self.started_ms = 0;
                self.status_text.clear();
            }
            for action in self.life.step(event, boottime_milliseconds()) {
                if let Err(error) = self.act(&action) {
                    let reason = format!("{error:#}");
                    match action {
                        Action::Spawn => events.push_back(Event::SpawnFailed(reason)),
                        _ => self
                            .shared
                            .console
                            .say(3, &format!("{}: {reason}", self.service.name)),
                    }
                }
            }
            self.publish();
        }
    }

    fn act(&mut self, action: &Action) -> Result<()> {
        match action {
            Action::Spawn => {
                let spec = spec::launch_spec(&self.service, &self.shared.syscall_sets);
                self.start_process(&spec)?;
            }
            Action::RunPreStart(index) => {
                self.run_step(self.service.pre_start.get(*index).cloned())?
            }
            Action::RunPostStop(index) => {
                self.run_step(self.service.post_stop.get(*index).cloned())?
            }
            Action::Freeze | Action::Thaw => {
                if let Some(process) = &self.process {
                    process.freeze(*action == Action::Freeze)?;
                }
            }
            Action::Tell(what) => self
                .shared
                .console
                .say(4, &format!("service {}: {what}", self.service.name)),
            Action::Signal(signal) => {
                if let Some(process) = &self.process {
                    process.signal(*signal)?;
                }
            }
            Action::Kill => {
                if let Some(process) = &self.process {
                    let why = self.life.reason();
                    self.shared.shutdown.killed(&self.service.name, why);
                    process.kill()?;
                }
            }
            Action::ArmTimer(milliseconds) => {
                self.timer = Some(Instant::now() + Duration::from_millis(*milliseconds));
            }
            Action::DisarmTimer => self.timer = None,
            Action::GiveUp => {
                let reason = format!(
                    "the essential service {} failed: {}",
                    self.service.name,
                    self.life.reason()
                );
                let reason = Reason::essential(&self.service.name, reason);
                self.shared.shutdown.request(End::Reboot, reason);
            }
        }
        Ok(())
    }

    /// Makes a step's process, in the service's cgroup and in a sandbox like its own.
    fn run_step(&mut self, step: Option<StepProgram>) -> Result<()> {
        let step = step.context("the manifest has no such step any more")?;
        let spec = spec::step_spec(&self.service, &step, &self.shared.syscall_sets);
        self.start_process(&spec)
    }

    fn start_process(&mut self, spec: &LaunchSpec) -> Result<()> {
        let cgroup = self
            .shared
            .cgroups
            .create(&format!("services/{}", self.service.name))?;
        let standing = Standing {
            null: self.null.as_fd(),
            output: self.output.as_fd(),
        };
        let process = Process::start(&self.service, spec, cgroup, &standing, &self.shared.reaper)?;
        self.process = Some(process);
        self.started_ms = boottime_milliseconds();
        Ok(())
    }

    /// Does what the service's notifications say. Only its own processes can reach its socket.
    fn heed(&mut self, notifications: &mut Vec<Notification>) {
        // A process that is gone has nothing more to say about the next one.
        let alive = self.process.is_some();
        for notification in notifications.drain(..).filter(|_| alive) {
            match notification {
                Notification::Ready => self.take(Event::Notified),
                Notification::Status(text) if text != self.status_text => {
                    self.status_text = text;
                    self.publish();
                }
                Notification::Status(_) => {}
            }
        }
    }

    fn remark(&mut self, remark: String) {
        if self.life.state() == State::Ready && self.life.reason() != remark {
            self.life.remark(remark);
            self.publish();
        }
    }

    /// Shows the world what has changed.
    fn publish(&mut self) {
        let state = self.life.state();
        let (was_state, was_reason, was_since) = {
            let was = self.view.borrow();
            (was.state, was.reason.clone(), was.since_ms)
        };
        let view = ServiceView {
            state,
            reason: self.life.reason().to_owned(),
            status_text: self.status_text.clone(),
            since_ms: if state == was_state {
                was_since
            } else {
                boottime_milliseconds()
            },
            started_ms: self.started_ms,
            pid: self
                .process
                .as_ref()
                .and_then(|process| process.told.main_pid)
                .unwrap_or(0),
            restarts: self.life.restarts(),
            last_failure: self.life.last_failure().to_owned(),
        };
        if state != was_state || view.reason != was_reason {
            let level = match state {
                State::Failed | State::Backoff | State::Quarantined => 4,
                _ => 6,
            };
            self.shared.console.say(
                level,
                &format!("service {} {state} ({})", self.service.name, view.reason),
            );
        }
        let was = self.view.send_replace(view.clone());
        if was != view {
            let name = self.service.name.clone();
            self.shared.news.tell(|| News::Changed {
                name,
                was,
                now: view,
            });
        }
        self.shared.changed();
    }
}

/// Waits for whatever happens to the process; for ever when there is none.
async fn process_wake(process: &mut Option<Process>, service: &Service) -> Woken {
    match process {
        Some(process) => process.wake(&service.limits).await,
        None => std::future::pending().await,
    }
}

async fn sleep_until(timer: Option<Instant>) {
    match timer {
        Some(instant) => tokio::time::sleep_until(instant).await,
        None => std::future::pending().await,
    }
}

/// Takes the datagrams that are there, within a bound; says whether that was all.
fn receive_notifications(socket: &OwnedFd, notifications: &mut Vec<Notification>) -> bool {
    for _ in 0..MAX_NOTIFICATIONS_PER_TURN {
        match receive(socket.as_fd()) {
            Ok(Received::Packet(packet)) => notifications.extend(notify::parse(&packet.bytes)),
            Ok(Received::Nothing | Received::Closed) | Err(_) => return true,
        }
    }
    false
}
