//! What a task does: it obeys, takes events through the state machine, and carries its actions out.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use kos_manifest::control::State;
use kos_manifest::launch::LaunchSpec;
use kos_manifest::service::{Service, StepProgram};
use kos_sys::clock::boottime_milliseconds;
use tokio::time::Instant;

use super::{Command, Request, ServiceTask, ServiceView, Update, own_notify_socket};
use crate::directories;
use crate::group::Group;
use crate::kept;
use crate::lifecycle::{Action, Event, Policy};
use crate::news::News;
use crate::process::{Process, Standing};
use crate::record::Reason;
use crate::shutdown::End;
use crate::spec;

/// A cgroup whose last process is being taken apart by the kernel is tried to be removed so often,
const REMOVALS: u32 = 50;
/// with so much time between.
const REMOVAL_PAUSE: Duration = Duration::from_millis(20);

impl ServiceTask {
    pub(super) fn obey(&mut self, command: Command) {
        let answer = self.do_as_asked(command.request);
        // Whoever asked may have gone; the service has heard all the same.
        let _ = command.taken.send(answer);
    }

    fn do_as_asked(&mut self, request: Request) -> Result<(), String> {
        let name = &self.service.name;
        let state = self.life.state();
        match request {
            Request::Start | Request::Restart | Request::Scheduled
                if self.life.is_quarantined() =>
            {
                let reason = self.life.reason();
                Err(format!(
                    "{name} is quarantined ({reason}); it can be started after Release"
                ))
            }
            // That the task came here is the answer.
            Request::Beat => Ok(()),
            Request::Start => self.did(Event::Start),
            Request::Scheduled => self.did(Event::Scheduled),
            Request::Stop(reason) => self.did(Event::Stop(reason)),
            Request::Restart => self.did(Event::Restart),
            Request::Kill(signal) => match &self.process {
                Some(process) => process
                    .signal_program(signal)
                    .map_err(|error| format!("{error:#}")),
                None => Err(format!("{name} is not running")),
            },
            Request::Freeze if !matches!(state, State::Ready | State::Frozen) => Err(format!(
                "{name} is {state}; only what is ready can be frozen"
            )),
            Request::Freeze => self.did(Event::Freeze {
                reason: "frozen by the operator".to_owned(),
                for_ms: None,
            }),
            Request::Thaw if state != State::Frozen && !self.life.is_freezing() => {
                Err(format!("{name} is {state}, not frozen"))
            }
            Request::Thaw => self.did(Event::Thaw),
            Request::Quarantine(reason) => {
                self.did(Event::Quarantine(format!("quarantined: {reason}")))
            }
            Request::Release if !self.life.is_quarantined() => {
                Err(format!("{name} is {state}, not quarantined"))
            }
            Request::Release => self.did(Event::Release),
            Request::Update(update) => {
                self.update(*update);
                Ok(())
            }
            Request::Remove => {
                self.removed = true;
                self.did(Event::Stop("its manifest was removed".to_owned()))
            }
        }
    }

    fn did(&mut self, event: Event) -> Result<(), String> {
        self.take(event);
        Ok(())
    }

    /// Becomes another manifest's service: now, or once the process of the old one is gone.
    fn update(&mut self, update: Update) {
        self.dependencies = update.dependencies;
        if !update.restart || self.process.is_none() {
            self.next = None;
            self.adopt(update.service);
        } else {
            self.next = Some(update.service);
        }
        // What failed under its old manifest has another chance under the new one.
        let failed = self.life.state() == State::Failed;
        if update.restart && (self.process.is_some() || failed) {
            self.take(Event::Restart);
        }
    }

    fn adopt(&mut self, service: Arc<Service>) {
        let complain = |task: &Self, error: anyhow::Error| {
            let name = &task.service.name;
            task.shared
                .console
                .say(3, &format!("service {name}: {error:#}"));
        };
        if service.sockets != self.service.sockets || service.uid != self.service.uid {
            self.sockets = None;
        }
        self.service = service;
        self.life.adopt(Policy::from(self.service.as_ref()));
        self.watchdog.period = self.service.watchdog;
        self.watchdog.due = None;
        self.guard();
        self.plan();
        if let Err(error) = own_notify_socket(&self.service) {
            complain(self, error);
        }
        if let Some(group) = &mut self.group
            && let Err(error) = group.limit(&self.service, &self.shared)
        {
            complain(self, error);
        }
    }

