//! The one thread that computes. It owns the loaded model; others send it jobs and read what it
//! publishes. Jobs for the loaded model are answered together, a token of each in every pass; those
//! for another wait until these are done. The queue is bounded.
//!
//! A model's failure or a client that leaves end one job, a panic those of its pass; never the
//! thread. Only when it happens twice in a row does the thread give up, and the service with it:
//! PID 1 starts a fresh process.

mod batch;
mod generation;
mod job;
mod kept;
mod loaded;
mod lookup;
mod network;
mod stops;
mod vectors;

pub use job::{Embedding, Event, Failure, Job, Likelihood, Prompt, Refusal, Summary};
pub use loaded::Loaded;

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{
    Receiver, RecvTimeoutError, SyncSender, TryRecvError, TrySendError, sync_channel,
};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::{oneshot, watch};

use self::generation::Generation;
use self::kept::Kept;
use crate::kernels::Pool;
use crate::library::Model;
use crate::memory::Limits;
use crate::options::KeepAlive;

/// Jobs that may wait. More would only wait longer than their clients do.
const MAX_WAITING: usize = 32;

/// What the engine publishes about the loaded model.
#[derive(Debug, Clone)]
pub struct Status {
    /// Which file.
    pub model: Model,
    /// Memory it takes, in bytes.
    pub bytes: u64,
    /// Tokens of context of its last request.
    pub context: usize,
    /// When it will be unloaded; None for never.
    pub expires: Option<SystemTime>,
}

enum Command {
    Run(Box<Job>),
    Stop,
}

/// What others hold of the engine.
pub struct Engine {
    commands: SyncSender<Command>,
    stopping: Arc<AtomicBool>,
    status: watch::Receiver<Option<Status>>,
}

impl Engine {
    /// Starts the thread. The receiver resolves when the thread has ended: with true after a
    /// stop, with false when it gave up.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start(
        limits: Limits,
        threads: usize,
    ) -> std::io::Result<(Self, oneshot::Receiver<bool>)> {
        let (commands, receiver) = sync_channel(MAX_WAITING);
        let (publish, status) = watch::channel(None);
        let stopping = Arc::new(AtomicBool::new(false));
        let (done, ended) = oneshot::channel();
        let worker = Worker {
            pool: Pool::new(threads)?,
            limits,
            stopping: stopping.clone(),
            loaded: None,
            kept: Kept::default(),
            active: Vec::new(),
            waiting: VecDeque::new(),
            expires: None,
            publish,
        };
        std::thread::Builder::new()
            .name("engine".to_owned())
            .spawn(move || {
                // Nobody waits any more when main has ended first.
                let _ = done.send(worker.run(&receiver));
            })?;
        Ok((
            Self {
                commands,
                stopping,
                status,
            },
            ended,
        ))
    }

    /// Puts a job into the queue; its events tell the rest.
    ///
    /// # Errors
    /// When the queue is full, or the engine has ended.
    pub fn submit(&self, job: Job) -> Result<(), Failure> {
        let text = match self.commands.try_send(Command::Run(Box::new(job))) {
            Ok(()) => return Ok(()),
            Err(TrySendError::Full(_)) => {
                "server busy, please try again. maximum pending requests exceeded"
            }
            Err(TrySendError::Disconnected(_)) => "the engine has stopped",
        };
        Err(Failure::new(Refusal::Busy, text))
    }

    /// Ends the running job and refuses those that wait.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
        // Wakes an idle engine; a busy one sees the flag after its current token.
        let _ = self.commands.try_send(Command::Stop);
    }

    /// The loaded model, if there is one.
    #[must_use]
    pub fn status(&self) -> Option<Status> {
        self.status.borrow().clone()
    }
}

struct Worker {
    pool: Pool,
    limits: Limits,
    stopping: Arc<AtomicBool>,
    loaded: Option<Loaded>,
    /// Beginnings that the loaded model has read.
    kept: Kept,
    /// Jobs that are answered.
    active: Vec<Generation>,
    /// Jobs that are not begun, the first first.
    waiting: VecDeque<Box<Job>>,
    expires: Option<Instant>,
    publish: watch::Sender<Option<Status>>,
}

