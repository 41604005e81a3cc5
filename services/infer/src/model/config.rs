//! A model's hyperparameters, taken from the metadata and checked against each other.

use super::Error;
use crate::gguf::{Metadata, required};
use crate::kernels::{Keep, PAGE};

/// The architectures that the engine has, as GGUF names them.
const ARCHITECTURES: [&str; 8] = [
    "llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3", "phi3",
];

/// Bounds on single dimensions: eight times what the largest open model has. Products of a few
/// of them stay far below 2^64.
const MAX_DIMENSION: usize = 1 << 20;

/// What stands in the gate of the feed-forward part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// x · sigmoid(x).
    Silu,
    /// Gauss' error unit by its tangent's approximation.
    Gelu,
}

/// Which numbers of a head are turned together by a position's angle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pairing {
    /// Neighbours.
    Neighbours,
    /// One of the first half with one of the second.
    Halves,
}

/// What a decoder is made of.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// As GGUF names it.
    pub architecture: String,
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
    /// Numbers of a head that positions turn.
    pub rope_width: usize,
    /// Longest context the model was made for, in tokens.
    pub context: usize,
    /// Keeps the norm from dividing by zero.
    pub norm_epsilon: f32,
    /// Base of the rotary frequencies.
    pub rope_base: f64,
    /// Base in layers that see only a window, where it is another (Gemma 3).
    pub rope_base_local: Option<f64>,
    /// Divides positions (linear scaling); 1 leaves them.
    pub rope_scale: f64,
    /// Longest context before the positions were stretched (Phi 3), if they are.
    pub rope_original: Option<usize>,
    /// Which numbers are turned together.
    pub pairing: Pairing,
    /// The gate of the feed-forward part.
    pub activation: Activation,
    /// Embeddings are multiplied by it.
    pub embedding_scale: f32,
    /// Scores of attention are multiplied by it.
    pub attention_scale: f32,
    /// Attention's scores are bent to stay below it.
    pub attention_cap: Option<f32>,
    /// Logits are bent to stay below it.
    pub logit_cap: Option<f32>,
    /// Tokens that a token sees in layers with a window.
    pub window: Option<usize>,
    /// Of so many layers the last sees everything; 0: all layers have the window.
    pub window_period: usize,
}

impl Config {
    /// Reads the hyperparameters.
    ///
    /// # Errors
    /// When the architecture is another one, or a value is missing, absurd or not supported.
    pub fn read(metadata: &Metadata) -> Result<Self, Error> {
        let key = "general.architecture";
        let architecture = required(key, metadata.text(key)?)?.to_owned();
        if !ARCHITECTURES.contains(&architecture.as_str()) {
            return Err(Error::Architecture {
                found: architecture,
                allowed: ARCHITECTURES.join(", "),
            });
        }
        let keys = Keys {
            metadata,
            architecture: &architecture,
        };
        if keys.number("expert_count")?.unwrap_or(0) > 0 {
            let what = keys.name("expert_count");
            return Err(Error::unsupported(
                what,
                "above 0",
                "0 (no mixture of experts)",
            ));
        }
        let gemma = architecture.starts_with("gemma");
        let embedding = keys.dimension("embedding_length")?;
        let heads = keys.dimension("attention.head_count")?;
        let kv_heads = match metadata.get(&keys.name("attention.head_count_kv")) {
            None => heads,
            Some(_) => keys.dimension("attention.head_count_kv")?,
        };
        if heads % kv_heads != 0 {
            return Err(Error::unsupported(
                keys.name("attention.head_count_kv"),
                kv_heads,
                format!("a divisor of the {heads} heads"),
            ));
        }
        let head_width = match keys.number("attention.key_length")? {
            Some(_) => keys.dimension("attention.key_length")?,
            None if embedding % heads == 0 => embedding / heads,
            None => {
                let allowed = format!("a divisor of the embedding length {embedding}");
                return Err(Error::unsupported(
                    keys.name("attention.head_count"),
                    heads,
                    allowed,
                ));
            }
        };
        let values = keys.number("attention.value_length")?.unwrap_or(head_width);
        if values != head_width || head_width % 8 != 0 {
            let allowed = format!("the keys' width {head_width}, which must be a multiple of 8");
            return Err(Error::unsupported(
                keys.name("attention.value_length"),
                values,
                allowed,
            ));
        }
        let rope_width = keys.number("rope.dimension_count")?.unwrap_or(head_width);
        if rope_width == 0 || rope_width > head_width || rope_width % 2 != 0 {
            let allowed = format!("an even number up to the head's width {head_width}");
            return Err(Error::unsupported(
                keys.name("rope.dimension_count"),
                rope_width,
                allowed,
            ));
        }
        let epsilon = keys.name("attention.layer_norm_rms_epsilon");
        let norm_epsilon = required(&epsilon, metadata.float(&epsilon)?)?;
        if !(0.0..1.0).contains(&norm_epsilon) {
            return Err(Error::unsupported(epsilon, norm_epsilon, "from 0 to 1"));
        }
        let rope_base = keys.float("rope.freq_base")?.unwrap_or(10000.0);
        if rope_base <= 1.0 {
            return Err(Error::unsupported(
                keys.name("rope.freq_base"),
                rope_base,
                "more than 1",
            ));
        }
        let layers = keys.dimension("block_count")?;
        let cap = |key, usual| -> Result<Option<f32>, Error> {
            if architecture != "gemma2" {
                return Ok(None);
            }
            let found = keys.float(key)?.unwrap_or(usual);
            if found > 0.0 {
                Ok(Some(found as f32))
            } else {
                Err(Error::unsupported(keys.name(key), found, "more than 0"))
            }
        };
        // Of Gemma 2's largest, heads are narrower than embedding / heads, and scores are scaled by
        // the latter.
        let scaled_width = match (architecture.as_str(), layers) {
            ("gemma2", 46) | ("gemma3", 62) => embedding / heads,
            _ => head_width,
        };
        let (window, window_period) = match architecture.as_str() {
            "gemma2" => (keys.number("attention.sliding_window")?.or(Some(4096)), 2),
            "gemma3" => (keys.number("attention.sliding_window")?.or(Some(1024)), 6),
            "llama" | "mistral" | "phi3" => (keys.number("attention.sliding_window")?, 0),
            _ => (None, 0),
        };
        Ok(Self {
            embedding,
            layers,
            feed_forward: keys.dimension("feed_forward_length")?,
            heads,
            kv_heads,
            head_width,
            rope_width,
            context: keys.dimension_below("context_length", usize::MAX)?,
            norm_epsilon: norm_epsilon as f32,
            rope_base,
            rope_base_local: match architecture.as_str() {
                "gemma3" => Some(keys.float("rope.freq_base_swa")?.unwrap_or(10000.0)),
                _ => None,
            },
            rope_scale: keys.rope_scale()?,
            rope_original: keys.number("rope.scaling.original_context_length")?,
            pairing: match architecture.as_str() {
                "llama" | "mistral" => Pairing::Neighbours,
                _ => Pairing::Halves,
            },
            activation: if gemma {
                Activation::Gelu
            } else {
                Activation::Silu
            },
            embedding_scale: if gemma {
                (embedding as f32).sqrt()
            } else {
                1.0
            },
            attention_scale: match keys.float("attention.scale")? {
                Some(scale) if scale > 0.0 => scale as f32,
                _ => 1.0 / (scaled_width as f32).sqrt(),
            },
            attention_cap: cap("attn_logit_softcapping", 50.0)?,
            logit_cap: cap("final_logit_softcapping", 30.0)?,
            window: window.filter(|&window| window > 0),
            window_period,
            architecture,
        })
    }