    /// Takes an event and all that follows from it at once.
    pub(super) fn take(&mut self, event: Event) {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            if let Event::Ended(_) | Event::SpawnFailed(_) = event {
                self.process = None;
                self.started_ms = 0;
                self.status_text.clear();
                self.watchdog.period = self.service.watchdog;
            }
            for action in self.life.step(event, boottime_milliseconds()) {
                if let Err(error) = self.act(&action) {
                    let reason = format!("{error:#}");
                    match action {
                        Action::Spawn | Action::RunPreStart(_) | Action::RunPostStop(_) => {
                            events.push_back(Event::SpawnFailed(reason));
                        }
                        _ => self
                            .shared
                            .console
                            .say(3, &format!("{}: {reason}", self.service.name)),
                    }
                }
            }
            self.publish();
        }
        if !self.life.is_launching() {
            self.probe = None;
        }
        self.guard();
        if self.process.is_none()
            && let Some(next) = self.next.take()
        {
            self.adopt(next);
        }
        self.tidy();
    }

    /// Gives back what a service that rests does not need.
    pub(super) fn tidy(&mut self) {
        let rests = matches!(
            self.life.state(),
            State::Stopped | State::Failed | State::Quarantined
        );
        if self.process.is_some() || !rests {
            return;
        }
        // Nobody would ever answer who waits in them.
        self.sockets = None;
        if self.group.as_ref().is_some_and(Group::remove) {
            self.group = None;
        }
    }

    fn act(&mut self, action: &Action) -> Result<()> {
        match action {
            Action::Spawn => {
                let spec = spec::launch_spec(&self.service);
                if self.sockets.is_none() {
                    self.sockets = Some(kept::open(&self.service)?);
                }
                self.start_process(spec, true)?;
                self.scheduled.last_ms = self.started_ms;
                self.plan();
            }
            Action::RunPreStart(index) => {
                self.run_step(self.service.pre_start.get(*index).cloned())?;
            }
            Action::RunPostStop(index) => {
                self.run_step(self.service.post_stop.get(*index).cloned())?;
            }
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
            Action::Freeze | Action::Thaw => {
                if let Some(group) = &self.group {
                    group.cgroup().freeze(*action == Action::Freeze)?;
                }
            }
            Action::ArmTimer(milliseconds) => {
                self.timer = Instant::now().checked_add(Duration::from_millis(*milliseconds));
            }
            Action::DisarmTimer => self.timer = None,
            Action::Tell(what) => self
                .shared
                .console
                .say(4, &format!("service {}: {what}", self.service.name)),
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
        let spec = spec::step_spec(&self.service, &step);
        self.start_process(spec, false)
    }

    fn start_process(&mut self, mut spec: LaunchSpec, with_sockets: bool) -> Result<()> {
        let group = match self.group.take() {
            Some(group) => group,
            None => Group::new(&self.service, &self.shared)?,
        };
        let group = self.group.insert(group);
        let calls = spec::calls(&self.service, &self.shared.syscall_sets);
        spec.filter = self.shared.filters.of(calls)?;
        spec.own_filter = self.shared.filters.of_launcher()?;
        let secrets = kept::secrets(&self.service, &self.shared.credentials)?;
        spec.credentials = secrets.iter().map(|(name, _)| name.clone()).collect();
        let sockets = self.sockets.iter().flatten().filter(|_| with_sockets);
        let passed: Vec<BorrowedFd<'_>> = sockets
            .chain(secrets.iter().map(|(_, file)| file))
            .map(AsFd::as_fd)
            .collect();
        let standing = Standing {
            null: self.shared.null.as_fd(),
            output: self.output.as_fd(),
            passed: &passed,
        };
        let cgroup = group.cgroup();
        let process = Process::start(&self.service, &spec, cgroup, &standing, &self.shared.reaper)?;
        self.process = Some(process);
        self.started_ms = boottime_milliseconds();
        Ok(())
    }

    /// Leaves nothing behind of a service that is no more, but its data.
    pub(super) async fn leave(mut self) {
        for _ in 0..REMOVALS {
            self.tidy();
            if self.group.is_none() {
                break;
            }
            tokio::time::sleep(REMOVAL_PAUSE).await;
        }
        let name = self.service.name.clone();
        let removed = tokio::task::spawn_blocking(move || directories::remove(&name)).await;
        if let Ok(Err(error)) = removed {
            let name = &self.service.name;
            self.shared
                .console
                .say(4, &format!("service {name} is gone, but {error:#}"));
        }
        self.shared.changed();
    }

    /// Shows the world what has changed.
    pub(super) fn publish(&mut self) {
        let state = self.life.state();
        let (was_state, was_reason, was_since) = {
            let was = self.view.borrow();
            (was.state, was.reason.clone(), was.since_ms)
        };
        let view = ServiceView {
            state,
            reason: self.life.reason().to_owned(),
            unmet: self.life.is_unmet(),
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
        if state != was_state || (view.reason != was_reason && !self.quiet) {
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
