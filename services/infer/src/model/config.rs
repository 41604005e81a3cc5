//! A model's hyperparameters, taken from the metadata and checked against each other.

use super::Error;
use crate::gguf::{Metadata, required};

/// The architectures that the engine has.
const ARCHITECTURES: &str = "llama";

/// Bounds on single dimensions: eight times what the largest open model has. Products of a few
/// of them stay far below 2^64.
const MAX_DIMENSION: usize = 1 << 20;

/// What a Llama model is made of.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Width of the residual stream.
    pub embedding: usize,
    /// Count of layers.
    pub layers: usize,
    /// Width inside the feed-forward part.
    pub feed_forward: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; each serves `heads / kv_heads` query heads.
    pub kv_heads: usize,
    /// Width of one head.
    pub head_width: usize,
    /// Longest context the model was made for, in tokens.
    pub context: usize,
    /// Keeps the norm from dividing by zero.
    pub norm_epsilon: f32,
    /// Base of the rotary frequencies.
    pub rope_base: f64,
    /// Divides positions (linear scaling); 1 leaves them.
    pub rope_scale: f64,
}

impl Config {
    /// Reads the hyperparameters.
    ///
    /// # Errors
    /// When the architecture is another one, or a value is missing, absurd or not supported.
    pub fn read(metadata: &Metadata) -> Result<Self, Error> {
        let architecture = "general.architecture";
        let found = required(architecture, metadata.text(architecture)?)?;
        if found != "llama" {
            return Err(Error::Architecture {
                found: found.to_owned(),
                allowed: ARCHITECTURES,
            });
        }
        if metadata.number("llama.expert_count")?.unwrap_or(0) > 0 {
            return Err(unsupported(
                "llama.expert_count",
                "above 0",
                "0 (no mixture of experts)",
            ));
        }
        let embedding = dimension(metadata, "llama.embedding_length")?;
        let heads = dimension(metadata, "llama.attention.head_count")?;
        let kv_heads = match metadata.get("llama.attention.head_count_kv") {
            None => heads,
            Some(_) => dimension(metadata, "llama.attention.head_count_kv")?,
        };
        if heads % kv_heads != 0 {
            return Err(unsupported(
                "llama.attention.head_count_kv",
                kv_heads,
                format!("a divisor of the {heads} heads"),
            ));
        }
        let head_width = match metadata.number("llama.attention.key_length")? {
            Some(_) => dimension(metadata, "llama.attention.key_length")?,
            None if embedding % heads == 0 => embedding / heads,
            None => {
                let allowed = format!("a divisor of the embedding length {embedding}");
                return Err(unsupported("llama.attention.head_count", heads, allowed));
            }
        };
        for key in ["llama.attention.value_length", "llama.rope.dimension_count"] {
            let found = metadata.number(key)?.unwrap_or(head_width);
            if found != head_width || head_width % 2 != 0 {
                let allowed = format!("the head's width {head_width}, which must be even");
                return Err(unsupported(key, found, allowed));
            }
        }
        let epsilon = "llama.attention.layer_norm_rms_epsilon";
        let norm_epsilon = required(epsilon, metadata.float(epsilon)?)?;
        if !(0.0..1.0).contains(&norm_epsilon) {
            return Err(unsupported(epsilon, norm_epsilon, "from 0 to 1"));
        }
        let rope_base = metadata.float("llama.rope.freq_base")?.unwrap_or(10000.0);
        if rope_base <= 1.0 {
            return Err(unsupported(
                "llama.rope.freq_base",
                rope_base,
                "more than 1",
            ));
        }
        Ok(Self {
            embedding,
            layers: dimension(metadata, "llama.block_count")?,
            feed_forward: dimension(metadata, "llama.feed_forward_length")?,
            heads,
            kv_heads,
            head_width,
            context: dimension_below(metadata, "llama.context_length", usize::MAX)?,
            norm_epsilon: norm_epsilon as f32,
            rope_base,
            rope_scale: rope_scale(metadata)?,
        })
    }

    /// Width of all key heads together.
    #[must_use]
    pub fn kv_width(&self) -> usize {
        self.kv_heads * self.head_width
    }

    /// Bytes of keys and values that `tokens` tokens take in the cache.
    #[must_use]
    pub fn cache_bytes(&self, tokens: usize) -> u64 {
        (self.layers * 2 * self.kv_width() * size_of::<f32>()) as u64 * tokens as u64
    }
}

fn unsupported(what: &'static str, found: impl ToString, allowed: impl Into<String>) -> Error {
    Error::Unsupported {
        what,
        found: found.to_string(),
        allowed: allowed.into(),
    }
}

fn dimension(metadata: &Metadata, key: &'static str) -> Result<usize, Error> {
    dimension_below(metadata, key, MAX_DIMENSION)
}

fn dimension_below(metadata: &Metadata, key: &'static str, limit: usize) -> Result<usize, Error> {
    let found = required(key, metadata.number(key)?)?;
    if found == 0 || found > limit {
        return Err(unsupported(key, found, format!("1 to {limit}")));
    }
    Ok(found)
}

fn rope_scale(metadata: &Metadata) -> Result<f64, Error> {
    let key = "llama.rope.scaling.type";
    let kind = metadata.text(key)?.unwrap_or("none");
    let factor = match metadata.float("llama.rope.scaling.factor")? {
        Some(factor) => Some(factor),
        // The name before 2024.
        None => metadata.float("llama.rope.scale_linear")?,
    };
    match (kind, factor) {
        // Files of Llama 3.1 carry their scaling as a tensor instead (`rope_freqs.weight`).
        ("none", None) => Ok(1.0),
        ("none" | "linear", Some(factor)) if factor > 0.0 => {
            Ok(if kind == "linear" || metadata.get(key).is_none() {
                factor
            } else {
                1.0
            })
        }
        ("none" | "linear", Some(factor)) => Err(unsupported(
            "llama.rope.scaling.factor",
            factor,
            "more than 0",
        )),
        ("linear", None) => Ok(1.0),
        (other, _) => Err(unsupported(key, other, "none, linear")),
    }
}
