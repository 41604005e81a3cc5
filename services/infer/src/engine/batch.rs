//! The answers that are being given: each pass takes a token of every one, and pieces of the prompts
//! of those that are not that far.

use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::generation::{Generation, Turn};
use super::kept::Kept;
use super::{Event, Events, Failure, Loaded, Refusal, lookup};
use crate::kernels::Pool;
use crate::model::{Error, Part, Wanted};

/// Answers at once of a model. More would wait longer than they gain.
pub(super) const MOST: usize = 8;

/// Answers at once with those that wait for their clients to read.
pub(super) const MOST_WITH_PAUSED: usize = 32;

/// Prompt tokens read in one pass when nobody waits for a token: as many as are read in that time, within
/// that range. Larger passes are faster, but a client that leaves and a service that stops wait for the
/// end of the current one.
pub(super) const ALONE: (Duration, RangeInclusive<usize>) = (Duration::from_secs(1), 32..=256);

/// As many while others wait for their tokens.
const BESIDE_OTHERS: (Duration, RangeInclusive<usize>) = (Duration::from_millis(250), 16..=64);

/// How fast a model reads prompts on this machine.
#[derive(Default)]
pub(super) struct Pace {
    /// Nanoseconds for a token; none before the first pass.
    nanoseconds: AtomicU64,
}

impl Pace {
    /// Prompt tokens of a pass.
    fn tokens(&self, (time, range): &(Duration, RangeInclusive<usize>)) -> usize {
        let each = match self.nanoseconds.load(Ordering::Relaxed) {
            // What is slow must not begin with the most.
            0 => return (*range.end()).min(64),
            each => u128::from(each),
        };
        let tokens = usize::try_from(time.as_nanos() / each).unwrap_or(usize::MAX);
        let tokens = tokens.clamp(*range.start(), *range.end());
        tokens / range.start() * range.start()
    }

    /// Notes how long a pass took.
    fn note(&self, tokens: usize, time: Duration) {
        let each = time.as_nanos() / tokens.max(1) as u128;
        let each = u64::try_from(each).unwrap_or(u64::MAX).max(1);
        self.nanoseconds.store(each, Ordering::Relaxed);
    }
}

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
    // Weights that are read from the file first say nothing of the pace.
    let ready = tokens >= *BESIDE_OTHERS.1.start() && loaded.owed() == 0;
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
    // A pass of few tokens waits for memory, and says nothing of one of many.
    if ready {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pass_takes_about_its_time() {
        let pace = Pace::default();
        assert_eq!(
            [64, 64],
            [&ALONE, &BESIDE_OTHERS].map(|pass| pace.tokens(pass))
        );
        for (milliseconds, alone, beside) in
            [(1, 256, 64), (5, 192, 48), (10, 96, 16), (900, 32, 16)]
        {
            pace.note(64, Duration::from_millis(64 * milliseconds));
            let found = [&ALONE, &BESIDE_OTHERS].map(|pass| pace.tokens(pass));
            assert_eq!(found, [alone, beside], "{milliseconds} ms a token");
        }
        pace.note(1, Duration::ZERO);
        assert_eq!(pace.tokens(&ALONE), 256);
    }
}
