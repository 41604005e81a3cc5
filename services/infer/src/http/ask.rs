//! One question to the engine, whatever route it came by, and the answer's pieces.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use serde_json::Value;

use super::error::Refused;
use super::{Server, operator};
use crate::engine::{Event, Failure, Heard, Job, Likelihood, Prompt, Refusal, Summary};
use crate::library::Model;
use crate::options::{KeepAlive, Settings};
use crate::reading::{Part, Reader};

/// What is asked.
pub(super) struct Ask {
    pub(super) model: Model,
    pub(super) prompt: Prompt,
    pub(super) settings: Settings,
    pub(super) keep_alive: KeepAlive,
    /// Tools whose calls are looked for in the answer; None for none.
    pub(super) tools: Option<BTreeSet<String>>,
    /// Whether the answer may begin with thinking.
    pub(super) think: bool,
}

impl Ask {
    /// Puts it into the engine's queue, or asks the operator, when it is meant.
    pub(super) async fn submit(self, server: &Arc<Server>) -> Result<Answer, Refused> {
        let reader = Reader::new(self.tools, self.think);
        if operator::is_meant(server, &self.model).await? {
            return Ok(Answer {
                events: operator::answer(server, self.model, self.prompt).await?,
                reader,
                ready: VecDeque::new(),
            });
        }
        let (events, receiver) = crate::engine::events();
        server.engine.submit(Job {
            model: self.model,
            prompt: self.prompt,
            settings: self.settings,
            keep_alive: self.keep_alive,
            events,
        })?;
        Ok(Answer {
            events: receiver,
            reader,
            ready: VecDeque::new(),
        })
    }
}

/// A piece of an answer; the last is one of the last two.
#[derive(Debug)]
pub(super) enum Piece {
    Part(Part),
    Token(Likelihood),
    Vectors(Vec<Vec<f32>>),
    Done(Summary),
    Failed(Failure),
}

/// An answer as it comes. Dropped when its client leaves: with it goes the receiver, and the engine
/// sees that before its next token.
pub(super) struct Answer {
    events: Heard,
    reader: Reader,
    ready: VecDeque<Piece>,
}

impl Answer {
    /// Waits for the beginning. A failure before it has a status of its own.
    pub(super) async fn begun(mut self) -> Result<Self, Refused> {
        match self.next().await {
            Piece::Failed(failure) => Err(failure.into()),
            piece => {
                self.ready.push_front(piece);
                Ok(self)
            }
        }
    }

    /// The next piece.
    pub(super) async fn next(&mut self) -> Piece {
        loop {
            if let Some(piece) = self.ready.pop_front() {
                return piece;
            }
            let lost = || Failure::new(Refusal::Internal, "the engine ended before the answer did");
            let event = self.events.recv().await;
            let parts = match event.unwrap_or_else(|| Event::Failed(lost())) {
                Event::Text(text) => self.reader.push(&text),
                Event::Token(token) => return Piece::Token(token),
                Event::Vectors(vectors) => return Piece::Vectors(vectors),
                Event::Failed(failure) => return Piece::Failed(failure),
                Event::Done(summary) => {
                    let rest = self.reader.finish();
                    self.ready.extend(rest.into_iter().map(Piece::Part));
                    self.ready.push_back(Piece::Done(summary));
                    continue;
                }
            };
            self.ready.extend(parts.into_iter().map(Piece::Part));
        }
    }
}

/// The names of tools as OpenAI's API and Ollama's write them.
pub(super) fn tool_names(tools: &[Value]) -> Result<Option<BTreeSet<String>>, Refused> {
    let mut names = BTreeSet::new();
    for (place, tool) in tools.iter().enumerate() {
        let kind = tool.get("type").and_then(Value::as_str);
        if kind.is_some_and(|kind| kind != "function") {
            let kind = kind.unwrap_or_default();
            return Err(Refused::bad(format!(
                "tools[{place}].type is {kind:?}, allowed: \"function\""
            )));
        }
        let name = tool.pointer("/function/name").and_then(Value::as_str);
        let Some(name) = name.filter(|name| !name.is_empty()) else {
            return Err(Refused::bad(format!(
                "tools[{place}].function.name is missing, allowed: a text"
            )));
        };
        names.insert(name.to_owned());
    }
    Ok((!names.is_empty()).then_some(names))
}
