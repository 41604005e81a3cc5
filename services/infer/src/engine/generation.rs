//! One answer, token by token.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use super::stops::Stops;
use super::{Event, Failure, Job, Loaded, Prompt, Refusal, Summary, stopping};
use crate::kernels::{Keep, Pool};
use crate::model::{Cache, Part, Wanted};
use crate::sampler::Sampler;
use crate::template::{Message, describe};
use crate::tokenizer::Utf8Stream;

/// Prompt tokens read in one pass. Larger passes are faster, but a client that leaves and a
/// service that stops wait for the end of the current one.
const PASS_TOKENS: usize = 256;

/// Runs a job that asks for an answer.
pub(super) fn run(
    pool: &Pool,
    loaded: &Loaded,
    job: &Job,
    stop: &AtomicBool,
) -> Result<Summary, Failure> {
    let context = loaded.context(job.settings.context);
    let prompt = prompt_tokens(loaded, &job.prompt)?;
    if prompt.is_empty() {
        return Err(Failure::new(Refusal::Request, "the prompt has no tokens"));
    }
    // One place is left for the answer.
    if prompt.len() >= context {
        let text = format!(
            "the prompt has {} tokens, allowed: at most {} (a context of {context} tokens, of \
             which the answer takes at least one; the model's own limit is {})",
            prompt.len(),
            context - 1,
            loaded.decoder.config().context,
        );
        return Err(Failure::new(Refusal::Request, text));
    }
    let mut generation = Generation {
        pool,
        loaded,
        job,
        stop,
        cache: Cache::new(loaded.decoder.config(), Keep::Halves, context),
        sampler: Sampler::new(job.settings.sampling.clone()),
        stops: Stops::new(job.settings.stops.clone()),
        characters: Utf8Stream::default(),
    };
    let started = Instant::now();
    let logits = generation.read(&prompt)?;
    let read = started.elapsed();
    let started = Instant::now();
    let (answer, reason) = generation.answer(logits)?;
    Ok(Summary {
        prompt_tokens: prompt.len(),
        prompt: read,
        answer_tokens: answer.len(),
        answer: started.elapsed(),
        context: [prompt, answer].concat(),
        ..Summary::empty(reason)
    })
}

struct Generation<'a> {
    pool: &'a Pool,
    loaded: &'a Loaded,
    job: &'a Job,
    stop: &'a AtomicBool,
    cache: Cache,
    sampler: Sampler,
    stops: Stops,
    characters: Utf8Stream,
}

impl Generation<'_> {
    /// Fails when nobody wants the answer any more.
    fn check(&self) -> Result<(), Failure> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(stopping());
        }
        if self.job.events.is_closed() {
            return Err(Failure::new(Refusal::Gone, "the client left"));
        }
        Ok(())
    }

    fn forward(&mut self, tokens: &[u32], wanted: Wanted) -> Result<Vec<f32>, Failure> {
        self.check()?;
        let part = Part {
            tokens,
            cache: &mut self.cache,
            wanted,
        };
        let logits = self.loaded.decoder.forward(self.pool, &mut [part]);
        logits.map_err(|error| Failure::internal(&error))
    }

    /// Reads the prompt; returns the logits of the answer's first token.
    fn read(&mut self, prompt: &[u32]) -> Result<Vec<f32>, Failure> {
        let mut logits = Vec::new();
        for tokens in prompt.chunks(PASS_TOKENS) {
            logits = self.forward(tokens, Wanted::Last)?;
            tokens.iter().for_each(|&token| self.sampler.saw(token));
        }
        Ok(logits)
    }

    /// Generates until something ends the answer; returns its tokens and what ended it.
    fn answer(&mut self, mut logits: Vec<f32>) -> Result<(Vec<u32>, &'static str), Failure> {
        let vocabulary = self.loaded.tokenizer.vocabulary();
        let mut answer = Vec::new();
        let reason = loop {
            let token = self.sampler.choose(&mut logits).token;
            if vocabulary.ends(token) {
                break "stop";
            }
            answer.push(token);
            self.sampler.saw(token);
            let piece = self.characters.push(&self.loaded.tokenizer.bytes(token));
            let (text, ended) = self.stops.push(&piece);
            self.say(text);
            if ended {
                return Ok((answer, "stop"));
            }
            let enough = self
                .job
                .settings
                .predict
                .is_some_and(|most| answer.len() >= most);
            if enough || self.cache.left() == 0 {
                break "length";
            }
            logits = self.forward(&[token], Wanted::Last)?;
        };
        let (text, ended) = self.stops.push(&self.characters.finish());
        let rest = if ended {
            String::new()
        } else {
            self.stops.finish()
        };
        self.say(text + &rest);
        Ok((answer, reason))
    }

    /// Sends text; a client that has left is noticed before the next token.
    fn say(&self, text: String) {
        if !text.is_empty() {
            let _ = self.job.events.send(Event::Text(text));
        }
    }
}

/// The tokens that the model is to go on from.
fn prompt_tokens(loaded: &Loaded, prompt: &Prompt) -> Result<Vec<u32>, Failure> {
    let request = |text: String| Failure::new(Refusal::Request, text);
    let encode = |text: &str| {
        loaded
            .tokenizer
            .encode(text)
            .map_err(|error| request(error.to_string()))
    };
    let render = |messages: &[Message]| match &loaded.template {
        Some(template) => template
            .render(messages)
            .map_err(|error| request(format!("the chat template failed: {}", describe(&error)))),
        None => {
            // A model that was never taught turns gets the texts alone.
            let texts: Vec<_> = messages
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
            let said = |role: &str, content: &String| Message {
                role: role.to_owned(),
                content: content.clone(),
            };
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
            tokens.extend(encode(&render(&messages)?)?);
            Ok(tokens)
        }
        _ => Ok(Vec::new()),
    }
}
