//! The answers that are being given: each pass takes a token of every one, and pieces of the prompts
//! of those that are not that far.

use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use super::generation::{Generation, Turn};
use super::kept::Kept;
use super::pace::{ALONE, BESIDE_OTHERS};
use super::{Event, Events, Failure, Loaded, Refusal, lookup};
use crate::kernels::Pool;
use crate::model::{Error, Part, Wanted};

/// Answers at once of a model. More would wait longer than they gain.
pub(super) const MOST: usize = 8;

/// Answers at once with those that wait for their clients to read.
pub(super) const MOST_WITH_PAUSED: usize = 32;

/// What happened to a generation.
pub(super) struct Ended {
    pub(super) generation: Generation,
    pub(super) outcome: Result<&'static str, Failure>,
}

/// What came of a pass.
#[derive(Default)]
pub(super) struct Passed {
    /// Those that ended.
    pub(super) all: Vec<Ended>,
    /// Whether something was computed.
    pub(super) did: bool,
    /// Whether the model cannot be computed with.
    pub(super) broken: bool,
}

/// Runs one pass; takes those that ended out of `active`. Those whose clients do not read stay out of
/// it, and end after `patience`.
pub(super) fn pass(
    active: &mut Vec<Generation>,
    pool: &Pool,
    loaded: &Loaded,
    stop: &AtomicBool,
    patience: Duration,
) -> Passed {
    let mut ended = Vec::new();
    let mut place = 0;
    while place < active.len() {
        match active[place].check(stop, patience) {
            Ok(()) => place += 1,
            Err(failure) => ended.push(Ended {
                generation: active.remove(place),
                outcome: Err(failure),
            }),
        }
    }
    let made = vectors(active, pool, loaded, &mut ended);
    let taking = active
        .iter()
        .filter(|one| one.vectors.is_none() && !one.paused());
    let answering = taking.clone().filter(|one| one.answers()).count();
    let mut prompt = loaded.pace.tokens(if answering > 0 {
        &BESIDE_OTHERS
    } else {
        &ALONE
    });
    // In a batch, the others' tokens are sure.
    let guesses = if taking.count() == 1 { lookup::MOST } else { 0 };
    let mut turns = Vec::new();
    for one in &mut *active {
        if one.vectors.is_some() || one.paused() {
            turns.push(None);
        } else if one.answers() {
            turns.push(Some(one.turn(usize::MAX, guesses)));
        } else if prompt > 0 {
            let turn = one.turn(prompt, 0);
            prompt -= turn.tokens.len();
            turns.push(Some(turn));
        } else {
            turns.push(None);
        }
    }
    let mut parts: Vec<Part<'_>> = active
        .iter_mut()
        .zip(&turns)
        .filter_map(|(one, turn)| {
            turn.as_ref().map(|turn| Part {
                tokens: &turn.tokens,
                cache: &mut one.cache,
                wanted: turn.wanted,
            })
        })
        .collect();
    let Some(decoder) = loaded.network.decoder().filter(|_| !parts.is_empty()) else {
        return Passed {
            did: made || !ended.is_empty(),
            all: ended,
            broken: false,
        };
    };
    let tokens: usize = parts.iter().map(|part| part.tokens.len()).sum();
    // Weights that are read from the file first say nothing of the pace; nor does a pass of few tokens,
    // which waits for memory.
    let tells = tokens >= *BESIDE_OTHERS.1.start() && loaded.owed() == 0;
    let started = Instant::now();
    let mut logits = match decoder.forward(pool, &mut parts) {
        Ok(logits) => logits,
        Err(error) => {
            let failure = Failure::internal(&error);
            ended.extend(active.drain(..).map(|generation| Ended {
                generation,
                outcome: Err(failure.clone()),
            }));
            return Passed {
                all: ended,
                did: true,
                // What could not be read may have been replaced, and is not asked for again.
                broken: !matches!(error, Error::Memory(_)),
            };
        }
    };
    if tells {
        loaded.pace.note(tokens, started.elapsed());
    }
    let mut rest = &mut logits[..];
    let mut going = Vec::new();
    for (mut one, turn) in active.drain(..).zip(&turns) {
        let Some(turn) = turn else {
            going.push(one);
            continue;
        };
        let (own, others) = rest.split_at_mut(rows(turn) * decoder.vocabulary());
        rest = others;
        match one.take(loaded, turn, own) {
            None => going.push(one),
            Some(reason) => ended.push(Ended {
                generation: one,
                outcome: Ok(reason),
            }),
        }
    }
    *active = going;
    Passed {
        all: ended,
        did: true,
        broken: false,
    }
}

/// Goes on with the vectors that are being made; takes those that ended out of `active`. False when there
/// were none.
fn vectors(
    active: &mut Vec<Generation>,
    pool: &Pool,
    loaded: &Loaded,
    ended: &mut Vec<Ended>,
) -> bool {
    let mut made = false;
    let mut place = 0;
    while place < active.len() {
        let one = &mut active[place];
        let paused = one.paused();
        let outcome = match &mut one.vectors {
            None => None,
            Some(_) if paused => None,
            Some(vectors) => {
                made = true;
                match vectors.step(pool, loaded) {
                    Err(failure) => Some(Err(failure)),
                    Ok(ready) => {
                        let _ = one.job.events.send(Event::Vectors(ready));
                        vectors.finished().then_some(Ok("stop"))
                    }
                }
            }
        };
        match outcome {
            None => place += 1,
            Some(outcome) => ended.push(Ended {
                generation: active.remove(place),
                outcome,
            }),
        }
    }
    made
}

/// Logits that a turn gets.
fn rows(turn: &Turn) -> usize {
    match turn.wanted {
        Wanted::Nothing => 0,
        Wanted::Last => 1,
        Wanted::All => turn.tokens.len(),
    }
}

impl Ended {
    /// What its client is told, and how. What it has read is kept.
    pub(super) fn end(self, kept: &mut Kept) -> (Events, Event) {
        let events = self.generation.job.events.clone();
        let event = match self.outcome {
            Ok(reason) => Event::Done(self.generation.finish(reason, kept)),
            Err(failure) => {
                if failure.refusal == Refusal::Gone {
                    tracing::info!("{}: {}", self.generation.job.model.name, failure.text);
                }
                Event::Failed(failure)
            }
        };
        (events, event)
    }
}
