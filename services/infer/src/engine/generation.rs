//! One answer, token by token: what it wants of the next pass, and what it makes of the logits.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::kept::Kept;
use super::lookup::Lookup;
use super::stops::Stops;
use super::vectors::Vectors;
use super::{Event, Failure, Job, Likelihood, Loaded, Prompt, Refusal, Summary, stopping};
use crate::constrain::Constraint;
use crate::model::{Cache, Wanted};
use crate::sampler::{Choice, Sampler};
use crate::template::{Conversation, Message, describe};
use crate::tokenizer::Utf8Stream;

/// A job that is being answered.
pub(super) struct Generation {
    pub(super) job: Box<Job>,
    /// The prompt, then the answer.
    tokens: Vec<u32>,
    /// How many of them are the prompt's.
    prompt: usize,
    context: usize,
    pub(super) cache: Cache,
    sampler: Sampler,
    /// What the answer is held to.
    constraint: Option<Constraint>,
    stops: Stops,
    characters: Utf8Stream,
    lookup: Lookup,
    /// The vectors that are wanted instead of an answer.
    pub(super) vectors: Option<Vectors>,
    /// Tokens of the current pass that are only guessed.
    guessed: usize,
    load: Duration,
    started: Instant,
    /// When the prompt had been read.
    read: Option<Instant>,
    /// Since when its client has too much to read.
    paused: Option<Instant>,
    /// Bytes of its cache when the context is full.
    whole: u64,
}

/// What a generation wants of a pass.
pub(super) struct Turn {
    pub(super) tokens: Vec<u32>,
    pub(super) wanted: Wanted,
}

impl Generation {
    /// Begins a job that asks for an answer, with what is kept of its prompt's beginning.
    pub(super) fn new(
        job: Box<Job>,
        loaded: &Loaded,
        kept: &mut Kept,
        load: Duration,
    ) -> Result<Self, (Box<Job>, Failure)> {
        let context = loaded.context(job.settings.context);
        let (tokens, vectors) = match &job.prompt {
            Prompt::Embed(embedding) => match Vectors::new(embedding, loaded, context) {
                Ok(vectors) => (Vec::new(), Some(vectors)),
                Err(failure) => return Err((job, failure)),
            },
            prompt => match checked_prompt(loaded, prompt, context) {
                Ok(tokens) => (tokens, None),
                Err(failure) => return Err((job, failure)),
            },
        };
        let mut sampler = Sampler::new(job.settings.sampling.clone());
        tokens.iter().for_each(|&token| sampler.saw(token));
        let fresh = || match loaded.network.decoder() {
            Some(decoder) => Cache::new(decoder.config(), loaded.keep, context),
            None => Cache::none(),
        };
        Ok(Self {
            cache: kept.beginning(&tokens, context).unwrap_or_else(fresh),
            sampler,
            constraint: (job.settings.format.clone())
                .map(|grammar| Constraint::new(grammar, loaded.pieces())),
            stops: Stops::new(job.settings.stops.clone()),
            characters: Utf8Stream::default(),
            lookup: Lookup::default(),
            guessed: 0,
            prompt: vectors.as_ref().map_or(tokens.len(), Vectors::tokens),
            vectors,
            tokens,
            context,
            load,
            started: Instant::now(),
            read: None,
            paused: None,
            whole: loaded.network.cache_bytes(loaded.keep, context),
            job,
        })
    }

    /// Fails when nobody wants the answer any more, or nobody has read of it for `patience`.
    pub(super) fn check(&mut self, stop: &AtomicBool, patience: Duration) -> Result<(), Failure> {
        if stop.load(Ordering::Relaxed) {
            return Err(stopping());
        }
        if self.job.events.is_closed() {
            return Err(Failure::new(Refusal::Gone, "the client left"));
        }
        if self.job.events.has_room() {
            self.paused = None;
        } else if self.paused.get_or_insert_with(Instant::now).elapsed() >= patience {
            let time = patience.as_secs_f32();
            let text = format!("the client has not read its answer for {time} s");
            return Err(Failure::new(Refusal::Gone, text));
        }
        Ok(())
    }

    /// Whether it waits for its client to read.
    pub(super) fn paused(&self) -> bool {
        self.paused.is_some()
    }

