//! Chooses the next token from logits, in llama.cpp's terms and order: logit bias; penalties,
//! top-k, typical, top-p, min-p, temperature; or logit bias, temperature and mirostat alone.
//!
//! What it must never do: sort a whole vocabulary where a part will do, or depend on the number of
//! threads: one seed and the same logits give the same tokens.

mod candidates;
mod exponential;
mod mirostat;
mod penalties;
mod settings;
#[cfg(test)]
mod tests;

pub use settings::{MAX_BIASES, MAX_TOP, OutOfRange, Sampling};

use candidates::Candidates;
use penalties::Penalties;

/// One token, chosen.
#[derive(Debug, Clone, PartialEq)]
pub struct Choice {
    /// Which.
    pub token: u32,
    /// The logarithm of its probability by the logits as they were handed over, before bias,
    /// penalties and temperature; 0 when [`Sampling::logprobs`] is not set.
    pub logprob: f32,
    /// The likeliest tokens with theirs, best first: as many as [`Sampling::logprobs`] says.
    pub top: Vec<(u32, f32)>,
}

/// Chooses tokens for one sequence.
pub struct Sampler {
    sampling: Sampling,
    penalties: Penalties,
    /// Mirostat's bound of surprise, in bits.
    surprise: f32,
    state: u64,
    /// Kept from token to token, because a vocabulary is large.
    weights: Vec<f32>,
}

impl Sampler {
    /// A sampler at the start of its choices.
    #[must_use]
    pub fn new(sampling: Sampling) -> Self {
        Self {
            penalties: Penalties::new(&sampling),
            surprise: (2.0 * sampling.mirostat_tau) as f32,
            state: sampling.seed,
            weights: Vec::new(),
            sampling,
        }
    }

    /// Remembers a token that was read or chosen, for the penalties.
    pub fn saw(&mut self, token: u32) {
        self.penalties.saw(token);
    }

    /// Chooses from `logits`, which are changed on the way. Tokens at minus infinity (and what is
    /// not a number) are never chosen, unless there is nothing else: then it is token 0.
    pub fn choose(&mut self, logits: &mut [f32]) -> Choice {
        let normal = self.sampling.logprobs.map(|count| {
            let best = candidates::best(logits, count.max(1));
            let highest = best.first().map_or(0.0, |&(logit, _)| logit);
            (highest + exponential::sum(logits, highest).ln(), best)
        });
        let raw = normal.is_some().then(|| logits.to_vec());
        for &(token, bias) in &self.sampling.logit_bias {
            if let Some(logit) = logits.get_mut(token as usize) {
                *logit += bias;
            }
        }
        let token = match self.sampling.mirostat {
            0 => self.cut_and_draw(logits),
            version => self.mirostat(version, logits),
        };
        let (mut logprob, mut top) = (0.0, Vec::new());
        if let (Some((normal, best)), Some(raw)) = (normal, raw) {
            logprob = raw.get(token as usize).map_or(0.0, |logit| logit - normal);
            let asked = self.sampling.logprobs.unwrap_or(0);
            let likeliest = best.into_iter().take(asked);
            top = likeliest.map(|(l, token)| (token, l - normal)).collect();
        }
        Choice {
            token,
            logprob,
            top,
        }
    }

    fn cut_and_draw(&mut self, logits: &mut [f32]) -> u32 {
        let sampling = &self.sampling;
        self.penalties.apply(logits);
        let cuts_nothing = sampling.typical_p >= 1.0;
        if sampling.temperature <= 0.0 && cuts_nothing {
            return likeliest(logits);
        }
        let limited = sampling.top_k > 0 && sampling.top_k < logits.len();
        if !limited && cuts_nothing && sampling.top_p >= 1.0 && sampling.min_p <= 0.0 {
            return self.draw_from_all(logits);
        }
        let mut candidates = match limited {
            true => Candidates::best(logits, sampling.top_k),
            false => Candidates::all(logits, &mut self.weights, sampling),
        };
        candidates.typical(sampling.typical_p);
        candidates.top_and_min(sampling.top_p, sampling.min_p as f32);
        if sampling.temperature <= 0.0 {
            return candidates.likeliest();
        }
        let temperature = sampling.temperature;
        let chance = self.uniform();
        candidates.draw(temperature, chance)
    }

    /// Without any cut nothing needs an order but that of the tokens.
    fn draw_from_all(&mut self, logits: &[f32]) -> u32 {
        let highest = exponential::highest(logits);
        let scale = 1.0 / self.sampling.temperature as f32;
        exponential::weights(logits, highest, scale, &mut self.weights);
        let total: f64 = self.weights.iter().map(|&weight| f64::from(weight)).sum();
        let mut left = self.uniform() * total;
        for (token, &weight) in self.weights.iter().enumerate() {
            left -= f64::from(weight);
            if left < 0.0 {
                return token as u32;
            }
        }
        likeliest(logits)
    }

    /// The next number from 0 up to 1, by SplitMix64: small, and good enough to choose words.
    fn uniform(&mut self) -> f64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^= mixed >> 31;
        (mixed >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// The token of the highest logit, the first of equals.
fn likeliest(logits: &[f32]) -> u32 {
    let highest = exponential::highest(logits);
    let place = logits.iter().position(|&logit| logit == highest);
    place.unwrap_or(0) as u32
}
