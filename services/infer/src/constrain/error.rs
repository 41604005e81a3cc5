//! Why a schema cannot constrain an answer.

use thiserror::Error;

/// A schema that is wrong, asks for what there is not, or is too large. `path` is a JSON pointer
/// into the schema (`#` is the whole).
#[derive(Debug, Clone, PartialEq, Error)]
pub enum Error {
    /// A keyword that is not enforced. It is refused, because an answer that ignores it would look
    /// as if it kept it.
    #[error("schema {path}: the keyword {keyword:?} is not supported")]
    Unsupported {
        /// Where.
        path: String,
        /// Which.
        keyword: String,
    },
    /// A keyword's value that is not as JSON Schema has it, or beyond what is handled.
    #[error("schema {path}: {keyword} is {found}, allowed: {allowed}")]
    Value {
        /// Where.
        path: String,
        /// Which keyword.
        keyword: String,
        /// Its value.
        found: String,
        /// What it may be.
        allowed: String,
    },
    /// References that lead to themselves without anything in between.
    #[error("schema {path}: it refers to itself, or is nested more than {allowed} deep")]
    Endless {
        /// Where.
        path: String,
        /// Deepest nesting of references and combinations.
        allowed: usize,
    },
    /// Something grows beyond its bound.
    #[error("schema {path}: it needs more than {allowed} {what}")]
    TooLarge {
        /// Where.
        path: String,
        /// Of what.
        what: &'static str,
        /// The bound.
        allowed: usize,
    },
    /// No finite value has what the schema asks for.
    #[error("schema #: no value can satisfy it")]
    Impossible,
}

impl Error {
    /// The same in a schema that has a name.
    pub(super) fn within(mut self, name: &str) -> Self {
        match &mut self {
            Self::Unsupported { path, .. }
            | Self::Value { path, .. }
            | Self::Endless { path, .. }
            | Self::TooLarge { path, .. } => path.insert_str(0, name),
            Self::Impossible => {}
        }
        self
    }
}
