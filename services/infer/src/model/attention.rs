//! Grouped-query attention: several query heads share one head of keys and values.

use candle_core::{Device, Tensor};
use candle_nn::ops::softmax_last_dim;
use candle_nn::rotary_emb::rope_i;

use super::weights::Matrix;
use super::{Cache, Config, Error, Weights};

/// The attention part of one layer.
pub struct Attention {
    query: Matrix,
    key: Matrix,
    value: Matrix,
    output: Matrix,
    heads: usize,
    kv_heads: usize,
    head_width: usize,
}

/// What is the same for all layers in one pass over some tokens.
pub struct Pass {
    /// Cosines of the positions' angles.
    pub cosines: Tensor,
    /// Sines of the positions' angles.
    pub sines: Tensor,
    /// Added to the scores: -inf where a token would see a later one. None for a single token.
    pub mask: Option<Tensor>,
}

impl Pass {
    /// The mask for `count` new tokens after `seen` ones, for each of `group` query heads.
    ///
    /// # Errors
    /// When candle refuses.
    pub fn mask(seen: usize, count: usize, group: usize) -> Result<Option<Tensor>, Error> {
        if count == 1 {
            return Ok(None);
        }
        let total = seen + count;
        let mut mask = Vec::with_capacity(group * count * total);
        for _ in 0..group {
            for token in 0..count {
                mask.extend((0..total).map(|other| match other <= seen + token {
                    true => 0.0,
                    false => f32::NEG_INFINITY,
                }));
            }
        }
        Ok(Some(Tensor::from_vec(
            mask,
            (1, group * count, total),
            &Device::Cpu,
        )?))
    }
}

impl Attention {
    /// Loads the attention part of a layer.
    ///
    /// # Errors
    /// When a tensor is missing or of another shape.
    pub fn load(config: &Config, weights: &Weights<'_>, layer: usize) -> Result<Self, Error> {
        let width = config.heads * config.head_width;
        let matrix = |part: &str, rows, columns| {
            weights.matrix(&format!("blk.{layer}.attn_{part}.weight"), rows, columns)
        };
        Ok(Self {
            query: matrix("q", width, config.embedding)?,
            key: matrix("k", config.kv_width(), config.embedding)?,
            value: matrix("v", config.kv_width(), config.embedding)?,
            output: matrix("output", config.embedding, width)?,
            heads: config.heads,
            kv_heads: config.kv_heads,
            head_width: config.head_width,
        })
    }

    /// Attends from new tokens (count × embedding) to all so far.
    ///
    /// # Errors
    /// When candle refuses.
    pub fn forward(
        &self,
        activations: &Tensor,
        pass: &Pass,
        cache: &mut Cache,
        layer: usize,
    ) -> Result<Tensor, Error> {
        let count = activations.dim(0)?;
        let group = self.heads / self.kv_heads;
        let query = self.turned(&self.query.forward(activations)?, self.heads, pass)?;
        let key = self.turned(&self.key.forward(activations)?, self.kv_heads, pass)?;
        let value = self
            .value
            .forward(activations)?
            .reshape((count, self.kv_heads, self.head_width))?
            .transpose(0, 1)?
            .contiguous()?;
        let (keys, values) = cache.append(layer, &key, &value)?;
        // The query heads of one group are neighbours: they become more rows of their kv head,
        // so that keys and values are never copied for them.
        let query = query.reshape((self.kv_heads, group * count, self.head_width))?;
        let scale = 1.0 / (self.head_width as f64).sqrt();
        let mut scores = (query.matmul(&keys.t()?)? * scale)?;
        if let Some(mask) = &pass.mask {
            scores = scores.broadcast_add(mask)?;
        }
        let mixed = softmax_last_dim(&scores)?
            .matmul(&values)?
            .reshape((self.heads, count, self.head_width))?
            .transpose(0, 1)?
            .contiguous()?
            .reshape((count, self.heads * self.head_width))?;
        self.output.forward(&mixed)
    }

    /// Splits into heads and turns each pair by its position's angle: heads × count × width.
    fn turned(&self, flat: &Tensor, heads: usize, pass: &Pass) -> Result<Tensor, Error> {
        let count = flat.dim(0)?;
        let split = flat
            .reshape((1, count, heads, self.head_width))?
            .transpose(1, 2)?
            .contiguous()?;
        Ok(rope_i(&split, &pass.cosines, &pass.sines)?.squeeze(0)?)
    }
}