    /// The same, of weights that are not stored as GGUF's converters order them: there, llama's query and
    /// key rows are swapped so that neighbours are turned together.
    #[must_use]
    pub fn with_halves(mut self) -> Self {
        self.pairing = Pairing::Halves;
        self
    }

    /// Whether an architecture is a decoder that the engine has.
    #[must_use]
    pub fn knows(architecture: &str) -> bool {
        ARCHITECTURES.contains(&architecture)
    }

    /// Width of all key heads together.
    #[must_use]
    pub fn kv_width(&self) -> usize {
        self.kv_heads * self.head_width
    }

    /// The window of a layer, if it has one.
    #[must_use]
    pub fn window(&self, layer: usize) -> Option<usize> {
        match self.window_period {
            0 => self.window,
            period => self.window.filter(|_| layer % period != period - 1),
        }
    }

    /// Bytes of keys and values that `tokens` tokens take in the cache.
    #[must_use]
    pub fn cache_bytes(&self, keep: Keep, tokens: usize) -> u64 {
        let page = self.layers * 2 * self.kv_heads * keep.head_words(self.head_width);
        (page * size_of::<u16>()) as u64 * tokens.div_ceil(PAGE) as u64
    }
}

/// The metadata's keys of one architecture.
struct Keys<'a> {
    metadata: &'a Metadata,
    architecture: &'a str,
}

impl Keys<'_> {
    fn name(&self, key: &str) -> String {
        format!("{}.{key}", self.architecture)
    }

    fn number(&self, key: &str) -> Result<Option<usize>, Error> {
        Ok(self.metadata.number(&self.name(key))?)
    }

    fn float(&self, key: &str) -> Result<Option<f64>, Error> {
        Ok(self.metadata.float(&self.name(key))?)
    }

    fn dimension(&self, key: &str) -> Result<usize, Error> {
        self.dimension_below(key, MAX_DIMENSION)
    }

    fn dimension_below(&self, key: &str, limit: usize) -> Result<usize, Error> {
        let name = self.name(key);
        let found = required(&name, self.metadata.number(&name)?)?;
        if found == 0 || found > limit {
            return Err(Error::unsupported(name, found, format!("1 to {limit}")));
        }
        Ok(found)
    }

    fn rope_scale(&self) -> Result<f64, Error> {
        let key = self.name("rope.scaling.type");
        let kind = self.metadata.text(&key)?.unwrap_or("none");
        let factor = match self.float("rope.scaling.factor")? {
            Some(factor) => Some(factor),
            // The name before 2024.
            None => self.float("rope.scale_linear")?,
        };
        match (kind, factor) {
            // Files of Llama 3.1 and of Phi 3 carry their scaling as tensors instead.
            ("none", None) | ("longrope", _) => Ok(1.0),
            ("none" | "linear", Some(factor)) if factor > 0.0 => {
                let linear = kind == "linear" || self.metadata.get(&key).is_none();
                Ok(if linear { factor } else { 1.0 })
            }
            ("none" | "linear", Some(factor)) => Err(Error::unsupported(
                self.name("rope.scaling.factor"),
                factor,
                "more than 0",
            )),
            ("linear", None) => Ok(1.0),
            (other, _) => Err(Error::unsupported(key, other, "none, linear, longrope")),
        }
    }
}
