//! WordPiece: each word from left to right by the longest token that fits. The vocabulary writes a
//! word's beginning with U+2581 before it and what goes on without (GGUF's way
//! of Hugging Face's `##`).

use super::Vocabulary;
use super::vocabulary::SPACE;

/// The rules of one vocabulary.
pub(super) struct Words {
    /// Bytes of the longest token.
    longest: usize,
    /// Characters of a word that is looked at; a longer one is unknown.
    most: usize,
    unknown: Option<u32>,
}

impl Words {
    pub(super) fn new(unknown: Option<u32>, vocabulary: &Vocabulary) -> Self {
        let lengths = (0..vocabulary.len()).filter_map(|token| vocabulary.entry(token as u32));
        Self {
            longest: lengths.map(|entry| entry.text.len()).max().unwrap_or(0),
            most: usize::MAX,
            unknown,
        }
    }

    /// The same, but a word of more than `most` characters is unknown.
    pub(super) fn of_words_up_to(self, most: usize) -> Self {
        Self { most, ..self }
    }

    /// Encodes one word; one that does not come out whole is the unknown token.
    pub(super) fn encode(&self, word: &str, vocabulary: &Vocabulary, tokens: &mut Vec<u32>) {
        let before = tokens.len();
        let short = word.len() <= self.most || word.chars().count() <= self.most;
        let whole = short && self.pieces(&[SPACE, word].concat(), vocabulary, tokens);
        if !whole {
            tokens.truncate(before);
            tokens.extend(self.unknown);
        }
    }

    fn pieces(&self, word: &str, vocabulary: &Vocabulary, tokens: &mut Vec<u32>) -> bool {
        let mut start = 0;
        while start < word.len() {
            let most = word.len().min(start + self.longest);
            let found = (start + 1..=most).rev().find_map(|end| {
                let token = vocabulary.token(word.get(start..end)?)?;
                Some((token, end))
            });
            let Some((token, end)) = found else {
                return false;
            };
            tokens.push(token);
            start = end;
        }
        true
    }
}
