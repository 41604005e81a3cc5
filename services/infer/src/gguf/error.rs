//! What can be wrong with a GGUF file. Each message says where, what was found, what is allowed.

use thiserror::Error;

/// A damaged, truncated or foreign file. Offsets count bytes from the file's start.
#[derive(Debug, Error)]
pub enum Error {
    /// The file could not be read at all.
    #[error("cannot read at offset {offset}")]
    Read {
        /// Where the read began.
        offset: u64,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file ends inside something.
    #[error(
        "the file is truncated: {what} at offset {offset} needs {needed} bytes, the file has {left} left"
    )]
    Truncated {
        /// What was being read.
        what: String,
        /// Where it begins.
        offset: u64,
        /// How long it says it is.
        needed: u64,
        /// How much of the file is left there.
        left: u64,
    },
    /// Not GGUF at all.
    #[error("this is not a GGUF file: it begins with {found}, allowed: \"GGUF\"")]
    Magic {
        /// The first four bytes, escaped.
        found: String,
    },
    /// Another byte order or version.
    #[error("GGUF version {found}{hint} is not supported, allowed: 2, 3")]
    Version {
        /// The version found.
        found: u32,
        /// Why it may look odd.
        hint: &'static str,
    },
    /// More of something than any sane model has.
    #[error("{what} at offset {offset} is {found}, allowed: at most {limit}")]
    Limit {
        /// What is too large.
        what: String,
        /// Where it was found.
        offset: u64,
        /// The number found.
        found: u64,
        /// The largest allowed.
        limit: u64,
    },
    /// A value that the format does not have.
    #[error("{what} at offset {offset} is {found}, allowed: {allowed}")]
    Invalid {
        /// What is wrong.
        what: String,
        /// Where it was found.
        offset: u64,
        /// What was found.
        found: String,
        /// What is allowed.
        allowed: String,
    },
    /// A tensor that lies outside the file, or on another one.
    #[error("tensor '{name}': {problem}")]
    Tensor {
        /// The tensor's name.
        name: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A metadata key that the model needs is not there.
    #[error("the metadata has no '{key}'")]
    Missing {
        /// The key.
        key: String,
    },
    /// A metadata key holds something else than it should.
    #[error("the metadata's '{key}' is {found}, allowed: {allowed}")]
    Metadata {
        /// The key.
        key: String,
        /// What was found.
        found: String,
        /// What is allowed.
        allowed: String,
    },
}