impl Worker {
    /// Serves until it is stopped (true) or has panicked twice in a row (false).
    fn run(mut self, commands: &Receiver<Command>) -> bool {
        let mut panicked = false;
        loop {
            if !self.listen(commands) {
                return true;
            }
            if self.stopping.load(Ordering::Relaxed) {
                self.refuse(&stopping());
                return true;
            }
            match catch_unwind(AssertUnwindSafe(|| self.work())) {
                Ok(()) => panicked = false,
                Err(payload) => {
                    let text = format!("internal error: {}", panic_text(payload.as_ref()));
                    self.unload("its computation panicked");
                    for one in self.active.drain(..) {
                        let failure = Failure::new(Refusal::Internal, text.clone());
                        let _ = one.job.events.send(Event::Failed(failure));
                    }
                    if panicked {
                        return false;
                    }
                    panicked = true;
                }
            }
        }
    }

    /// Takes the jobs that have come; waits for one, or for the model's time to be over, when there
    /// is nothing to do. False when nobody can send any more.
    fn listen(&mut self, commands: &Receiver<Command>) -> bool {
        loop {
            let idle = self.active.is_empty() && self.waiting.is_empty();
            let command = match self.expires {
                _ if !idle => commands.try_recv().map_err(|error| match error {
                    TryRecvError::Empty => RecvTimeoutError::Timeout,
                    TryRecvError::Disconnected => RecvTimeoutError::Disconnected,
                }),
                None => commands.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(time) => commands.recv_timeout(time.saturating_duration_since(Instant::now())),
            };
            match command {
                Ok(Command::Run(job)) => self.waiting.push_back(job),
                Err(RecvTimeoutError::Timeout) if idle => self.unload("it was not used"),
                Err(RecvTimeoutError::Timeout) => return true,
                Ok(Command::Stop) => return true,
                Err(RecvTimeoutError::Disconnected) => return false,
            }
            // As many as may wait: the rest stays in the queue, which is bounded.
            if self.waiting.len() >= MAX_WAITING {
                return true;
            }
        }
    }

    /// Begins what can be begun, and computes one pass.
    fn work(&mut self) {
        while self.active.len() < batch::MOST && self.begin_next() {}
        let Some(loaded) = &self.loaded else { return };
        let ended = batch::pass(&mut self.active, &self.pool, loaded, &self.stopping);
        for one in ended {
            let (keep, context) = (
                one.generation.job.keep_alive,
                one.generation.job.settings.context,
            );
            one.tell(&mut self.kept);
            self.keep(keep, context);
        }
    }

    /// Begins the first job that waits, or ends it; false when there is none, or it must wait.
    fn begin_next(&mut self) -> bool {
        let Some(job) = self.waiting.front() else {
            return false;
        };
        let same = self
            .loaded
            .as_ref()
            .is_some_and(|loaded| *loaded.model() == job.model);
        // Another model takes this one's place, and unloading takes it from those who use it.
        let alone = !same || matches!(job.prompt, Prompt::Unload | Prompt::Load);
        if alone && !self.active.is_empty() {
            return false;
        }
        let Some(job) = self.waiting.pop_front() else {
            return false;
        };
        // It may have left while its job waited.
        if job.events.is_closed() {
            tracing::info!("{}: the client left before its turn", job.model.name);
            return true;
        }
        let events = job.events.clone();
        let (keep, context) = (job.keep_alive, job.settings.context);
        let outcome = catch_unwind(AssertUnwindSafe(|| self.begin(job)));
        let event = match outcome {
            Ok(Ok(None)) => return true,
            Ok(Ok(Some(summary))) => {
                if summary.reason != "unload" {
                    self.keep(keep, context);
                }
                Event::Done(summary)
            }
            Ok(Err(failure)) => {
                if self.loaded.is_some() {
                    self.keep(keep, context);
                }
                Event::Failed(failure)
            }
            Err(payload) => {
                self.unload("its computation panicked");
                let text = format!("internal error: {}", panic_text(payload.as_ref()));
                let _ = events.send(Event::Failed(Failure::new(Refusal::Internal, text)));
                std::panic::resume_unwind(payload);
            }
        };
        // A client that has left needs no answer.
        let _ = events.send(event);
        true
    }

