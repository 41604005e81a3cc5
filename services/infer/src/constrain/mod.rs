//! Constrained decoding: answers that are JSON, that satisfy a JSON Schema, that are one of some
//! texts, or that have such a value behind a mark.
//!
//! A schema becomes a [`Grammar`], once for a request; a vocabulary becomes [`Pieces`], once for a
//! model; a [`Constraint`] holds the two together for one answer: it takes away the tokens that may
//! not come, and follows those that come.
//!
//! What this room must never do: leave a keyword of a schema unenforced without a word, come to a
//! point from which no answer is possible, or grow without bound by what a client sends.

mod automaton;
mod calls;
mod constraint;
mod document;
mod error;
mod flat;
mod format;
mod grammar;
mod number;
mod pattern;
mod pieces;
mod schema;
mod stack;
mod text;

pub use calls::Manner;
pub use constraint::Constraint;
pub use document::Document;
pub use error::Error;
pub use grammar::Grammar;
pub use pieces::{Piece, Pieces};
