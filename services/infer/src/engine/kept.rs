//! What finished conversations have left: their tokens' keys and values, so that the next turn does
//! not read the former ones again, nor another conversation the same beginning.

use std::collections::VecDeque;

use crate::model::Cache;

/// Conversations that are kept, and their bytes. The oldest go first.
const MAX_KEPT: usize = 16;
const MAX_BYTES: usize = 256 << 20;

/// Finished sequences, the latest last.
#[derive(Default)]
pub(super) struct Kept {
    sequences: VecDeque<(Vec<u32>, Cache)>,
}

impl Kept {
    /// Keeps a sequence whose cache holds the first of `tokens`.
    pub(super) fn put(&mut self, mut tokens: Vec<u32>, cache: Cache) {
        tokens.truncate(cache.tokens());
        if tokens.is_empty() {
            return;
        }
        self.sequences.push_back((tokens, cache));
        let bytes = |all: &VecDeque<(_, Cache)>| all.iter().map(|(_, c)| c.bytes()).sum::<usize>();
        while self.sequences.len() > MAX_KEPT || bytes(&self.sequences) > MAX_BYTES {
            self.sequences.pop_front();
        }
    }

    /// The cache of the longest common beginning with `prompt`, with room for `limit` tokens. The
    /// prompt's last token is left to be read: what follows it is the question.
    pub(super) fn beginning(&mut self, prompt: &[u32], limit: usize) -> Option<Cache> {
        let common = |tokens: &[u32]| {
            let pairs = tokens.iter().zip(&prompt[..prompt.len().saturating_sub(1)]);
            pairs.take_while(|(one, other)| one == other).count()
        };
        let lengths = self.sequences.iter().map(|(tokens, _)| common(tokens));
        let (place, length) = lengths.enumerate().max_by_key(|(_, length)| *length)?;
        if length == 0 {
            return None;
        }
        if length == self.sequences[place].0.len() {
            // The conversation goes on, and will be kept again at its end.
            let (_, cache) = self.sequences.remove(place)?;
            return Some(cache.beginning(length, limit));
        }
        Some(self.sequences[place].1.beginning(length, limit))
    }

    /// Bytes that they take.
    pub(super) fn bytes(&self) -> u64 {
        let all = self.sequences.iter().map(|(_, cache)| cache.bytes() as u64);
        all.sum()
    }

    /// Of these, the bytes that forgetting sets free for sure: pages that only one has.
    pub(super) fn own_bytes(&self) -> u64 {
        let all = self.sequences.iter().map(|(_, cache)| cache.own_bytes());
        all.map(|bytes| bytes as u64).sum()
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        self.sequences.clear();
    }
}
