//! The one thread that computes. It owns the loaded model; others send it jobs and read what it
//! publishes. Jobs wait in a bounded queue and run one after the other.
//!
//! A model's failure, a client that leaves, even a panic end one job, never the thread. Only
//! when two jobs in a row panic does the thread give up, and the service with it: candle's
//! thread pool cannot be used after a panic inside it, and PID 1 starts a fresh process.

mod generation;
mod job;
mod loaded;
mod stops;

pub use job::{Event, Failure, Job, Prompt, Refusal, Summary};
pub use loaded::Loaded;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::{oneshot, watch};

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
    expires: Option<Instant>,
    publish: watch::Sender<Option<Status>>,
}

impl Worker {
    /// Serves until it is stopped (true) or two jobs in a row have panicked (false).
    fn run(mut self, commands: &Receiver<Command>) -> bool {
        let mut panicked = false;
        loop {
            let command = match self.expires {
                None => commands.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(time) => commands.recv_timeout(time.saturating_duration_since(Instant::now())),
            };
            let mut job = match command {
                Ok(Command::Run(job)) => job,
                Err(RecvTimeoutError::Timeout) => {
                    self.unload("it was not used");
                    continue;
                }
                Ok(Command::Stop) | Err(RecvTimeoutError::Disconnected) => return true,
            };
            let events = job.events.clone();
            let outcome = catch_unwind(AssertUnwindSafe(|| self.serve(&mut job)));
            let event = match outcome {
                Ok(Ok(summary)) => {
                    panicked = false;
                    Event::Done(summary)
                }
                Ok(Err(failure)) => {
                    panicked = false;
                    if failure.refusal == Refusal::Gone {
                        tracing::info!("{}: {}", job.model.name, failure.text);
                    }
                    Event::Failed(failure)
                }
                Err(payload) => {
                    self.unload("its computation panicked");
                    let text = format!("internal error: {}", panic_text(payload.as_ref()));
                    let _ = events.send(Event::Failed(Failure::new(Refusal::Internal, text)));
                    if panicked {
                        return false;
                    }
                    panicked = true;
                    continue;
                }
            };
            // A client that has left needs no answer.
            let _ = events.send(event);
            if self.stopping.load(Ordering::Relaxed) {
                return true;
            }
        }
    }

    fn serve(&mut self, job: &mut Job) -> Result<Summary, Failure> {
        if self.stopping.load(Ordering::Relaxed) {
            return Err(stopping());
        }
        // It may have left while its job waited.
        if job.events.is_closed() {
            return Err(Failure::new(Refusal::Gone, "the client left"));
        }
        let started = Instant::now();
        if matches!(job.prompt, Prompt::Unload) {
            let named = self
                .loaded
                .as_ref()
                .is_some_and(|l| l.model().name == job.model.name);
            if named {
                self.unload("a client asked for it");
            }
            return Ok(Summary::empty("unload"));
        }
        self.load(job)?;
        let load_time = started.elapsed();
        let Some(loaded) = &mut self.loaded else {
            return Err(Failure::new(Refusal::Internal, "no model is loaded"));
        };
        let outcome = match &job.prompt {
            Prompt::Load | Prompt::Unload => Ok(Summary::empty("load")),
            #[cfg(test)]
            Prompt::Panic => panic!("a test asked for it"),
            _ => generation::run(&self.pool, loaded, job, &self.stopping),
        };
        self.keep(job.keep_alive, job.settings.context);
        outcome.map(|mut summary| {
            summary.load = load_time;
            summary.total = started.elapsed();
            summary
        })
    }

    /// Makes the job's model the loaded one, and checks that the job's context fits.
    fn load(&mut self, job: &Job) -> Result<(), Failure> {
        if let Some(loaded) = &self.loaded
            && *loaded.model() == job.model
        {
            return loaded.check_context(&self.limits, job.settings.context);
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
            KeepAlive::For(Duration::ZERO) => return self.unload("its client does not keep it"),
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
