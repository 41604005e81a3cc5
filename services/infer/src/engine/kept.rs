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
        self.trim(MAX_BYTES);
    }

    /// Forgets the oldest beyond so many bytes. The latest stays, however large: it is the conversation that
    /// most likely goes on.
    fn trim(&mut self, most: usize) {
        let bytes = |all: &VecDeque<(_, Cache)>| all.iter().map(|(_, c)| c.bytes()).sum::<usize>();
        while self.sequences.len() > 1
            && (self.sequences.len() > MAX_KEPT || bytes(&self.sequences) > most)
        {
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

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::path::Path;
    use std::sync::Arc;

    use super::*;
    use crate::gguf;
    use crate::kernels::{Keep, Pool};
    use crate::model::{Config, Decoder, Part, Wanted, Weights};

    #[test]
    fn what_was_read_is_found_and_the_latest_stays_however_large() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/models/tiny-f32.gguf");
        let file = Arc::new(File::open(path).unwrap());
        let header = gguf::File::read(&*file, file.metadata().unwrap().len()).unwrap();
        let config = Config::read(&header.metadata).unwrap();
        let vocabulary = header.tensors["token_embd.weight"].shape[0];
        let decoder = Decoder::load(config, vocabulary, &Weights::new(&header, file)).unwrap();
        let pool = Pool::new(1).unwrap();
        let read = |tokens: &[u32]| {
            let mut cache = Cache::new(decoder.config(), Keep::Halves, 64);
            let part = Part {
                tokens,
                cache: &mut cache,
                wanted: Wanted::Nothing,
            };
            decoder.forward(&pool, &mut [part]).unwrap();
            (tokens.to_vec(), cache)
        };
        let mut kept = Kept::default();
        for tokens in [[1, 2, 3], [4, 5, 6]] {
            let (tokens, cache) = read(&tokens);
            kept.put(tokens, cache);
        }
        let found = |kept: &mut Kept, prompt: &[u32]| {
            let cache = kept.beginning(prompt, 64);
            cache.map(|cache| cache.tokens())
        };
        // The last token of a prompt is always read.
        assert_eq!(found(&mut kept, &[1, 2]), Some(1));
        assert_eq!(found(&mut kept, &[1, 2, 9, 9]), Some(2));
        assert_eq!(found(&mut kept, &[7, 2]), None);
        kept.trim(0);
        assert_eq!(found(&mut kept, &[1, 2, 3, 4]), None);
        assert_eq!(found(&mut kept, &[4, 5, 6, 7]), Some(3));
        // It went on with the conversation.
        assert_eq!(found(&mut kept, &[4, 5, 6, 7]), None);
    }
}
