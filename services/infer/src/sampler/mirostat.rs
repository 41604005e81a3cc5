//! Mirostat (Basu and others, 2021): holds the surprise of a text at a wanted level, instead of
//! cutting the choice by fixed measures.

use super::candidates::best;
use super::{Sampler, exponential, likeliest};

/// Tokens from which version 1 estimates how steeply the odds fall, as the paper has it.
const ESTIMATED: usize = 100;

impl Sampler {
    /// Chooses by mirostat of that version, and learns from the choice.
    pub(super) fn mirostat(&mut self, version: u8, logits: &mut [f32]) -> u32 {
        if self.sampling.temperature <= 0.0 {
            return likeliest(logits);
        }
        let scale = 1.0 / self.sampling.temperature as f32;
        logits.iter_mut().for_each(|logit| *logit *= scale);
        let highest = exponential::highest(logits);
        let normal = highest + exponential::sum(logits, highest).ln();
        let kept = match version {
            1 => self.version_1(logits, normal),
            _ => self.version_2(logits, normal),
        };
        let weight = |logit: f32| f64::from(logit - highest).exp();
        let total: f64 = kept.iter().map(|&(logit, _)| weight(logit)).sum();
        let mut left = self.uniform() * total;
        let drawn = kept.iter().find(|&&(logit, _)| {
            left -= weight(logit);
            left < 0.0
        });
        let Some(&(logit, token)) = drawn.or(kept.first()) else {
            return 0;
        };
        // The surprise is that among the tokens that were left, as llama.cpp has it.
        let surprise = -(weight(logit) / total).log2();
        let error = surprise - self.sampling.mirostat_tau;
        self.surprise -= (self.sampling.mirostat_eta * error) as f32;
        token
    }

    /// As many of the likeliest as the estimated Zipf exponent wants for the surprise.
    fn version_1(&self, logits: &[f32], normal: f32) -> Vec<(f32, u32)> {
        let probability = |logit: f32| f64::from(logit - normal).exp();
        let top = best(logits, ESTIMATED);
        let (mut products, mut squares) = (0.0, 0.0);
        for (place, pair) in top.windows(2).enumerate().take(ESTIMATED - 1) {
            let steps = ((place as f64 + 2.0) / (place as f64 + 1.0)).ln();
            let fall = (probability(pair[0].0) / probability(pair[1].0)).ln();
            products += steps * fall;
            squares += steps * steps;
        }
        let exponent = products / squares;
        let above = exponent - 1.0;
        let count = logits.len() as f64;
        let power = (above * f64::from(self.surprise).exp2()) / (1.0 - count.powf(-above));
        let keep = power.powf(1.0 / exponent);
        // Equal odds give infinity, a single token no number: all, and one.
        let keep = (keep as usize).clamp(1, logits.len().max(1));
        match keep <= top.len() {
            true => top[..keep].to_vec(),
            false => best(logits, keep),
        }
    }

    /// The tokens that surprise less than the bound; at least the likeliest.
    fn version_2(&self, logits: &[f32], normal: f32) -> Vec<(f32, u32)> {
        let least = normal - self.surprise * std::f32::consts::LN_2;
        let tokens = logits.iter().zip(0..);
        let kept: Vec<_> = tokens
            .filter(|(logit, _)| **logit >= least)
            .map(|(&logit, token)| (logit, token))
            .collect();
        match kept.is_empty() {
            true => best(logits, 1),
            false => kept,
        }
    }
}
