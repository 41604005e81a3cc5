//! The one thread that computes. It owns the loaded models; others send it jobs and read what it
//! publishes. Models take turns, pass by pass, on one pool of threads: nothing is locked, and none waits for
//! more than a pass of each other. A model's jobs are answered together, a token of each in every pass.
//! The queue is bounded.
//!
//! A model's failure or a client that leaves end one job, a panic those of its model; never the
//! thread. Only when it happens twice in a row does the thread give up, and the service with it:
//! PID 1 starts a fresh process.

mod batch;
mod events;
mod generation;
mod job;
mod kept;
mod loaded;
mod lookup;
mod network;
mod pace;
mod shelf;
mod stops;
mod vectors;

pub use events::{Events, Gone, Heard, events};
pub use job::{Embedding, Event, Failure, Job, Likelihood, Prompt, Refusal, Summary};
pub use loaded::Loaded;
pub use lookup::Lookup;

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
use self::shelf::{Shelf, Shortage};
use crate::kernels::{Keep, Pool, give_back};
use crate::library::Model;
use crate::memory::Limits;
use crate::options::KeepAlive;

/// Jobs that may wait. More would only wait longer than their clients do.
const MAX_WAITING: usize = 32;

/// How long the engine waits for news when every client has too much to read.
const PAUSE: Duration = Duration::from_millis(20);

/// What the engine works with.
#[derive(Debug, Clone)]
pub struct Setup {
    /// The memory it may take.
    pub limits: Limits,
    /// How many threads compute.
    pub threads: usize,
    /// How keys and values are kept.
    pub keep: Keep,
    /// How long a client may not read before its answer is given up.
    pub patience: Duration,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            threads: 1,
            keep: Keep::Halves,
            patience: Duration::from_secs(30),
        }
    }
}

/// What the engine publishes about a loaded model.
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
    /// Look at the flags.
    Wake,
}

/// What others hold of the engine.
pub struct Engine {
    commands: SyncSender<Command>,
    stopping: Arc<AtomicBool>,
    short: Arc<AtomicBool>,
    status: watch::Receiver<Vec<Status>>,
}

impl Engine {
    /// Starts the thread. The receiver resolves when the thread has ended: with true after a
    /// stop, with false when it gave up.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start(setup: Setup) -> std::io::Result<(Self, oneshot::Receiver<bool>)> {
        let (commands, receiver) = sync_channel(MAX_WAITING);
        let (publish, status) = watch::channel(Vec::new());
        let stopping = Arc::new(AtomicBool::new(false));
        let short = Arc::new(AtomicBool::new(false));
        let (done, ended) = oneshot::channel();
        let worker = Worker {
            pool: Pool::new(setup.threads)?,
            shelf: Shelf::new(setup.limits.clone()),
            setup,
            stopping: stopping.clone(),
            short: short.clone(),
            waiting: VecDeque::new(),
            held_up: false,
            publish,
            untidy: false,
        };
        std::thread::Builder::new()
            .name("engine".to_owned())
            .spawn(move || {
                // Nobody waits any more when main has ended first.
                let _ = done.send(worker.run(&receiver));
            })?;
        let engine = Self {
            commands,
            stopping,
            short,
            status,
        };
        Ok((engine, ended))
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
        // Wakes an idle engine; a busy one sees the flag after its current pass.
        let _ = self.commands.try_send(Command::Wake);
    }

    /// Tells it that memory is short: the model that has been idle the longest is unloaded.
    pub fn relieve(&self) {
        self.short.store(true, Ordering::Relaxed);
        let _ = self.commands.try_send(Command::Wake);
    }

    /// The loaded models.
    #[must_use]
    pub fn status(&self) -> Vec<Status> {
        self.status.borrow().clone()
    }
}

struct Worker {
    pool: Pool,
    setup: Setup,
    stopping: Arc<AtomicBool>,
    short: Arc<AtomicBool>,
    shelf: Shelf,
    /// Jobs that are not begun, the first first.
    waiting: VecDeque<Box<Job>>,
    /// Whether the first job that could begin waits for memory that busy models have.
    held_up: bool,
    publish: watch::Sender<Vec<Status>>,
    /// Whether something was done since memory was given back.
    untidy: bool,
}

