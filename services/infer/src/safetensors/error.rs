//! What can be wrong with a package. Each message says which file, what was found, what is allowed.

use thiserror::Error;

use crate::tokenizer;

/// A package that is damaged, incomplete, or of a model that the engine does not have.
#[derive(Debug, Error)]
pub enum Error {
    /// A file could not be read.
    #[error("{file} cannot be read: {source}")]
    Read {
        /// Its name in the package.
        file: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file that must be there.
    #[error("the model has no file '{file}'")]
    NoFile {
        /// Its name in the package.
        file: String,
    },
    /// A file that is not JSON.
    #[error("{file} is not valid JSON: {source}")]
    Json {
        /// Its name in the package.
        file: String,
        /// What was wrong.
        source: serde_json::Error,
    },
    /// More of something than any sane model has, or what does not fit together.
    #[error("{file}: {what} is {found}, allowed: {allowed}")]
    Invalid {
        /// Its name in the package.
        file: String,
        /// What is wrong.
        what: String,
        /// What was found.
        found: String,
        /// What is allowed.
        allowed: String,
    },
    /// A tokenizer that cannot be used.
    #[error("{file}: {source}")]
    Tokenizer {
        /// Its name in the package.
        file: String,
        /// Why.
        source: tokenizer::Error,
    },
    /// A tensor that does not lie where it says.
    #[error("{file}: tensor '{name}': {problem}")]
    Tensor {
        /// Its file.
        file: String,
        /// Its name.
        name: String,
        /// What is wrong with it.
        problem: String,
    },
}

impl Error {
    pub(super) fn invalid(
        file: &str,
        what: impl Into<String>,
        found: impl ToString,
        allowed: impl Into<String>,
    ) -> Self {
        Self::Invalid {
            file: file.to_owned(),
            what: what.into(),
            found: found.to_string(),
            allowed: allowed.into(),
        }
    }
}
