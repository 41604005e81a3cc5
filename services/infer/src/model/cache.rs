//! The keys and values of the tokens that a generation has seen.

use candle_core::{DType, Device, Tensor};

use super::{Config, Error};

/// Tokens that a new cache has room for; it doubles when it is full.
const FIRST_ROOM: usize = 128;

/// What attention remembers, of all layers.
pub struct Cache {
    layers: Vec<Layer>,
    tokens: usize,
    limit: usize,
}

/// One layer's keys and values: heads × room × head width, of which `tokens` are filled.
struct Layer {
    keys: Tensor,
    values: Tensor,
}

impl Cache {
    /// An empty cache that will hold at most `limit` tokens.
    ///
    /// # Errors
    /// When candle refuses.
    pub fn new(config: &Config, limit: usize) -> Result<Self, Error> {
        let shape = (config.kv_heads, limit.min(FIRST_ROOM), config.head_width);
        let layers = (0..config.layers)
            .map(|_| {
                Ok(Layer {
                    keys: Tensor::zeros(shape, DType::F32, &Device::Cpu)?,
                    values: Tensor::zeros(shape, DType::F32, &Device::Cpu)?,
                })
            })
            .collect::<Result<_, Error>>()?;
        Ok(Self {
            layers,
            tokens: 0,
            limit,
        })
    }

    /// Tokens in the cache.
    #[must_use]
    pub fn tokens(&self) -> usize {
        self.tokens
    }

    /// Tokens that the cache may still take.
    #[must_use]
    pub fn left(&self) -> usize {
        self.limit - self.tokens
    }

    /// Counts `count` tokens as seen, after every layer has appended them.
    pub(super) fn advance(&mut self, count: usize) {
        self.tokens += count;
    }

    /// Appends a layer's new keys and values (heads × new × head width); returns all so far.
    pub(super) fn append(
        &mut self,
        layer: usize,
        keys: &Tensor,
        values: &Tensor,
    ) -> Result<(Tensor, Tensor), Error> {
        let (start, limit) = (self.tokens, self.limit);
        let end = start + keys.dim(1)?;
        let layer = &mut self.layers[layer];
        layer.keys = grown(&layer.keys, start, end, limit)?;
        layer.values = grown(&layer.values, start, end, limit)?;
        layer.keys.slice_set(keys, 1, start)?;
        layer.values.slice_set(values, 1, start)?;
        Ok((
            layer.keys.narrow(1, 0, end)?,
            layer.values.narrow(1, 0, end)?,
        ))
    }
}

/// The same tensor with room for `needed` tokens, of which `filled` are kept.
fn grown(tensor: &Tensor, filled: usize, needed: usize, limit: usize) -> Result<Tensor, Error> {
    let (heads, room, width) = tensor.dims3()?;
    if needed <= room {
        return Ok(tensor.clone());
    }
    let room = (room * 2).max(needed).min(limit.max(needed));
    let larger = Tensor::zeros((heads, room, width), DType::F32, &Device::Cpu)?;
    if filled > 0 {
        larger.slice_set(&tensor.narrow(1, 0, filled)?.contiguous()?, 1, 0)?;
    }
    Ok(larger)
}
