//! Why a vocabulary or a text cannot be used.

use thiserror::Error;

use crate::gguf;

/// What can go wrong between text and tokens.
#[derive(Debug, Error)]
pub enum Error {
    /// A metadata key is missing or of another type.
    #[error(transparent)]
    Metadata(#[from] gguf::Error),
    /// The tokenizer is of a family that the engine does not have.
    #[error("the tokenizer's family ('tokenizer.ggml.model') is '{found}', allowed: {allowed}")]
    Family {
        /// What the file says.
        found: String,
        /// What the engine has.
        allowed: &'static str,
    },
    /// The text is split by rules that the engine does not have.
    #[error("the tokenizer's splitting ('tokenizer.ggml.pre') is '{found}', allowed: {allowed}")]
    Splitting {
        /// What the file says.
        found: String,
        /// What the engine has.
        allowed: String,
    },
    /// Lists of different lengths.
    #[error("'{key}' has {found} entries, allowed: {allowed}, one for each token")]
    Count {
        /// Which list.
        key: &'static str,
        /// Its length.
        found: usize,
        /// The vocabulary's length.
        allowed: usize,
    },
    /// One entry of a list is not what it must be.
    #[error("entry {place} of '{key}' is {found}, allowed: {allowed}")]
    Entry {
        /// Which list.
        key: &'static str,
        /// Which entry.
        place: usize,
        /// What it is.
        found: String,
        /// What it could be.
        allowed: String,
    },
    /// More special tokens than any real vocabulary has.
    #[error("the special tokens have {found} bytes together, allowed: at most {allowed}")]
    Special {
        /// How many.
        found: usize,
        /// The limit.
        allowed: usize,
    },
    /// A `tokenizer.json` that is none.
    #[error("it is no tokenizer: {0}")]
    Json(#[from] serde_json::Error),
    /// A part of it that the engine does not have.
    #[error("'{what}' is {found}, allowed: {allowed}")]
    Part {
        /// Which.
        what: String,
        /// What the file says.
        found: String,
        /// What would do.
        allowed: String,
    },
    /// The splitting pattern failed.
    #[error("the text cannot be split into words: {0}")]
    Split(Box<fancy_regex::Error>),
}

impl Error {
    pub(super) fn split(error: fancy_regex::Error) -> Self {
        Self::Split(Box::new(error))
    }
}
