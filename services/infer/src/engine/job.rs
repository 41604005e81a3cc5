//! What is asked of the engine, and what it answers.

use std::time::Duration;

use super::Events;
use crate::library::Model;
use crate::options::{KeepAlive, Settings};
use crate::template::Conversation;

/// One request.
pub struct Job {
    /// The model wanted.
    pub model: Model,
    /// What is asked.
    pub prompt: Prompt,
    /// How to answer.
    pub settings: Settings,
    /// How long to keep the model afterwards.
    pub keep_alive: KeepAlive,
    /// Where the answer goes.
    pub events: Events,
}

/// What is asked of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Prompt {
    /// To be there.
    Load,
    /// To be gone.
    Unload,
    /// An answer to a conversation, by the model's template.
    Messages(Conversation),
    /// One text to answer to, by the model's template if it has one.
    Question {
        /// What the model is told before.
        system: Option<String>,
        /// The text.
        text: String,
        /// Tokens of an earlier question and its answer.
        before: Vec<u32>,
    },
    /// A text to go on with, as it is.
    Raw(String),
    /// What texts mean, as vectors.
    Embed(Embedding),
    /// Fails as badly as a job can.
    #[cfg(test)]
    Panic,
}

/// Texts whose vectors are wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Embedding {
    /// The texts.
    pub texts: Vec<String>,
    /// Whether a text beyond the context is cut rather than refused.
    pub truncate: bool,
    /// Only so many of a vector's first numbers, for models that were taught so.
    pub dimensions: Option<usize>,
}

/// A token as it was chosen.
#[derive(Debug, Clone, PartialEq)]
pub struct Likelihood {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// The logarithm of its probability.
    pub logprob: f32,
    /// The likeliest tokens in its place, best first.
    pub top: Vec<(Vec<u8>, f32)>,
}

/// What happens to a job, in order: texts (or vectors), then one of the others.
#[derive(Debug)]
pub enum Event {
    /// A piece of the answer.
    Text(String),
    /// How likely the next token was, for jobs that ask; before its text.
    Token(Likelihood),
    /// One vector for each text, of length 1.
    Vectors(Vec<Vec<f32>>),
    /// The end.
    Done(Summary),
    /// The end, but not a good one.
    Failed(Failure),
}

/// What a job took.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// `stop`, `length`, `load` or `unload`.
    pub reason: &'static str,
    /// From the job's start to its end.
    pub total: Duration,
    /// Of that, loading the model.
    pub load: Duration,
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Time to read the prompt.
    pub prompt: Duration,
    /// Tokens generated.
    pub answer_tokens: usize,
    /// Time to generate.
    pub answer: Duration,
    /// All tokens, to go on from.
    pub context: Vec<u32>,
}

impl Summary {
    /// Of a job that computed nothing.
    #[must_use]
    pub fn empty(reason: &'static str) -> Self {
        Self {
            reason,
            total: Duration::ZERO,
            load: Duration::ZERO,
            prompt_tokens: 0,
            prompt: Duration::ZERO,
            answer_tokens: 0,
            answer: Duration::ZERO,
            context: Vec::new(),
        }
    }
}

/// Whose fault a failure is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The request asks for what cannot be.
    Request,
    /// The prompt does not fit the context.
    TooLong,
    /// The queue is full, or the engine has ended.
    Busy,
    /// The service is being stopped.
    Stopping,
    /// The client has left.
    Gone,
    /// The model, the memory or the engine.
    Internal,
}

/// Why there is no answer, or no more of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Whose fault it is.
    pub refusal: Refusal,
    /// In words.
    pub text: String,
}

impl Failure {
    /// A failure in words.
    #[must_use]
    pub fn new(refusal: Refusal, text: impl Into<String>) -> Self {
        Self {
            refusal,
            text: text.into(),
        }
    }

    /// One that is not the client's fault, with all its causes.
    #[must_use]
    pub fn internal(error: &dyn std::error::Error) -> Self {
        let mut text = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            let more = error.to_string();
            // Some errors repeat their source in their own words.
            if !text.contains(&more) {
                text = format!("{text}: {more}");
            }
            cause = error.source();
        }
        Self::new(Refusal::Internal, text)
    }
}