    /// Begins a job. A summary says that it is done already.
    fn begin(&mut self, job: Box<Job>) -> Result<Option<Summary>, Failure> {
        let started = Instant::now();
        if matches!(job.prompt, Prompt::Unload) {
            let named = self
                .loaded
                .as_ref()
                .is_some_and(|l| l.model().name == job.model.name);
            if named {
                self.unload("a client asked for it");
            }
            return Ok(Some(Summary::empty("unload")));
        }
        self.load(&job)?;
        let load = started.elapsed();
        let Some(loaded) = &self.loaded else {
            return Err(Failure::new(Refusal::Internal, "no model is loaded"));
        };
        match &job.prompt {
            Prompt::Load => Ok(Some(Summary {
                load,
                total: load,
                ..Summary::empty("load")
            })),
            #[cfg(test)]
            Prompt::Panic => panic!("a test asked for it"),
            _ => match Generation::new(job, loaded, &mut self.kept, load) {
                Ok(generation) => {
                    self.active.push(generation);
                    Ok(None)
                }
                Err((_, failure)) => Err(failure),
            },
        }
    }

    /// Refuses everything that is not done.
    fn refuse(&mut self, failure: &Failure) {
        let active = self.active.drain(..).map(|one| one.job);
        for job in active.chain(self.waiting.drain(..)) {
            let _ = job.events.send(Event::Failed(failure.clone()));
        }
    }

    /// Makes the job's model the loaded one, and checks that the job's context fits.
    fn load(&mut self, job: &Job) -> Result<(), Failure> {
        if let Some(loaded) = &self.loaded
            && *loaded.model() == job.model
        {
            let fits = loaded.check_context(&self.limits, job.settings.context);
            if fits.is_err() {
                // What is only kept makes room for what is asked for.
                self.kept.clear();
                return loaded.check_context(&self.limits, job.settings.context);
            }
            return fits;
        }
        self.unload("another is wanted");
        let started = Instant::now();
        kos_sdk::notify::status(&format!("loading {}", job.model.name));
        let loaded = Loaded::load(&job.model, &self.limits, job.settings.context);
        kos_sdk::notify::status(match &loaded {
            Ok(_) => "ready",
            Err(_) => "ready; the last model could not be loaded",
        });
        match loaded {
            Ok(loaded) => {
                tracing::info!(
                    "loaded {} in {} ms, {} bytes",
                    job.model.name,
                    started.elapsed().as_millis(),
                    loaded.bytes(job.settings.context),
                );
                self.loaded = Some(loaded);
                Ok(())
            }
            Err(failure) => {
                tracing::error!("cannot load {}: {}", job.model.name, failure.text);
                Err(failure)
            }
        }
    }

    /// Sets when the model will be unloaded, and publishes that.
    fn keep(&mut self, keep_alive: KeepAlive, context: usize) {
        let time = match keep_alive {
            KeepAlive::For(Duration::ZERO) if self.active.is_empty() => {
                return self.unload("its client does not keep it");
            }
            KeepAlive::For(time) => Some(time),
            KeepAlive::Forever => None,
        };
        self.expires = time.and_then(|time| Instant::now().checked_add(time));
        let expires = time.and_then(|time| SystemTime::now().checked_add(time));
        let status = self.loaded.as_ref().map(|loaded| Status {
            model: loaded.model().clone(),
            bytes: loaded.bytes(context),
            context: loaded.context(context),
            expires,
        });
        self.publish.send_replace(status);
    }

    fn unload(&mut self, reason: &str) {
        self.kept.clear();
        if let Some(loaded) = self.loaded.take() {
            tracing::info!("unloaded {}: {reason}", loaded.model().name);
        }
        self.expires = None;
        self.publish.send_replace(None);
    }
}

fn stopping() -> Failure {
    Failure::new(Refusal::Stopping, "the service is stopping")
}

fn panic_text(payload: &(dyn std::any::Any + Send)) -> &str {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("a panic")
}

#[cfg(test)]
mod tests;
