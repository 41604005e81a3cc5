//! Why a model cannot be loaded or computed with.

use thiserror::Error;

use crate::gguf;

/// What can go wrong between a sound GGUF file and a vector of logits.
#[derive(Debug, Error)]
pub enum Error {
    /// The file is not sound, or its metadata is not what a model needs.
    #[error(transparent)]
    File(#[from] gguf::Error),
    /// The architecture is another one.
    #[error("the model's architecture is '{found}', allowed: {allowed}")]
    Architecture {
        /// What the file says.
        found: String,
        /// What the engine has.
        allowed: String,
    },
    /// A hyperparameter that the engine does not know how to honour.
    #[error("the model's {what} is {found}, allowed: {allowed}")]
    Unsupported {
        /// Which.
        what: String,
        /// What the file says.
        found: String,
        /// What would do.
        allowed: String,
    },
    /// A tensor that the architecture needs is not there.
    #[error("the file has no tensor '{name}'")]
    Missing {
        /// Its name.
        name: String,
    },
    /// A tensor of another shape.
    #[error("tensor '{name}' has the shape {found:?}, allowed: {allowed:?} (rows, columns)")]
    Shape {
        /// Its name.
        name: String,
        /// Rows, columns.
        found: Vec<usize>,
        /// What the metadata asks for.
        allowed: Vec<usize>,
    },
    /// A tensor's data could not be read.
    #[error("cannot read tensor '{name}'")]
    Read {
        /// Its name.
        name: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The logits are not numbers any more.
    #[error(
        "the model computed something that is no finite number; its weights are probably damaged"
    )]
    NotFinite,
    /// The weights could not be read when they were used first, or there was no memory for them.
    #[error("cannot read the model's weights")]
    Weights(#[source] std::io::Error),
    /// There is no memory for the keys and values, or for what is computed.
    #[error("there is no memory to compute in")]
    Memory(#[source] std::io::Error),
}

impl Error {
    pub(super) fn unsupported(
        what: String,
        found: impl ToString,
        allowed: impl Into<String>,
    ) -> Self {
        Self::Unsupported {
            what,
            found: found.to_string(),
            allowed: allowed.into(),
        }
    }
}
