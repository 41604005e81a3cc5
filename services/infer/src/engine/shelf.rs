//! The loaded models, each with the answers that it gives and what it remembers of former ones, and who
//! goes when another needs the room.
//!
//! Nothing is given up before it is known that this will do: what a model needs is compared with what is
//! there and what can be set free. What was promised to those that are loaded, but is not taken yet
//! (weights that are read at their first use, contexts that are not full), counts as taken.

use std::time::{Duration, Instant, SystemTime};

use super::generation::Generation;
use super::kept::Kept;
use super::{Failure, Loaded, Refusal, Status};
use crate::library::Model;
use crate::memory::{Limits, show_size};
use crate::options::KeepAlive;

/// A loaded model.
pub(super) struct Seat {
    pub(super) loaded: Loaded,
    /// Beginnings that it has read.
    pub(super) kept: Kept,
    /// Jobs that it answers.
    pub(super) active: Vec<Generation>,
    /// Whether all its weights are in memory.
    pub(super) prepared: bool,
    /// When it was used last.
    used: Instant,
    /// When its time is over; None for never.
    expires: Option<Instant>,
    shown: Status,
}

impl Seat {
    fn new(loaded: Loaded, context: usize) -> Self {
        let shown = Status {
            model: loaded.model().clone(),
            bytes: loaded.bytes(context),
            context: loaded.context(context),
            expires: None,
        };
        Self {
            loaded,
            kept: Kept::default(),
            active: Vec::new(),
            prepared: false,
            used: Instant::now(),
            expires: None,
            shown,
        }
    }

    /// Whether it answers nobody.
    pub(super) fn idle(&self) -> bool {
        self.active.is_empty()
    }

    /// Sets when it will be unloaded.
    fn keep(&mut self, keep_alive: KeepAlive, context: usize) {
        let time = match keep_alive {
            KeepAlive::For(time) => Some(time),
            KeepAlive::Forever => None,
        };
        self.used = Instant::now();
        self.expires = time.and_then(|time| self.used.checked_add(time));
        self.shown.expires = time.and_then(|time| SystemTime::now().checked_add(time));
        self.shown.bytes = self.loaded.bytes(context);
        self.shown.context = self.loaded.context(context);
    }

    /// Bytes that it may still take of what it was promised.
    fn owed(&self) -> u64 {
        let contexts = self.active.iter().map(Generation::owed);
        self.loaded.owed() + contexts.sum::<u64>()
    }

    /// Bytes that it has.
    fn held(&self) -> u64 {
        let contexts = self.active.iter().map(|one| one.cache.bytes() as u64);
        self.loaded.resident() + self.kept.bytes() + contexts.sum::<u64>()
    }
}

/// What stands in the way of memory that is wanted.
#[derive(Debug)]
pub(super) enum Shortage {
    /// Models that answer somebody: when they are done, there may be enough.
    Busy,
    /// There will never be enough.
    Never(Failure),
}

/// All loaded models.
pub(super) struct Shelf {
    limits: Limits,
    pub(super) seats: Vec<Seat>,
    /// Whether there is news of the models.
    changed: bool,
}