/// What is to be done with a job that waits.
enum Next {
    /// Its client has left.
    Drop,
    /// It waits for its model's answers.
    Later,
    Begin,
}

/// Why a job could not be begun.
enum Refused {
    /// It waits for memory.
    HeldUp(Box<Job>),
    Failed(Failure),
}

impl From<Failure> for Refused {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl From<Failure> for Shortage {
    fn from(failure: Failure) -> Self {
        Self::Never(failure)
    }
}

impl Worker {
    /// Serves until it is stopped (true) or has panicked twice in a row (false).
    fn run(mut self, commands: &Receiver<Command>) -> bool {
        let mut panicked = false;
        let mut worked = true;
        loop {
            if !self.listen(commands, worked) {
                return true;
            }
            if self.stopping.load(Ordering::Relaxed) {
                self.refuse(&stopping());
                return true;
            }
            if self.short.swap(false, Ordering::Relaxed) {
                self.shelf.relieve();
            }
            self.shelf.unload_expired();
            self.publish();
            let well = self.begin();
            self.publish();
            let turns = self.turns();
            worked = turns != Some(false);
            if well && turns.is_some() {
                panicked = false;
            } else if panicked {
                self.refuse(&Failure::new(Refusal::Internal, "the engine gave up"));
                return false;
            } else {
                panicked = true;
            }
            self.publish();
        }
    }

    fn busy(&self) -> bool {
        self.shelf.seats.iter().any(|seat| !seat.idle())
    }

    /// Takes the jobs that have come; waits for one, or for a model's time to be over, when there is
    /// nothing to do. False when nobody can send any more.
    fn listen(&mut self, commands: &Receiver<Command>, worked: bool) -> bool {
        let mut wait = match (self.busy(), worked) {
            (true, true) => Some(Duration::ZERO),
            (true, false) => Some(PAUSE),
            (false, _) if !self.waiting.is_empty() => Some(Duration::ZERO),
            (false, _) => self
                .shelf
                .next_expiry()
                .map(|time| time.saturating_duration_since(Instant::now())),
        };
        if !self.busy() && wait != Some(Duration::ZERO) && std::mem::take(&mut self.untidy) {
            self.pool.tidy();
            give_back();
        }
        loop {
            let command = match wait {
                Some(Duration::ZERO) => commands.try_recv().map_err(|error| match error {
                    TryRecvError::Empty => RecvTimeoutError::Timeout,
                    TryRecvError::Disconnected => RecvTimeoutError::Disconnected,
                }),
                None => commands.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(time) => commands.recv_timeout(time),
            };
            match command {
                Ok(Command::Run(job)) => self.waiting.push_back(job),
                Ok(Command::Wake) | Err(RecvTimeoutError::Timeout) => return true,
                Err(RecvTimeoutError::Disconnected) => return false,
            }
            // As many as may wait: the rest stays in the queue, which is bounded.
            if self.waiting.len() >= MAX_WAITING {
                return true;
            }
            // What else has come is taken, but not waited for.
            wait = Some(Duration::ZERO);
        }
    }

    /// Begins what can be begun; false when that panicked.
    ///
    /// Jobs of different models do not wait for each other, except for memory: behind one that waits for
    /// that nothing begins, lest it wait for ever.
    fn begin(&mut self) -> bool {
        let mut later: Vec<String> = Vec::new();
        let mut place = 0;
        while !self.held_up && place < self.waiting.len() {
            match self.next(&self.waiting[place], &later) {
                Next::Later => {
                    later.push(self.waiting[place].model.name.clone());
                    place += 1;
                    continue;
                }
                Next::Drop => {
                    let job = self.waiting.remove(place);
                    let name = job.map(|job| job.model.name).unwrap_or_default();
                    tracing::info!("{name}: the client left before its turn");
                    continue;
                }
                Next::Begin => {}
            }
            let Some(job) = self.waiting.remove(place) else {
                break;
            };
            let events = job.events.clone();
            let (name, keep, context) =
                (job.model.name.clone(), job.keep_alive, job.settings.context);
            let event = match catch_unwind(AssertUnwindSafe(|| self.begin_one(job))) {
                Ok(Ok(None)) => continue,
                Ok(Ok(Some(summary))) => {
                    if summary.reason != "unload" {
                        self.keep(&name, keep, context);
                    }
                    Event::Done(summary)
                }
                Ok(Err(Refused::HeldUp(job))) => {
                    self.waiting.insert(place, job);
                    self.held_up = true;
                    break;
                }
                Ok(Err(Refused::Failed(failure))) => {
                    self.keep(&name, keep, context);
                    Event::Failed(failure)
                }
                Err(payload) => {
                    let failure = self.panicked(&name, payload.as_ref());
                    let _ = events.send(Event::Failed(failure));
                    return false;
                }
            };
            // What it says of the models must be known before its client asks for it.
            self.publish();
            // A client that has left needs no answer.
            let _ = events.send(event);
        }
        true
    }

