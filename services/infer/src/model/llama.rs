//! A whole Llama model: tokens in, logits of the next token out.

use candle_core::{Device, Tensor};
use candle_nn::ops::rms_norm;

use super::attention::{Attention, Pass};
use super::feed_forward::FeedForward;
use super::rope::Rope;
use super::weights::Matrix;
use super::{Cache, Config, Error, Weights};

/// A loaded model.
pub struct Llama {
    config: Config,
    embedding: Matrix,
    layers: Vec<Layer>,
    norm: Tensor,
    output: Matrix,
    rope: Rope,
}

struct Layer {
    attention_norm: Tensor,
    attention: Attention,
    feed_forward_norm: Tensor,
    feed_forward: FeedForward,
}

impl Llama {
    /// Loads a model whose vocabulary has `vocabulary` tokens.
    ///
    /// # Errors
    /// When a tensor is missing, of another shape, or unreadable.
    pub fn load(config: Config, vocabulary: usize, weights: &Weights<'_>) -> Result<Self, Error> {
        let width = config.embedding;
        let embedding = weights.matrix("token_embd.weight", vocabulary, width)?;
        let output = match weights.has("output.weight") {
            true => weights.matrix("output.weight", vocabulary, width)?,
            // Tied: the embedding is read the other way round.
            false => embedding.clone(),
        };
        let layers = (0..config.layers)
            .map(|layer| {
                let norm =
                    |part: &str| weights.vector(&format!("blk.{layer}.{part}_norm.weight"), width);
                Ok(Layer {
                    attention_norm: norm("attn")?,
                    attention: Attention::load(&config, weights, layer)?,
                    feed_forward_norm: norm("ffn")?,
                    feed_forward: FeedForward::load(&config, weights, layer)?,
                })
            })
            .collect::<Result<_, Error>>()?;
        Ok(Self {
            embedding,
            layers,
            norm: weights.vector("output_norm.weight", width)?,
            output,
            rope: Rope::load(&config, weights)?,
            config,
        })
    }

    /// The hyperparameters.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Reads `tokens` after those in the cache; returns the logits of the token that follows.
    /// There must be at least one token, and room for all in the cache.
    ///
    /// # Errors
    /// When candle refuses, or a logit is not finite.
    pub fn forward(&self, tokens: &[u32], cache: &mut Cache) -> Result<Vec<f32>, Error> {
        let count = tokens.len();
        let epsilon = self.config.norm_epsilon;
        let (cosines, sines) = self.rope.angles(cache.tokens(), count)?;
        let group = self.config.heads / self.config.kv_heads;
        let mask = Pass::mask(cache.tokens(), count, group)?;
        let pass = Pass {
            cosines,
            sines,
            mask,
        };
        let tokens = Tensor::new(tokens, &Device::Cpu)?;
        let mut stream = self.embedding.rows(&tokens)?;
        for (place, layer) in self.layers.iter().enumerate() {
            let normed = rms_norm(&stream, &layer.attention_norm, epsilon)?;
            stream = (layer.attention.forward(&normed, &pass, cache, place)? + stream)?;
            let normed = rms_norm(&stream, &layer.feed_forward_norm, epsilon)?;
            stream = (layer.feed_forward.forward(&normed)? + stream)?;
        }
        cache.advance(count);
        // Only the last token's logits are ever asked for.
        let last = stream.narrow(0, count - 1, 1)?.contiguous()?;
        let logits = self
            .output
            .forward(&rms_norm(&last, &self.norm, epsilon)?)?;
        let logits = logits.flatten_all()?.to_vec1::<f32>()?;
        if logits.iter().any(|logit| !logit.is_finite()) {
            return Err(Error::NotFinite);
        }
        Ok(logits)
    }
}
