//! Decoder models: tokens in, logits of the next token out. And encoders: a text's tokens in, its
//! vector out.
//!
//! One computation serves all architectures; what differs between them is in [`Config`], and in
//! which tensors a file has.

mod cache;
mod config;
mod decoder;
mod encoder;
mod error;
mod layer;
pub mod pooling;
mod rope;
mod weights;

pub use cache::{Cache, Page};
pub use config::{Activation, Config, Pairing};
pub use decoder::{Decoder, Part, Wanted};
pub use encoder::{Encoder, EncoderConfig};
pub use error::Error;
pub use pooling::Pooling;
use weights::multiply;
pub use weights::{Linear, Stored, Tensors, Weights, found};