    /// Whether a job can begin. Behind one that cannot, none of its model begins.
    fn next(&self, job: &Job, later: &[String]) -> Next {
        if job.events.is_closed() {
            return Next::Drop;
        }
        if later.contains(&job.model.name) {
            return Next::Later;
        }
        let Some(place) = self.shelf.named(&job.model.name) else {
            return Next::Begin;
        };
        let seat = &self.shelf.seats[place];
        let unloads = matches!(job.prompt, Prompt::Unload) || *seat.loaded.model() != job.model;
        let answering = seat.active.iter().filter(|one| !one.paused()).count();
        let full = answering >= batch::MOST || seat.active.len() >= batch::MOST_WITH_PAUSED;
        match if unloads { !seat.idle() } else { full } {
            true => Next::Later,
            false => Next::Begin,
        }
    }

    /// Begins a job. A summary says that it is done already.
    fn begin_one(&mut self, job: Box<Job>) -> Result<Option<Summary>, Refused> {
        let started = Instant::now();
        self.untidy = true;
        if matches!(job.prompt, Prompt::Unload) {
            if let Some(place) = self.shelf.named(&job.model.name) {
                self.shelf.unload(place, "a client asked for it");
            }
            return Ok(Some(Summary::empty("unload")));
        }
        let place = match self.load(&job) {
            Ok(place) => place,
            Err(Shortage::Busy) => return Err(Refused::HeldUp(job)),
            Err(Shortage::Never(failure)) => return Err(failure.into()),
        };
        let load = started.elapsed();
        let seat = &mut self.shelf.seats[place];
        match &job.prompt {
            Prompt::Load => Ok(Some(Summary {
                load,
                total: load,
                ..Summary::empty("load")
            })),
            #[cfg(test)]
            Prompt::Panic => panic!("a test asked for it"),
            _ => match Generation::new(job, &seat.loaded, &mut seat.kept, load) {
                Ok(generation) => {
                    seat.active.push(generation);
                    Ok(None)
                }
                Err((_, failure)) => Err(failure.into()),
            },
        }
    }

    /// The place of the job's model, which is loaded if it is not, with room for the job's context.
    fn load(&mut self, job: &Job) -> Result<usize, Shortage> {
        let (name, context) = (&job.model.name, job.settings.context);
        if let Some(place) = self.shelf.find(&job.model) {
            let needed = self.shelf.seats[place].loaded.answer_bytes(context);
            self.shelf.make_room(name, needed, Some(name))?;
            // Others may have gone.
            return match self.shelf.find(&job.model) {
                Some(place) => Ok(place),
                None => Err(Failure::new(Refusal::Internal, "no model is loaded").into()),
            };
        }
        if let Some(place) = self.shelf.named(name) {
            self.shelf.unload(place, "its file is another now");
        }
        let started = Instant::now();
        kos_sdk::notify::status(&format!("loading {name}"));
        let shelf = &mut self.shelf;
        let loaded = Loaded::load(&job.model, self.setup.keep, context, |needed| {
            shelf.make_room(name, needed, None)
        });
        kos_sdk::notify::status(match &loaded {
            Ok(_) => "ready",
            Err(_) => "ready; the last model could not be loaded",
        });
        match loaded {
            Ok(loaded) => {
                tracing::info!(
                    "loaded {name} in {} ms, {} bytes",
                    started.elapsed().as_millis(),
                    loaded.bytes(context),
                );
                Ok(self.shelf.put(loaded, context))
            }
            Err(Shortage::Busy) => Err(Shortage::Busy),
            Err(Shortage::Never(failure)) => {
                tracing::error!("cannot load {name}: {}", failure.text);
                Err(failure.into())
            }
        }
    }

