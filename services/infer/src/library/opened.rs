//! A model's files, opened and checked as far as their headers.

use std::fs::File;
use std::sync::Arc;

use thiserror::Error;

use crate::gguf::{self, Metadata};
use crate::model::{self, Config, Stored, Tensors, Weights};
use crate::safetensors::{self, Package};
use crate::tokenizer::{self, Tokenizer};

/// Why a model's tokenizer cannot be used.
#[derive(Debug, Error)]
pub enum TokenizerError {
    /// That of a GGUF file.
    #[error(transparent)]
    Gguf(#[from] tokenizer::Error),
    /// That of a package.
    #[error(transparent)]
    Package(#[from] safetensors::Error),
}

/// A model as it is stored: one file, or a package of several.
pub enum Opened {
    /// A GGUF file and its header.
    Gguf(Arc<File>, gguf::File),
    /// Hugging Face's files.
    Package(Box<Package>),
}

impl Opened {
    /// What it says of itself, under GGUF's keys.
    #[must_use]
    pub fn metadata(&self) -> &Metadata {
        match self {
            Self::Gguf(_, header) => &header.metadata,
            Self::Package(package) => package.metadata(),
        }
    }

    /// The format's name.
    #[must_use]
    pub fn format(&self) -> &'static str {
        match self {
            Self::Gguf(..) => "gguf",
            Self::Package(_) => "safetensors",
        }
    }

    /// Name, type, count of numbers and bytes of each tensor.
    #[must_use]
    pub fn tensors(&self) -> Vec<(&str, &str, u64, u64)> {
        match self {
            Self::Gguf(_, header) => {
                let tensors = header.tensors.iter();
                tensors
                    .map(|(name, one)| (name.as_str(), one.kind.name(), one.elements(), one.bytes))
                    .collect()
            }
            Self::Package(package) => package
                .tensors()
                .map(|(name, one)| (name, one.dtype.as_str(), one.elements(), one.bytes))
                .collect(),
        }
    }

    /// Count of numbers in all tensors.
    #[must_use]
    pub fn parameters(&self) -> u64 {
        let tensors = self.tensors();
        tensors.iter().map(|(_, _, count, _)| count).sum()
    }

    /// Its tokenizer.
    ///
    /// # Errors
    /// When it is damaged, or of a kind that the engine does not have.
    pub fn tokenizer(&self) -> Result<Tokenizer, TokenizerError> {
        Ok(match self {
            Self::Gguf(_, header) => Tokenizer::read(&header.metadata)?,
            Self::Package(package) => package.tokenizer()?,
        })
    }

    /// A decoder's hyperparameters.
    ///
    /// # Errors
    /// When it is no decoder, or one that the engine does not have.
    pub fn decoder(&self) -> Result<Config, model::Error> {
        let config = Config::read(self.metadata())?;
        Ok(match self {
            Self::Gguf(..) => config,
            Self::Package(_) => config.with_halves(),
        })
    }
}

impl Tensors for Opened {
    fn find(&self, name: &str) -> Option<Stored> {
        match self {
            Self::Gguf(file, header) => Weights::new(header, file.clone()).find(name),
            Self::Package(package) => package.find(name),
        }
    }

    fn has(&self, name: &str) -> bool {
        match self {
            Self::Gguf(_, header) => header.tensors.contains_key(name),
            Self::Package(package) => package.has(name),
        }
    }

    fn vector(&self, name: &str, length: usize) -> Result<Vec<f32>, model::Error> {
        match self {
            Self::Gguf(..) => self.stored_vector(name, length),
            Self::Package(package) => package.vector(name, length),
        }
    }

    fn shaped(&self, name: &str, shape: &[usize]) -> Result<Stored, model::Error> {
        match self {
            Self::Gguf(..) => model::found(self.find(name), name, shape),
            Self::Package(package) => package.shaped(name, shape),
        }
    }
}
