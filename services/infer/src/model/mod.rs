//! Decoder models: tokens in, logits of the next token out.
//!
//! One computation serves all architectures; what differs between them is in [`Config`], and in
//! which tensors a file has.

mod cache;
mod config;
mod decoder;
mod error;
mod layer;
mod rope;
mod weights;

pub use cache::{Cache, Page};
pub use config::{Activation, Config, Pairing};
pub use decoder::{Decoder, Part, Wanted};
pub use error::Error;
pub use weights::{Linear, Stored, Tensors, Weights};
