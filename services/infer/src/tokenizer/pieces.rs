//! SentencePiece with scores: neighbours that together are a token are joined, the best score
//! first; what is left becomes bytes.

use super::Vocabulary;
use super::bytes::name;
use super::merge::{Symbol, merge};

/// Stands for a letter that is no token; it may still be joined with its neighbours.
const NONE: u32 = u32::MAX;

/// Scores, and the tokens of bytes.
pub(super) struct Pieces {
    scores: Vec<f32>,
    bytes: Vec<Option<u32>>,
    unknown: Option<u32>,
}

impl Pieces {
    /// `scores` has one number for each token, none of them NaN.
    pub(super) fn new(scores: Vec<f32>, unknown: Option<u32>, vocabulary: &Vocabulary) -> Self {
        let byte = |byte: u8| {
            let itself = || {
                char::from(byte)
                    .is_ascii()
                    .then(|| char::from(byte).to_string())
            };
            vocabulary
                .token(&name(byte))
                .or_else(|| vocabulary.token(&itself()?))
        };
        Self {
            scores,
            bytes: (0..=255).map(byte).collect(),
            unknown,
        }
    }

    /// Encodes text in which spaces are written as the vocabulary writes them.
    pub(super) fn encode(&self, text: &str, vocabulary: &Vocabulary, tokens: &mut Vec<u32>) {
        let symbols = text.char_indices().map(|(start, letter)| {
            let end = start + letter.len_utf8();
            Symbol {
                token: vocabulary.token(&text[start..end]).unwrap_or(NONE),
                start,
                end,
            }
        });
        let joined = merge(symbols, |left, right| {
            let token = vocabulary.token(&text[left.start..right.end])?;
            Some((f64::from(self.scores[token as usize]), token))
        });
        for symbol in joined {
            if symbol.token != NONE {
                tokens.push(symbol.token);
                continue;
            }
            for byte in text[symbol.start..symbol.end].bytes() {
                tokens.extend(self.bytes[usize::from(byte)].or(self.unknown));
            }
        }
    }
}
