//! Models as Hugging Face stores them: `config.json`, `tokenizer.json` and `*.safetensors`.
//!
//! [`header`] reads the places of a file's tensors, [`config`] says the hyperparameters in GGUF's
//! terms, [`names`] the tensors' names. A [`Package`] puts them together, so that the rest of the
//! engine knows one kind of model. What this room must never do: trust a number of a file before it
//! is checked against the file's length, or guess at what a configuration asks for.

mod config;
mod error;
mod header;
mod json;
mod names;
mod package;

pub use error::Error;
pub use header::{Header, Tensor};
pub use package::{Files, Package, belongs};
