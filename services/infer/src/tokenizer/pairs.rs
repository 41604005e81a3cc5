//! The `gpt2` family: byte-level pair encoding.

use std::collections::HashMap;

use super::bytes::letter;
use super::merge::merge;
use super::split::Split;
use super::{Error, Vocabulary};
use crate::gguf::{Metadata, required};

const MERGES: &str = "tokenizer.ggml.merges";

/// Merges and the rules that cut words.
pub(super) struct Pairs {
    split: Split,
    /// The rank of a pair of tokens and the token that it becomes.
    merges: HashMap<(u32, u32), (u32, u32)>,
    /// The token of each byte, where the vocabulary has one.
    letters: Vec<Option<u32>>,
    bytes: HashMap<char, u8>,
}

impl Pairs {
    pub(super) fn read(metadata: &Metadata, vocabulary: &Vocabulary) -> Result<Self, Error> {
        let split = Split::named(metadata.text("tokenizer.ggml.pre")?.unwrap_or("gpt-2"))?;
        let lines = required(MERGES, metadata.texts(MERGES)?)?;
        let mut merges = HashMap::with_capacity(lines.len());
        for (place, line) in lines.into_iter().enumerate() {
            let wrong = |allowed: &str| Error::Entry {
                key: MERGES,
                place,
                found: format!("{line:?}"),
                allowed: allowed.to_owned(),
            };
            // The left part may begin with a space that is itself; none of its others is one.
            let space = line
                .char_indices()
                .skip(1)
                .find(|(_, letter)| *letter == ' ');
            let (left, right) = space
                .map(|(middle, _)| (&line[..middle], &line[middle + 1..]))
                .ok_or_else(|| wrong("two parts with a space between"))?;
            let token = |text: &str| vocabulary.token(text);
            let joined = token(&[left, right].concat());
            match (token(left), token(right), joined) {
                (Some(left), Some(right), Some(joined)) => {
                    merges
                        .entry((left, right))
                        .or_insert((place as u32, joined));
                }
                _ => return Err(wrong("parts that are tokens and make a token")),
            }
        }
        let letters = (0..=255)
            .map(|byte| vocabulary.token(&letter(byte).to_string()))
            .collect();
        let bytes = (0..=255).map(|byte| (letter(byte), byte)).collect();
        Ok(Self {
            split,
            merges,
            letters,
            bytes,
        })
    }

    pub(super) fn begins(&self) -> bool {
        self.split.begins
    }

    pub(super) fn encode(
        &self,
        text: &str,
        vocabulary: &Vocabulary,
        tokens: &mut Vec<u32>,
    ) -> Result<(), Error> {
        for word in self.split.words(text)? {
            if self.split.whole_words {
                let written: String = word.bytes().map(letter).collect();
                if let Some(token) = vocabulary.token(&written) {
                    tokens.push(token);
                    continue;
                }
            }
            // A byte that the vocabulary lacks has no token: it is left out.
            let symbols = word
                .bytes()
                .filter_map(|byte| self.letters[usize::from(byte)]);
            tokens.extend(merge(symbols, |left, right| {
                let &(rank, joined) = self.merges.get(&(left, right))?;
                Some((-f64::from(rank), joined))
            }));
        }
        Ok(())
    }

    /// The bytes that a token's letters stand for; other letters stand for themselves.
    pub(super) fn bytes(&self, text: &str) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(text.len());
        for letter in text.chars() {
            match self.bytes.get(&letter) {
                Some(&byte) => bytes.push(byte),
                None => bytes.extend(letter.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        bytes
    }
}
