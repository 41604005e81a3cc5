//! Rotary position: each pair of neighbours in a head is turned by an angle that grows with the
//! position, faster for the first pairs. GGUF permutes Llama's heads so that pairs are neighbours.

use candle_core::{Device, Tensor};

use super::{Config, Error, Weights};

/// The tensor of per-pair divisors that files of Llama 3.1 and later carry.
const FACTORS: &str = "rope_freqs.weight";

/// Angles for every pair of a head.
pub struct Rope {
    /// Radians per position.
    frequencies: Vec<f64>,
}

impl Rope {
    /// The frequencies of `config`, divided by the file's factors if it has some.
    ///
    /// # Errors
    /// When the factors are of another shape, or not positive.
    pub fn load(config: &Config, weights: &Weights<'_>) -> Result<Self, Error> {
        let pairs = config.head_width / 2;
        let factors = match weights.has(FACTORS) {
            true => weights.vector(FACTORS, pairs)?.to_vec1::<f32>()?,
            false => vec![1.0; pairs],
        };
        if let Some(found) = factors
            .iter()
            .find(|&&factor| !(factor > 0.0 && factor.is_finite()))
        {
            return Err(Error::Unsupported {
                what: FACTORS,
                found: format!("{found}"),
                allowed: "positive numbers".to_owned(),
            });
        }
        let frequencies = (0..pairs)
            .map(|pair| {
                let exponent = -2.0 * pair as f64 / config.head_width as f64;
                config.rope_base.powf(exponent) / f64::from(factors[pair]) / config.rope_scale
            })
            .collect();
        Ok(Self { frequencies })
    }

    /// Cosines and sines for `count` positions from `start` on: two tensors of count × pairs.
    ///
    /// # Errors
    /// When candle refuses.
    pub fn angles(&self, start: usize, count: usize) -> Result<(Tensor, Tensor), Error> {
        let pairs = self.frequencies.len();
        let mut cosines = Vec::with_capacity(count * pairs);
        let mut sines = Vec::with_capacity(count * pairs);
        for position in start..start + count {
            for frequency in &self.frequencies {
                let (sine, cosine) = (position as f64 * frequency).sin_cos();
                cosines.push(cosine as f32);
                sines.push(sine as f32);
            }
        }
        let shape = (count, pairs);
        Ok((
            Tensor::from_vec(cosines, shape, &Device::Cpu)?,
            Tensor::from_vec(sines, shape, &Device::Cpu)?,
        ))
    }
}
