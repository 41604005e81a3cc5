//! Unigram: of all ways to cut a text into tokens the one with the best sum of scores.

use super::Vocabulary;
use super::vocabulary::Kind;

/// How much worse an unknown character is than the worst token.
const UNKNOWN_PENALTY: f64 = 10.0;

/// Scores, and the tokens in the order of their texts.
pub(super) struct Unigram {
    /// Tokens that text can become, sorted by their texts.
    sorted: Vec<u32>,
    /// Where the texts that begin with a byte start in `sorted`; the last entry is its length.
    first: Vec<usize>,
    scores: Vec<f64>,
    unknown: u32,
    unknown_score: f64,
}

/// The best way to a place in the text: its last token, where that begins, and the sum.
#[derive(Clone, Copy)]
struct Way {
    token: u32,
    start: usize,
    score: f64,
}

impl Unigram {
    /// `scores` has one number for each token, none of them NaN.
    pub(super) fn new(scores: Vec<f64>, unknown: u32, vocabulary: &Vocabulary) -> Self {
        let kind = |token: u32| vocabulary.entry(token).map(|entry| entry.kind);
        let text = |token: &u32| vocabulary.entry(*token).map_or("", |entry| &entry.text);
        let mut sorted: Vec<u32> = (0..vocabulary.len() as u32)
            .filter(|&token| {
                matches!(kind(token), Some(Kind::Normal | Kind::Unused | Kind::Byte))
                    && !text(&token).is_empty()
            })
            .collect();
        sorted.sort_by(|a, b| text(a).as_bytes().cmp(text(b).as_bytes()));
        let first = (0..=256)
            .map(|byte| {
                sorted.partition_point(|token| usize::from(text(token).as_bytes()[0]) < byte)
            })
            .collect();
        let worst = (0..vocabulary.len() as u32)
            .filter(|&token| kind(token) == Some(Kind::Normal))
            .map(|token| scores[token as usize])
            .fold(f64::INFINITY, f64::min);
        Self {
            sorted,
            first,
            unknown,
            unknown_score: if worst.is_finite() { worst } else { 0.0 } - UNKNOWN_PENALTY,
            scores,
        }
    }

    /// Encodes text; unknown characters beside each other are one unknown token.
    pub(super) fn encode(&self, text: &str, vocabulary: &Vocabulary, tokens: &mut Vec<u32>) {
        let unreached = Way {
            token: self.unknown,
            start: 0,
            score: f64::NEG_INFINITY,
        };
        let mut ways = vec![unreached; text.len() + 1];
        ways[0].score = 0.0;
        for (start, letter) in text.char_indices() {
            let before = ways[start].score;
            let mut improve = |end: usize, token: u32, score: f64| {
                if before + score > ways[end].score {
                    ways[end] = Way {
                        token,
                        start,
                        score: before + score,
                    };
                }
            };
            let mut whole = false;
            self.prefixes(&text.as_bytes()[start..], vocabulary, |length, token| {
                whole |= length == letter.len_utf8();
                improve(start + length, token, self.scores[token as usize]);
            });
            if !whole {
                improve(start + letter.len_utf8(), self.unknown, self.unknown_score);
            }
        }
        let mut cut = Vec::new();
        let mut end = text.len();
        while end > 0 {
            let way = ways[end];
            cut.push(way.token);
            end = way.start;
        }
        let mut unknown_before = false;
        for token in cut.into_iter().rev() {
            let unknown = token == self.unknown;
            if !(unknown && unknown_before) {
                tokens.push(token);
            }
            unknown_before = unknown;
        }
    }

    /// Calls `found` with the length and the number of every token that `text` begins with.
    fn prefixes(&self, text: &[u8], vocabulary: &Vocabulary, mut found: impl FnMut(usize, u32)) {
        let Some(&byte) = text.first() else {
            return;
        };
        let written = |token: u32| {
            vocabulary
                .entry(token)
                .map_or(&[][..], |e| e.text.as_bytes())
        };
        let byte = usize::from(byte);
        let mut range = &self.sorted[self.first[byte]..self.first[byte + 1]];
        let mut length = 1;
        loop {
            // Sorted: what ends here stands before what goes on.
            while let Some((&token, rest)) = range.split_first()
                && written(token).len() == length
            {
                found(length, token);
                range = rest;
            }
            let Some(&next) = text.get(length) else {
                return;
            };
            let low = range.partition_point(|&token| written(token)[length] < next);
            let high = range.partition_point(|&token| written(token)[length] <= next);
            range = &range[low..high];
            if range.is_empty() {
                return;
            }
            length += 1;
        }
    }
}
