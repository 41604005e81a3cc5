//! Rotary position: each pair of a head's numbers is turned by an angle that grows with the position,
//! faster for the first pairs.

use super::{Config, Error, Pairing, Tensors};

/// Per-pair divisors that files of Llama 3.1 and later carry.
const FACTORS: &str = "rope_freqs.weight";
/// Those of Phi 3, for contexts up to the original one and beyond it.
const SHORT_FACTORS: &str = "rope_factors_short.weight";
const LONG_FACTORS: &str = "rope_factors_long.weight";

/// Angles for every pair of a head.
#[derive(Debug)]
pub struct Rope {
    /// Radians per position.
    frequencies: Vec<f64>,
    /// Turned numbers are multiplied by it.
    magnitude: f64,
    pairing: Pairing,
    head_width: usize,
}

/// Cosines and sines of a batch's positions: tokens × pairs.
#[derive(Debug)]
pub struct Angles {
    cosines: Vec<f32>,
    sines: Vec<f32>,
}

impl Rope {
    /// The frequencies of `base`, divided by the file's factors if it has some.
    ///
    /// # Errors
    /// When the factors are of another shape, or not positive.
    pub fn load(config: &Config, base: f64, tensors: &dyn Tensors) -> Result<Self, Error> {
        let pairs = config.rope_width / 2;
        let long = config
            .rope_original
            .is_some_and(|original| config.context > original);
        let name = [FACTORS, if long { LONG_FACTORS } else { SHORT_FACTORS }]
            .into_iter()
            .find(|name| tensors.has(name));
        let factors = match name {
            Some(name) => tensors.vector(name, pairs)?,
            None => vec![1.0; pairs],
        };
        if let Some(found) = factors
            .iter()
            .find(|&&factor| !(factor > 0.0 && factor.is_finite()))
        {
            return Err(Error::Unsupported {
                what: name.unwrap_or(FACTORS).to_owned(),
                found: format!("{found}"),
                allowed: "positive numbers".to_owned(),
            });
        }
        let frequencies = (0..pairs)
            .map(|pair| {
                let exponent = -2.0 * pair as f64 / config.rope_width as f64;
                base.powf(exponent) / f64::from(factors[pair]) / config.rope_scale
            })
            .collect();
        // Phi 3 makes up for the stretched positions' smaller differences.
        let magnitude = match config.rope_original {
            Some(original) if long && name == Some(LONG_FACTORS) => {
                let ratio = config.context as f64 / original as f64;
                (1.0 + ratio.ln() / (original as f64).ln()).sqrt()
            }
            _ => 1.0,
        };
        Ok(Self {
            frequencies,
            magnitude,
            pairing: config.pairing,
            head_width: config.head_width,
        })
    }

    /// Frequencies of `base` for whole heads, of which nothing is stretched.
    #[must_use]
    pub fn plain(head_width: usize, base: f64, pairing: Pairing) -> Self {
        let frequency = |pair: usize| base.powf(-2.0 * pair as f64 / head_width as f64);
        Self {
            frequencies: (0..head_width / 2).map(frequency).collect(),
            magnitude: 1.0,
            pairing,
            head_width,
        }
    }

    /// The angles of these positions.
    pub fn angles(&self, positions: impl Iterator<Item = usize>) -> Angles {
        let (mut cosines, mut sines) = (Vec::new(), Vec::new());
        for position in positions {
            for frequency in &self.frequencies {
                let (sine, cosine) = (position as f64 * frequency).sin_cos();
                cosines.push((cosine * self.magnitude) as f32);
                sines.push((sine * self.magnitude) as f32);
            }
        }
        Angles { cosines, sines }
    }

    /// Turns a token's heads, which lie side by side; `row` is the token's in `angles`.
    pub fn turn(&self, angles: &Angles, row: usize, heads: &mut [f32]) {
        let pairs = self.frequencies.len();
        let cosines = &angles.cosines[row * pairs..][..pairs];
        let sines = &angles.sines[row * pairs..][..pairs];
        for head in heads.chunks_exact_mut(self.head_width) {
            match self.pairing {
                Pairing::Neighbours => {
                    for ((pair, cosine), sine) in head.chunks_exact_mut(2).zip(cosines).zip(sines) {
                        let (a, b) = (pair[0], pair[1]);
                        pair[0] = a * cosine - b * sine;
                        pair[1] = a * sine + b * cosine;
                    }
                }
                Pairing::Halves => {
                    let (first, second) = head[..2 * pairs].split_at_mut(pairs);
                    for (((a, b), cosine), sine) in
                        first.iter_mut().zip(second).zip(cosines).zip(sines)
                    {
                        (*a, *b) = (*a * cosine - *b * sine, *a * sine + *b * cosine);
                    }
                }
            }
        }
    }
}
