//! The Llama architecture in candle's operations.

mod attention;
mod cache;
mod config;
mod error;
mod feed_forward;
mod llama;
mod rope;
mod weights;

pub use cache::Cache;
pub use config::Config;
pub use error::Error;
pub use llama::Llama;
pub use weights::{Weights, loaded_bytes};