    /// Gives every model that answers somebody a turn. False when there was nothing to compute, None when
    /// one has panicked.
    fn turns(&mut self) -> Option<bool> {
        let mut worked = false;
        let mut well = true;
        let mut place = 0;
        let alone = self.shelf.seats.iter().filter(|seat| !seat.idle()).count() == 1;
        while place < self.shelf.seats.len() {
            let seat = &self.shelf.seats[place];
            if seat.idle() {
                place += 1;
                continue;
            }
            let name = seat.loaded.model().name.clone();
            match catch_unwind(AssertUnwindSafe(|| self.turn(place, alone))) {
                Ok(did) => worked |= did,
                Err(payload) => {
                    well = false;
                    self.panicked(&name, payload.as_ref());
                }
            }
            // It may have gone.
            if self.shelf.named(&name) == Some(place) {
                place += 1;
            }
        }
        well.then_some(worked)
    }

    /// A model's turn: a pass, or some of its weights while others wait. False when there was nothing to
    /// compute.
    fn turn(&mut self, place: usize, alone: bool) -> bool {
        let seat = &mut self.shelf.seats[place];
        if let Some(decoder) = seat.loaded.network.decoder()
            && !alone
            && !seat.prepared
        {
            let started = Instant::now();
            let mut all = true;
            let outcome = decoder.prepare(&self.pool, &mut |_, _| {
                all = started.elapsed() < shelf::SLICE;
                all
            });
            // What cannot be read is told by the pass.
            seat.prepared = all || outcome.is_err();
            if !seat.prepared {
                return true;
            }
        }
        let ended = batch::pass(
            &mut seat.active,
            &self.pool,
            &seat.loaded,
            &self.stopping,
            self.setup.patience,
        );
        let worked = ended.did;
        let (broken, name) = (ended.broken, seat.loaded.model().name.clone());
        // Whether one waits for memory is looked at again when some may be free.
        self.held_up &= ended.all.is_empty();
        let mut told = Vec::new();
        for one in ended.all {
            let job = &one.generation.job;
            let (keep, context) = (job.keep_alive, job.settings.context);
            let seat = self
                .shelf
                .named(&name)
                .map(|place| &mut self.shelf.seats[place]);
            let mut none = kept::Kept::default();
            told.push(one.end(seat.map_or(&mut none, |seat| &mut seat.kept)));
            self.keep(&name, keep, context);
        }
        if broken && let Some(place) = self.shelf.named(&name) {
            self.shelf.unload(place, "it cannot be computed with");
        }
        // What this says of the models must be known before the clients ask for it.
        self.publish();
        for (events, event) in told {
            // A client that has left needs no answer.
            let _ = events.send(event);
        }
        worked
    }

    /// Ends a model whose computation panicked, and its answers; returns what to tell others.
    fn panicked(&mut self, name: &str, payload: &(dyn std::any::Any + Send)) -> Failure {
        let text = format!("internal error: {}", panic_text(payload));
        let failure = Failure::new(Refusal::Internal, text);
        self.held_up = false;
        if let Some(place) = self.shelf.named(name) {
            let seat = self.shelf.unload(place, "its computation panicked");
            self.publish();
            for one in seat.active {
                let _ = one.job.events.send(Event::Failed(failure.clone()));
            }
        }
        failure
    }

    /// Refuses everything that is not done.
    fn refuse(&mut self, failure: &Failure) {
        let seats = self.shelf.seats.iter_mut();
        let active = seats.flat_map(|seat| seat.active.drain(..).map(|one| one.job));
        for job in active.chain(self.waiting.drain(..)) {
            let _ = job.events.send(Event::Failed(failure.clone()));
        }
    }

    /// Sets when the model will be unloaded.
    fn keep(&mut self, name: &str, keep_alive: KeepAlive, context: usize) {
        let Some(place) = self.shelf.named(name) else {
            return;
        };
        if keep_alive == KeepAlive::For(Duration::ZERO) && self.shelf.seats[place].idle() {
            self.shelf.unload(place, "its client does not keep it");
        } else {
            self.shelf.keep(place, keep_alive, context);
        }
    }

    /// Tells what has changed of the loaded models.
    fn publish(&mut self) {
        if let Some(status) = self.shelf.news() {
            self.publish.send_replace(status);
        }
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
