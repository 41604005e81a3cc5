//! Chooses the next token from logits.

use std::collections::VecDeque;

/// How to choose. The defaults are Ollama's.
#[derive(Debug, Clone, PartialEq)]
pub struct Sampling {
    /// 0 takes the likeliest token; higher flattens the odds.
    pub temperature: f64,
    /// Only so many of the likeliest tokens; 0 for all.
    pub top_k: usize,
    /// Only the likeliest tokens that together have this probability.
    pub top_p: f64,
    /// Only tokens at least this likely compared with the likeliest.
    pub min_p: f64,
    /// Makes tokens of late less likely; 1 does nothing.
    pub repeat_penalty: f64,
    /// How many tokens back the penalty looks.
    pub repeat_last: usize,
    /// Where the choices start from.
    pub seed: u64,
}

/// Chooses tokens for one generation.
pub struct Sampler {
    sampling: Sampling,
    recent: VecDeque<u32>,
    state: u64,
}

impl Sampler {
    /// A sampler at the start of its choices.
    #[must_use]
    pub fn new(sampling: Sampling) -> Self {
        let state = sampling.seed;
        Self {
            sampling,
            recent: VecDeque::new(),
            state,
        }
    }

    /// Remembers a token that was read or chosen, for the penalty.
    pub fn saw(&mut self, token: u32) {
        if self.sampling.repeat_penalty == 1.0 || self.sampling.repeat_last == 0 {
            return;
        }
        if self.recent.len() == self.sampling.repeat_last {
            self.recent.pop_front();
        }
        self.recent.push_back(token);
    }

    /// Chooses from `logits`, which are finite and not empty.
    pub fn choose(&mut self, mut logits: Vec<f32>) -> u32 {
        self.penalize(&mut logits);
        if self.sampling.temperature <= 0.0 {
            return likeliest(&logits);
        }
        let mut candidates: Vec<(u32, f64)> = logits
            .iter()
            .enumerate()
            .map(|(token, &logit)| (token as u32, logit.into()))
            .collect();
        let keep = match self.sampling.top_k {
            0 => candidates.len(),
            top_k => top_k.min(candidates.len()),
        };
        if keep < candidates.len() {
            candidates.select_nth_unstable_by(keep - 1, |a, b| b.1.total_cmp(&a.1));
            candidates.truncate(keep);
        }
        candidates.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        let best = candidates[0].1;
        // top-p and min-p look at the odds before the temperature, as llama.cpp orders them.
        let total: f64 = candidates
            .iter()
            .map(|(_, logit)| (logit - best).exp())
            .sum();
        let mut sum = 0.0;
        let mut count = 0;
        for (_, logit) in &candidates {
            let odds = (logit - best).exp();
            if count > 0 && (sum / total >= self.sampling.top_p || odds < self.sampling.min_p) {
                break;
            }
            sum += odds;
            count += 1;
        }
        candidates.truncate(count);
        let temperature = self.sampling.temperature;
        let weight = |logit: f64| ((logit - best) / temperature).exp();
        let total: f64 = candidates.iter().map(|&(_, logit)| weight(logit)).sum();
        let mut left = self.uniform() * total;
        for &(token, logit) in &candidates {
            left -= weight(logit);
            if left < 0.0 {
                return token;
            }
        }
        candidates[0].0
    }

    fn penalize(&self, logits: &mut [f32]) {
        let penalty = self.sampling.repeat_penalty as f32;
        let mut seen = std::collections::HashSet::new();
        for &token in self.recent.iter().filter(|&&token| seen.insert(token)) {
            if let Some(logit) = logits.get_mut(token as usize) {
                *logit = if *logit > 0.0 {
                    *logit / penalty
                } else {
                    *logit * penalty
                };
            }
        }
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
    let mut best = 0;
    for (token, logit) in logits.iter().enumerate() {
        if *logit > logits[best] {
            best = token;
        }
    }
    best as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sampling() -> Sampling {
        Sampling {
            temperature: 1.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            repeat_penalty: 1.0,
            repeat_last: 64,
            seed: 7,
        }
    }

    fn counts(sampling: Sampling, logits: &[f32]) -> Vec<usize> {
        let mut sampler = Sampler::new(sampling);
        let mut counts = vec![0; logits.len()];
        for _ in 0..20_000 {
            counts[sampler.choose(logits.to_vec()) as usize] += 1;
        }
        counts
    }

    #[test]
    fn cold_is_greedy() {
        let mut sampler = Sampler::new(Sampling {
            temperature: 0.0,
            ..sampling()
        });
        assert_eq!(sampler.choose(vec![0.0, 3.0, 3.0, -1.0]), 1);
    }

    #[test]
    fn warm_follows_the_odds() {
        // Odds 1 : 2 : 4.
        let counts = counts(sampling(), &[0.0, 2_f32.ln(), 4_f32.ln()]);
        for (count, odds) in counts.iter().zip([1.0, 2.0, 4.0]) {
            let share = *count as f64 / 20_000.0;
            assert!((share - odds / 7.0).abs() < 0.02, "{counts:?}");
        }
    }

    #[test]
    fn cuts_leave_the_likeliest() {
        let logits = [0.0, 2_f32.ln(), 4_f32.ln()];
        assert_eq!(
            counts(
                Sampling {
                    top_k: 2,
                    ..sampling()
                },
                &logits
            )[0],
            0
        );
        assert_eq!(
            counts(
                Sampling {
                    top_p: 0.5,
                    ..sampling()
                },
                &logits
            )[..2],
            [0, 0]
        );
        assert_eq!(
            counts(
                Sampling {
                    min_p: 0.4,
                    ..sampling()
                },
                &logits
            )[0],
            0
        );
    }

    #[test]
    fn the_same_seed_chooses_the_same() {
        let run = |seed| {
            let mut sampler = Sampler::new(Sampling { seed, ..sampling() });
            (0..20)
                .map(|_| sampler.choose(vec![0.0; 100]))
                .collect::<Vec<_>>()
        };
        assert_eq!(run(1), run(1));
        assert_ne!(run(1), run(2));
    }

    #[test]
    fn a_penalty_turns_away_from_repetition() {
        let cold = Sampling {
            temperature: 0.0,
            repeat_penalty: 2.0,
            repeat_last: 1,
            ..sampling()
        };
        let mut sampler = Sampler::new(cold);
        sampler.saw(0);
        assert_eq!(sampler.choose(vec![3.0, 2.0]), 1);
        sampler.saw(1);
        assert_eq!(sampler.choose(vec![3.0, 2.0]), 0);
    }
}