impl Shelf {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            seats: Vec::new(),
            changed: false,
        }
    }

    /// The place of a model.
    pub(super) fn find(&self, model: &Model) -> Option<usize> {
        let same = |seat: &Seat| seat.loaded.model() == model;
        self.seats.iter().position(same)
    }

    /// The place of the model of that name, whatever its file was.
    pub(super) fn named(&self, name: &str) -> Option<usize> {
        let same = |seat: &Seat| seat.loaded.model().name == name;
        self.seats.iter().position(same)
    }

    /// Puts a model in; returns its place.
    pub(super) fn put(&mut self, loaded: Loaded, context: usize) -> usize {
        self.changed = true;
        self.seats.push(Seat::new(loaded, context));
        self.seats.len() - 1
    }

    /// Takes a model out. Its answers, if there are some, go with it.
    pub(super) fn unload(&mut self, place: usize, reason: &str) -> Seat {
        self.changed = true;
        let seat = self.seats.remove(place);
        tracing::info!("unloaded {}: {reason}", seat.loaded.model().name);
        seat
    }

    /// Sets when the model at a place will be unloaded, after a job of so much context.
    pub(super) fn keep(&mut self, place: usize, keep_alive: KeepAlive, context: usize) {
        self.changed = true;
        self.seats[place].keep(keep_alive, context);
    }

    /// Unloads what is idle and has had its time.
    pub(super) fn unload_expired(&mut self) {
        let now = Instant::now();
        let over = |seat: &Seat| seat.idle() && seat.expires.is_some_and(|time| time <= now);
        while let Some(place) = self.seats.iter().position(over) {
            self.unload(place, "it was not used");
        }
    }

    /// When the next model's time is over.
    pub(super) fn next_expiry(&self) -> Option<Instant> {
        let idle = self.seats.iter().filter(|seat| seat.idle());
        idle.filter_map(|seat| seat.expires).min()
    }

    /// Gives back memory because the machine is short of it: the model that has been idle the longest
    /// or, when all are busy, what is only kept.
    pub(super) fn relieve(&mut self) {
        match self.idle_longest().first() {
            Some(&place) => {
                self.unload(place, "memory is short");
            }
            None => self.seats.iter_mut().for_each(|seat| seat.kept.clear()),
        }
    }

    /// Idle models, the one first that was used the longest ago.
    fn idle_longest(&self) -> Vec<usize> {
        let places = 0..self.seats.len();
        let mut idle: Vec<_> = places.filter(|&place| self.seats[place].idle()).collect();
        idle.sort_by_key(|&place| self.seats[place].used);
        idle
    }

    /// Makes room for `needed` bytes of `name`'s: first by forgetting what is only kept, then by unloading
    /// idle models, but for `own`, that were used the longest ago. When that will not do, everything stays.
    pub(super) fn make_room(
        &mut self,
        name: &str,
        needed: u64,
        own: Option<&str>,
    ) -> Result<(), Shortage> {
        let (available, origin) = self.limits.available();
        let owed: u64 = self.seats.iter().map(Seat::owed).sum();
        // What has been promised beyond what is there must come from somewhere, too.
        let needed_in_all = needed.saturating_add(owed);
        if needed_in_all <= available {
            return Ok(());
        }
        let mut missing = needed_in_all - available;
        let total = missing;
        let mut forgotten = Vec::new();
        let mut unloaded = Vec::new();
        for place in self.idle_longest() {
            forgotten.push(place);
            missing = missing.saturating_sub(self.seats[place].kept.own_bytes());
        }
        for (place, seat) in self.seats.iter().enumerate() {
            if !seat.idle() {
                forgotten.push(place);
                missing = missing.saturating_sub(seat.kept.own_bytes());
            }
        }
        for place in self.idle_longest() {
            let seat = &self.seats[place];
            let asks = own.is_some_and(|own| seat.loaded.model().name == own);
            if missing > 0 && !asks {
                missing = missing.saturating_sub(seat.loaded.resident() + seat.owed());
                unloaded.push(place);
            }
        }
        if missing > 0 {
            let busy = self.seats.iter().filter(|seat| !seat.idle());
            let later: u64 = busy.map(|seat| seat.held() + seat.owed()).sum();
            return Err(if later >= missing {
                Shortage::Busy
            } else {
                Shortage::Never(self.refusal(name, needed, total, (available, origin)))
            });
        }
        let mut missing = total;
        for place in forgotten {
            if missing > 0 {
                let kept = &mut self.seats[place].kept;
                missing = missing.saturating_sub(kept.own_bytes());
                kept.clear();
            }
        }
        // From the last place on, so that places stay what they are.
        unloaded.sort_unstable_by(|one, other| other.cmp(one));
        for place in unloaded {
            self.unload(place, &format!("its memory is needed for {name}"));
        }
        Ok(())
    }

    fn refusal(&self, name: &str, needed: u64, missing: u64, there: (u64, &str)) -> Failure {
        let (available, origin) = there;
        let mut text = format!(
            "model requires more system memory ({}, {needed} bytes) than is available ({}, {available} \
             bytes {origin})",
            show_size(needed),
            show_size(available),
        );
        let others = self.seats.iter().map(|seat| {
            let name = &seat.loaded.model().name;
            let (held, owed) = (seat.held(), seat.owed());
            let owed = match owed {
                0 => String::new(),
                owed => format!(" and will take {}", show_size(owed)),
            };
            format!("{name} has {}{owed}", show_size(held))
        });
        let others: Vec<_> = others.collect();
        if !others.is_empty() {
            text += &format!("; {}", others.join(", "));
        }
        tracing::warn!("{name}: {text}, {missing} bytes are missing");
        Failure::new(Refusal::Internal, text)
    }

    /// What is published, if it has changed since this was asked.
    pub(super) fn news(&mut self) -> Option<Vec<Status>> {
        let status = || self.seats.iter().map(|seat| seat.shown.clone()).collect();
        std::mem::take(&mut self.changed).then(status)
    }
}

/// How long one model may read weights while others wait for their tokens.
pub(super) const SLICE: Duration = Duration::from_millis(40);
