//! What a model's text means: its thinking, its answer, and the calls of tools in it.
//!
//! Models write calls in the ways that they were taught; those of Hermes and Qwen
//! (`<tool_call>{…}</tool_call>`), Mistral (`[TOOL_CALLS][…]`, `[TOOL_CALLS]name[ARGS]{…}`), Llama 3
//! (`{"name": …, "parameters": …}` and nothing else) and bare JSON are known. Text is let through
//! as soon as it can be nothing else; what looked like a call and was none comes out as text.

mod calls;
#[cfg(test)]
mod tests;

pub use calls::Call;

use std::collections::BTreeSet;

const THINK: &str = "<think>";
const THINK_END: &str = "</think>";
const CALL: &str = "<tool_call>";
const CALL_END: &str = "</tool_call>";
const CALLS: &str = "[TOOL_CALLS]";

/// A piece of an answer.
#[derive(Debug, Clone, PartialEq)]
pub enum Part {
    /// What the model said to itself.
    Thinking(String),
    /// What it says.
    Text(String),
    /// A tool that it wants called.
    Call(Call),
}

enum State {
    /// Nothing but white space has come.
    Begin,
    Thinking,
    Text,
    /// Between a call's marks.
    Marked,
    /// JSON without marks, which is a call only if it names a tool.
    Bare(calls::Scan),
}

/// Reads one answer.
pub struct Reader {
    tools: Option<BTreeSet<String>>,
    think: bool,
    state: State,
    held: String,
    /// White space that comes next stands between thinking, calls and text, and is nobody's.
    trim: bool,
    parts: Vec<Part>,
}

impl Reader {
    /// A reader of an answer to a request that named `tools` (None: none) and whose model may think.
    #[must_use]
    pub fn new(tools: Option<BTreeSet<String>>, think: bool) -> Self {
        let plain = tools.is_none() && !think;
        Self {
            tools,
            think,
            state: if plain { State::Text } else { State::Begin },
            held: String::new(),
            trim: false,
            parts: Vec::new(),
        }
    }

    /// Takes a piece; returns what is certain by now.
    pub fn push(&mut self, piece: &str) -> Vec<Part> {
        self.held.push_str(piece);
        while self.step() {}
        std::mem::take(&mut self.parts)
    }

    /// The answer's end: what was held back.
    pub fn finish(&mut self) -> Vec<Part> {
        let held = std::mem::take(&mut self.held);
        match std::mem::replace(&mut self.state, State::Text) {
            State::Thinking => self.say(held, true),
            State::Begin | State::Text => self.say(held, false),
            State::Marked | State::Bare(_) => match self.calls(&held) {
                Some(calls) => self.parts.extend(calls.into_iter().map(Part::Call)),
                None => self.say(held, false),
            },
        }
        std::mem::take(&mut self.parts)
    }

    fn calls(&self, text: &str) -> Option<Vec<Call>> {
        calls::read(text, self.tools.as_ref()?)
    }

    fn say(&mut self, text: String, thinking: bool) {
        if !text.is_empty() {
            self.parts.push(match thinking {
                true => Part::Thinking(text),
                false => Part::Text(text),
            });
        }
    }

    /// Goes one state on; false when more text is needed.
    fn step(&mut self) -> bool {
        match &mut self.state {
            State::Begin => self.begin(),
            State::Thinking => self.until(THINK_END, true),
            State::Text => self.text(),
            State::Marked => self.marked(),
            State::Bare(scan) => match scan.advance(&self.held) {
                None => false,
                // One value is whole. Calls may follow each other; anything else is text.
                Some(end) => {
                    let rest = &self.held[end..];
                    let whole = self.held[..end].to_owned();
                    match self.calls(&whole) {
                        Some(calls) => {
                            self.parts.extend(calls.into_iter().map(Part::Call));
                            self.held = rest.to_owned();
                            self.trim = true;
                            self.state = State::Begin;
                        }
                        None => self.state = State::Text,
                    }
                    true
                }
            },
        }
    }

    fn begin(&mut self) -> bool {
        if self.trim {
            let between = |letter: char| letter.is_whitespace() || letter == ';';
            self.held = self.held.trim_start_matches(between).to_owned();
        }
        let start = self.held.trim_start();
        let Some(first) = start.chars().next() else {
            return false;
        };
        let may_be = |mark: &str| mark.starts_with(start);
        if self.think && start.starts_with(THINK) {
            self.held = start[THINK.len()..].to_owned();
            self.trim = true;
            self.state = State::Thinking;
            return true;
        }
        if self.think && may_be(THINK) {
            return false;
        }
        if self.tools.is_some() {
            if !start.starts_with(CALLS) && may_be(CALLS) {
                return false;
            }
            if matches!(first, '{' | '[') && !start.starts_with(CALLS) {
                self.held = start.to_owned();
                self.state = State::Bare(calls::Scan::default());
                return true;
            }
        }
        self.state = State::Text;
        true
    }

    /// Lets text through up to `mark`, after which the answer begins.
    fn until(&mut self, mark: &str, thinking: bool) -> bool {
        if self.trim {
            self.held = self.held.trim_start().to_owned();
            self.trim = self.held.is_empty();
        }
        match self.held.find(mark) {
            Some(place) => {
                let said = self.held[..place].trim_end().to_owned();
                self.held = self.held[place + mark.len()..].to_owned();
                self.say(said, thinking);
                self.trim = true;
                self.state = State::Begin;
                true
            }
            None => {
                self.release(&[mark], thinking);
                false
            }
        }
    }

    fn text(&mut self) -> bool {
        if self.tools.is_none() {
            let held = std::mem::take(&mut self.held);
            self.say(held, false);
            return false;
        }
        let found = [CALL, CALLS]
            .iter()
            .filter_map(|mark| Some((self.held.find(mark)?, *mark)))
            .min();
        match found {
            Some((place, mark)) => {
                let said = self.held[..place].trim_end().to_owned();
                self.held = self.held[place..].to_owned();
                self.say(said, false);
                self.state = State::Marked;
                // Only Hermes' calls have an end; Mistral's go on to the end of the answer.
                mark == CALL
            }
            None => {
                self.release(&[CALL, CALLS], false);
                false
            }
        }
    }

    fn marked(&mut self) -> bool {
        let Some(inner) = self.held.strip_prefix(CALL) else {
            return false;
        };
        let Some(place) = inner.find(CALL_END) else {
            return false;
        };
        let rest = inner[place + CALL_END.len()..].trim_start().to_owned();
        let whole = self.held[..self.held.len() - inner.len() + place + CALL_END.len()].to_owned();
        match self.calls(&whole) {
            Some(calls) => self.parts.extend(calls.into_iter().map(Part::Call)),
            None => self.say(whole, false),
        }
        self.held = rest;
        self.trim = true;
        self.state = State::Begin;
        true
    }

    /// Lets out all but what may become one of the marks, and white space that may stand before it.
    fn release(&mut self, marks: &[&str], thinking: bool) {
        let keep = marks.iter().map(|mark| overlap(&self.held, mark)).max();
        let sure = &self.held[..self.held.len() - keep.unwrap_or(0)];
        let rest = self.held.split_off(sure.trim_end().len());
        let said = std::mem::replace(&mut self.held, rest);
        self.say(said, thinking);
    }
}

/// Length of the longest end of `text` that `mark` begins with.
fn overlap(text: &str, mark: &str) -> usize {
    let most = mark.len().min(text.len());
    (1..=most)
        .rev()
        .find(|&length| text.ends_with(&mark[..length]))
        .unwrap_or(0)
}
