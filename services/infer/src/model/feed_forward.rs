//! The gated feed-forward part of a layer (SwiGLU).

use candle_core::Tensor;

use super::weights::Matrix;
use super::{Config, Error, Weights};

/// down(silu(gate(x)) · up(x)).
pub struct FeedForward {
    gate: Matrix,
    up: Matrix,
    down: Matrix,
}

impl FeedForward {
    /// Loads the feed-forward part of a layer.
    ///
    /// # Errors
    /// When a tensor is missing or of another shape.
    pub fn load(config: &Config, weights: &Weights<'_>, layer: usize) -> Result<Self, Error> {
        let matrix = |part: &str, rows, columns| {
            weights.matrix(&format!("blk.{layer}.ffn_{part}.weight"), rows, columns)
        };
        Ok(Self {
            gate: matrix("gate", config.feed_forward, config.embedding)?,
            up: matrix("up", config.feed_forward, config.embedding)?,
            down: matrix("down", config.embedding, config.feed_forward)?,
        })
    }

    /// Applies it to count × embedding activations.
    ///
    /// # Errors
    /// When candle refuses.
    pub fn forward(&self, activations: &Tensor) -> Result<Tensor, Error> {
        let gate = self.gate.forward(activations)?.silu()?;
        let up = self.up.forward(activations)?;
        self.down.forward(&(gate * up)?)
    }
}