    /// Bytes that its cache may still take.
    pub(super) fn owed(&self) -> u64 {
        self.whole.saturating_sub(self.cache.bytes() as u64)
    }

    /// Whether the prompt has been read.
    pub(super) fn answers(&self) -> bool {
        self.tokens.len() > self.prompt
    }

    /// What it wants of the next pass: `most` tokens of its prompt, or one of its answer and, where
    /// the pass has room for `guesses`, what may follow.
    pub(super) fn turn(&mut self, most: usize, guesses: usize) -> Turn {
        let next = &self.tokens[self.cache.tokens()..];
        self.guessed = 0;
        if next.len() > most {
            return Turn {
                tokens: next[..most].to_vec(),
                wanted: Wanted::Nothing,
            };
        }
        let mut tokens = next.to_vec();
        if !self.answers() {
            return Turn {
                tokens,
                wanted: Wanted::Last,
            };
        }
        // A guess must leave room for the token that follows it.
        let room = self.cache.left().saturating_sub(tokens.len());
        let guess = self.lookup.guess(&self.tokens, guesses.min(room));
        self.guessed = guess.len();
        tokens.extend_from_slice(guess);
        Turn {
            tokens,
            wanted: Wanted::All,
        }
    }

    /// Takes a pass' logits, token by token; returns why the answer ends, if it does.
    pub(super) fn take(
        &mut self,
        loaded: &Loaded,
        turn: &Turn,
        logits: &mut [f32],
    ) -> Option<&'static str> {
        if turn.wanted == Wanted::Nothing {
            return None;
        }
        self.read.get_or_insert_with(Instant::now);
        let guesses = &turn.tokens[turn.tokens.len() - self.guessed..];
        let mut right = 0;
        let mut ended = None;
        let vocabulary = loaded.tokenizer.vocabulary().len();
        for (index, logits) in logits.chunks_exact_mut(vocabulary).enumerate() {
            if let Some(constraint) = &mut self.constraint
                && !constraint.mask(logits)
            {
                // The vocabulary lacks a byte: the answer cannot be completed.
                self.flush();
                ended = Some("length");
                break;
            }
            let choice = self.sampler.choose(logits);
            let token = choice.token;
            if self.job.settings.sampling.logprobs.is_some() {
                self.tell(loaded, &choice);
            }
            if let Some(constraint) = &mut self.constraint {
                constraint.accept(token);
            }
            ended = self.add(loaded, token);
            match guesses.get(index) {
                Some(&guess) if guess == token && ended.is_none() => right += 1,
                _ => break,
            }
        }
        self.lookup.learn(right, guesses.len());
        // What was read after a wrong guess never was.
        self.cache.cut(self.tokens.len() - 1);
        ended
    }

    /// Adds a token to the answer; returns why it is the last, if it is.
    fn add(&mut self, loaded: &Loaded, token: u32) -> Option<&'static str> {
        if loaded.tokenizer.vocabulary().ends(token) {
            self.flush();
            return Some("stop");
        }
        self.tokens.push(token);
        self.sampler.saw(token);
        let piece = self.characters.push(&loaded.tokenizer.bytes(token));
        let (text, ended) = self.stops.push(&piece);
        self.say(text);
        if ended {
            return Some("stop");
        }
        if self.constraint.as_ref().is_some_and(Constraint::finished) {
            self.flush();
            return Some("stop");
        }
        let answer = self.tokens.len() - self.prompt;
        let enough = self.job.settings.predict.is_some_and(|most| answer >= most);
        if enough || self.tokens.len() > self.context {
            self.flush();
            return Some("length");
        }
        None
    }

    /// Sends how likely a token is; one that only ends the answer is no part of it.
    fn tell(&self, loaded: &Loaded, choice: &Choice) {
        if loaded.tokenizer.vocabulary().ends(choice.token) {
            return;
        }
        let bytes = |token| loaded.tokenizer.bytes(token).to_vec();
        let top = choice.top.iter();
        let _ = self.job.events.send(Event::Token(Likelihood {
            bytes: bytes(choice.token),
            logprob: choice.logprob,
            top: top.map(|&(token, l)| (bytes(token), l)).collect(),
        }));
    }

    /// Says what was held back.
    fn flush(&mut self) {
        let (text, ended) = self.stops.push(&self.characters.finish());
        let rest = if ended {
            String::new()
        } else {
            self.stops.finish()
        };
        self.say(text + &rest);
    }

    /// Sends text; a client that has left is noticed before the next pass.
    fn say(&self, text: String) {
        if !text.is_empty() {
            let _ = self.job.events.send(Event::Text(text));
        }
    }

    /// Ends it: what it took, and what is left of it for others.
    pub(super) fn finish(self, reason: &'static str, kept: &mut Kept) -> Summary {
        let now = Instant::now();
        let read = self.read.unwrap_or(now);
        let summary = Summary {
            load: self.load,
            total: self.load + (now - self.started),
            prompt_tokens: self.prompt,
            prompt: read - self.started,
            answer_tokens: self.tokens.len().saturating_sub(self.prompt),
            answer: now - read,
            context: self.tokens.clone(),
            ..Summary::empty(reason)
        };
        kept.put(self.tokens, self.cache);
        summary
    }
}

