//! The tokens that are still in the choice.

use super::{Sampling, exponential};

/// Logits compared before any is looked at: most of a vocabulary is below the best so far.
const CHUNK: usize = 32;
/// Weights, compared with the likeliest token's, from which tokens are gathered for top-p; the
/// first that gives enough probability is taken, so that few tokens are sorted.
const LEAST_WEIGHTS: [f32; 4] = [1e-2, 1e-4, 1e-7, 0.0];

/// The `count` tokens of the highest logits with these, best first, the first of equals first.
/// Minus infinity and what is no number are not among them.
pub(super) fn best(logits: &[f32], count: usize) -> Vec<(f32, u32)> {
    let room = (2 * count).clamp(64, logits.len().max(64));
    let mut found: Vec<(f32, u32)> = Vec::with_capacity(room + CHUNK);
    let mut least = f32::NEG_INFINITY;
    for (number, chunk) in logits.chunks(CHUNK).enumerate() {
        let above = chunk
            .iter()
            .fold(false, |any, &logit| any | (logit > least));
        if !above {
            continue;
        }
        for (place, &logit) in chunk.iter().enumerate() {
            if logit > least {
                found.push((logit, (number * CHUNK + place) as u32));
            }
        }
        // The room is used up: what can no longer be among the best goes.
        if found.len() >= room && found.len() > count {
            found.select_nth_unstable_by(count - 1, order);
            found.truncate(count);
            least = found[count - 1].0;
        }
    }
    if found.len() > count {
        found.select_nth_unstable_by(count - 1, order);
        found.truncate(count);
    }
    found.sort_unstable_by(order);
    found
}

fn order(a: &(f32, u32), b: &(f32, u32)) -> std::cmp::Ordering {
    b.0.total_cmp(&a.0).then(a.1.cmp(&b.1))
}

/// A token that may be chosen.
#[derive(Debug, Clone, Copy)]
struct Candidate {
    token: u32,
    logit: f32,
    /// e^(logit − the highest logit).
    weight: f32,
    /// How far its surprise is from the expected one; for the typical cut only.
    far: f32,
}

impl Candidate {
    fn mass(&self) -> f64 {
        self.weight.into()
    }
}

/// Tokens in the choice, and the sum of their weights.
pub(super) struct Candidates {
    list: Vec<Candidate>,
    highest: f32,
    total: f64,
}

impl Candidates {
    /// The best `count` tokens.
    pub(super) fn best(logits: &[f32], count: usize) -> Self {
        let best = best(logits, count);
        let highest = best.first().map_or(0.0, |&(logit, _)| logit);
        let list: Vec<Candidate> = best
            .into_iter()
            .map(|(logit, token)| Candidate {
                token,
                logit,
                weight: (logit - highest).exp(),
                far: 0.0,
            })
            .collect();
        Self {
            total: list.iter().map(Candidate::mass).sum(),
            list,
            highest,
        }
    }

    /// All tokens that the later cuts can leave, with the sum of everything's weights.
    pub(super) fn all(logits: &[f32], weights: &mut Vec<f32>, sampling: &Sampling) -> Self {
        let highest = exponential::highest(logits);
        exponential::weights(logits, highest, 1.0, weights);
        let total = exponential::sum_from(weights, 0.0);
        let mut least = f32::MIN_POSITIVE;
        // The typical cut may leave any of them.
        if sampling.typical_p >= 1.0 {
            // A little less: the exact comparison comes later.
            least = least.max(sampling.min_p as f32 * 0.999);
            let wanted = (sampling.top_p as f32 * total) * 1.0001;
            let enough = |&least: &f32| exponential::sum_from(weights, least) >= wanted;
            least = least.max(LEAST_WEIGHTS.into_iter().find(enough).unwrap_or(0.0));
        }
        let list = weights.iter().zip(logits).enumerate();
        let list = list.filter(|(_, (weight, _))| **weight >= least);
        Self {
            list: list
                .map(|(token, (&weight, &logit))| Candidate {
                    token: token as u32,
                    logit,
                    weight,
                    far: 0.0,
                })
                .collect(),
            highest,
            total: total.into(),
        }
    }

