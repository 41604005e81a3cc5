//! Makes tokens of late less likely.

use std::collections::{BTreeMap, VecDeque};

use super::Sampling;

/// The tokens of late, and what each costs.
pub(super) struct Penalties {
    repeat: f32,
    frequency: f32,
    presence: f32,
    last: usize,
    recent: VecDeque<u32>,
    counts: BTreeMap<u32, u32>,
}

impl Penalties {
    pub(super) fn new(sampling: &Sampling) -> Self {
        let (repeat, frequency, presence) = (
            sampling.repeat_penalty as f32,
            sampling.frequency_penalty as f32,
            sampling.presence_penalty as f32,
        );
        let nothing = repeat == 1.0 && frequency == 0.0 && presence == 0.0;
        Self {
            repeat,
            frequency,
            presence,
            last: if nothing { 0 } else { sampling.repeat_last },
            recent: VecDeque::new(),
            counts: BTreeMap::new(),
        }
    }

    pub(super) fn saw(&mut self, token: u32) {
        if self.last == 0 {
            return;
        }
        if self.recent.len() == self.last
            && let Some(oldest) = self.recent.pop_front()
            && let Some(count) = self.counts.get_mut(&oldest)
        {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&oldest);
            }
        }
        self.recent.push_back(token);
        *self.counts.entry(token).or_default() += 1;
    }

    pub(super) fn apply(&self, logits: &mut [f32]) {
        for (&token, &count) in &self.counts {
            let Some(logit) = logits.get_mut(token as usize) else {
                continue;
            };
            // Dividing a negative logit would make the token likelier.
            *logit = match *logit <= 0.0 {
                true => *logit * self.repeat,
                false => *logit / self.repeat,
            };
            *logit -= count as f32 * self.frequency + self.presence;
        }
    }
}