/// The prompt's tokens, if there are some and the context has room for an answer.
fn checked_prompt(loaded: &Loaded, prompt: &Prompt, context: usize) -> Result<Vec<u32>, Failure> {
    if loaded.network.decoder().is_none() {
        let name = &loaded.model().name;
        let text = format!("{name:?} makes vectors of texts, and does not support generate");
        return Err(Failure::new(Refusal::Request, text));
    }
    let tokens = prompt_tokens(loaded, prompt, context)?;
    if tokens.is_empty() {
        return Err(Failure::new(Refusal::Request, "the prompt has no tokens"));
    }
    // One place is left for the answer.
    if tokens.len() >= context {
        return Err(too_long(loaded, &tokens.len().to_string(), context));
    }
    Ok(tokens)
}

fn too_long(loaded: &Loaded, found: &str, context: usize) -> Failure {
    let text = format!(
        "the prompt has {found} tokens, allowed: at most {} (a context of {context} tokens, of which the \
         answer takes at least one; the model's own limit is {})",
        context - 1,
        loaded.network.context(),
    );
    Failure::new(Refusal::TooLong, text)
}

/// The tokens that the model is to go on from.
fn prompt_tokens(loaded: &Loaded, prompt: &Prompt, context: usize) -> Result<Vec<u32>, Failure> {
    let request = |text: String| Failure::new(Refusal::Request, text);
    let encode = |text: &str| {
        // Megabytes would hold up the others for seconds, only to be refused.
        let least = loaded.longest.map_or(0, |longest| text.len() / longest);
        if least > context {
            return Err(too_long(loaded, &format!("more than {least}"), context));
        }
        loaded
            .tokenizer
            .encode(text)
            .map_err(|error| request(error.to_string()))
    };
    let render = |conversation: &Conversation| match &loaded.template {
        Some(template) => template
            .render(conversation)
            .map_err(|error| request(format!("the chat template failed: {}", describe(&error)))),
        None => {
            // A model that was never taught turns gets the texts alone.
            let texts: Vec<_> = conversation
                .messages
                .iter()
                .map(|message| message.content.as_str())
                .collect();
            Ok(texts.join("\n\n"))
        }
    };
    match prompt {
        Prompt::Messages(messages) => encode(&render(messages)?),
        Prompt::Raw(text) => encode(text),
        Prompt::Question {
            system,
            text,
            before,
        } => {
            let said = |role: &str, content: &String| Message::new(role, content.as_str());
            let mut messages: Vec<_> = system.iter().map(|text| said("system", text)).collect();
            messages.push(said("user", text));
            let mut tokens = before.clone();
            let vocabulary = loaded.tokenizer.vocabulary();
            if let Some(unknown) = tokens
                .iter()
                .find(|&&token| vocabulary.entry(token).is_none())
            {
                let count = vocabulary.len();
                return Err(request(format!(
                    "context has the token {unknown}, allowed: below {count}"
                )));
            }
            let more = encode(&render(&messages.into())?)?;
            // It goes on; what begins a text is at its beginning already.
            tokens.extend(
                more.strip_prefix(loaded.tokenizer.before())
                    .unwrap_or(&more),
            );
            Ok(tokens)
        }
        _ => Ok(Vec::new()),
    }
}