    /// Keeps the tokens whose surprise is nearest to the expected one and which together have more
    /// than `share` of the probability.
    pub(super) fn typical(&mut self, share: f64) {
        if share >= 1.0 || self.list.is_empty() {
            return;
        }
        let normal = f64::from(self.highest) + self.total.ln();
        let surprise = |candidate: &Candidate| normal - f64::from(candidate.logit);
        let entropy: f64 = self
            .list
            .iter()
            .map(|candidate| candidate.mass() / self.total * surprise(candidate))
            .sum();
        for candidate in &mut self.list {
            candidate.far = (surprise(candidate) - entropy).abs() as f32;
        }
        self.keep_until(
            |a, b| a.far.total_cmp(&b.far).then(a.token.cmp(&b.token)),
            |sum, total| sum > share * total,
        );
        self.total = self.list.iter().map(Candidate::mass).sum();
    }

    /// Keeps the likeliest that together have `share` of the probability, and of these the tokens
    /// at least `least` as likely as the likeliest.
    pub(super) fn top_and_min(&mut self, share: f64, least: f32) {
        if share < 1.0 {
            let order = |a: &Candidate, b: &Candidate| {
                let by_logit = b.logit.total_cmp(&a.logit);
                by_logit.then(a.token.cmp(&b.token))
            };
            self.keep_until(order, |sum, total| sum >= share * total);
        }
        if least > 0.0 {
            let highest = self.list.iter().map(|candidate| candidate.logit);
            let least = highest.fold(f32::NEG_INFINITY, f32::max) + least.ln();
            self.list.retain(|candidate| candidate.logit >= least);
        }
    }

    /// Cuts after the first token, in that order, with which it is `enough`. Halves are put on
    /// their side of the middle until the cut is near: nothing else is sorted.
    fn keep_until(
        &mut self,
        order: impl Fn(&Candidate, &Candidate) -> std::cmp::Ordering,
        enough: impl Fn(f64, f64) -> bool,
    ) {
        let (mut sum, mut low, mut high) = (0.0, 0, self.list.len());
        while high - low > 64 {
            let middle = (high - low) / 2;
            let part = &mut self.list[low..high];
            part.select_nth_unstable_by(middle, &order);
            let half: f64 = part[..middle].iter().map(Candidate::mass).sum();
            match enough(sum + half, self.total) {
                true => high = low + middle,
                false => {
                    sum += half;
                    low += middle;
                }
            }
        }
        self.list[low..high].sort_unstable_by(&order);
        let cut = self.list[low..high].iter().position(|candidate| {
            sum += candidate.mass();
            enough(sum, self.total)
        });
        self.list
            .truncate(cut.map_or(high, |place| low + place + 1));
    }

    #[cfg(test)]
    pub(super) fn tokens(&self) -> Vec<u32> {
        self.list.iter().map(|candidate| candidate.token).collect()
    }

    /// The highest logit's token, the first of equals; 0 when there is none.
    pub(super) fn likeliest(&self) -> u32 {
        let best = self.list.iter().min_by(|a, b| {
            let by_logit = b.logit.total_cmp(&a.logit);
            by_logit.then(a.token.cmp(&b.token))
        });
        best.map_or(0, |candidate| candidate.token)
    }

    /// The token at `chance` (0 up to 1) of the odds at that temperature.
    pub(super) fn draw(&self, temperature: f64, chance: f64) -> u32 {
        // After a cut that took the likeliest away, the rest must not vanish.
        let logits = self.list.iter().map(|candidate| candidate.logit);
        let highest = f64::from(logits.fold(f32::NEG_INFINITY, f32::max));
        let weight = |candidate: &Candidate| {
            let below = f64::from(candidate.logit) - highest;
            (below / temperature).exp()
        };
        let weights: Vec<f64> = self.list.iter().map(weight).collect();
        let total: f64 = weights.iter().sum();
        let mut left = chance * total;
        for (candidate, weight) in self.list.iter().zip(&weights) {
            left -= weight;
            if left < 0.0 {
                return candidate.token;
            }
        }
        self.list.first().map_or(0, |first| first.token)
    }
}
