//! Text to tokens and back, by the vocabulary in the model's file.
//!
//! A text goes through four rooms: [`special`] finds the tokens that stand for themselves,
//! [`normalize`] changes characters, [`split`] cuts words, and one of four models makes tokens of
//! them: [`pairs`] (BPE), [`pieces`] (SentencePiece with scores), [`words`] (WordPiece) and
//! [`unigram`]. [`read`] builds all that from GGUF metadata as llama.cpp understands it, [`json`] from
//! Hugging Face's files.
//!
//! What they must never do: take more than about n log n steps, or trust a number in a file.

mod bytes;
mod charsmap;
mod cutting;
mod error;
mod json;
mod merge;
mod normalize;
mod pairs;
mod pieces;
mod read;
mod rules;
mod special;
mod split;
mod stream;
mod unicode;
mod unigram;
mod vocabulary;
mod words;

pub use error::Error;
pub use json::Facts;
pub use stream::Utf8Stream;
pub use vocabulary::{Entry, Kind, Vocabulary};

use std::borrow::Cow;

use crate::gguf::Metadata;
use normalize::Normalizer;
use pairs::Pairs;
use pieces::Pieces;
use special::{Part, Special};
use split::Step;
use unigram::Unigram;
use vocabulary::{SPACE, Spelling};
use words::Words;

/// A model's tokenizer.
pub struct Tokenizer {
    vocabulary: Vocabulary,
    special: Special,
    normalizers: Vec<Normalizer>,
    steps: Vec<Step>,
    model: Model,
    spelling: Spelling,
    /// Tokens that every text begins and ends with.
    before: Vec<u32>,
    after: Vec<u32>,
}

enum Model {
    Pairs(Pairs),
    Pieces(Pieces),
    Words(Words),
    Unigram(Unigram),
}

impl Tokenizer {
    /// Builds the tokenizer that the metadata describes.
    ///
    /// # Errors
    /// When something is missing, contradicts itself, or is of another family.
    pub fn read(metadata: &Metadata) -> Result<Self, Error> {
        read::read(metadata)
    }

    /// Builds the tokenizer that a `tokenizer.json` describes; `facts` are from the files beside it.
    ///
    /// # Errors
    /// When it is damaged, or has a part that nothing here does the work of.
    pub fn read_json(json: &[u8], facts: &Facts) -> Result<Self, Error> {
        json::read(json, facts)
    }

    /// The tokens that every text ends with.
    #[must_use]
    pub fn after(&self) -> &[u32] {
        &self.after
    }

    /// The vocabulary.
    #[must_use]
    pub fn vocabulary(&self) -> &Vocabulary {
        &self.vocabulary
    }

    /// What begins each text.
    #[must_use]
    pub fn before(&self) -> &[u32] {
        &self.before
    }

    /// The tokens of `text`, in which special tokens are recognised by their names. The tokens
    /// that begin and end a text are put around it when the model wants them; not a second time
    /// where the text has them (templates write the first).
    ///
    /// # Errors
    /// When the text defeats the pattern that splits it (its backtracking is bounded).
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, Error> {
        let inner = self.encode_part(text, true)?;
        let mut tokens = Vec::with_capacity(inner.len() + 2);
        if !inner.starts_with(&self.before) {
            tokens.extend(&self.before);
        }
        tokens.extend(inner);
        if !tokens.ends_with(&self.after) {
            tokens.extend(&self.after);
        }
        Ok(tokens)
    }

    /// The tokens of `text` alone. `control`: whether marks such as `<|im_end|>` are recognised, or are
    /// text like any other.
    ///
    /// # Errors
    /// As [`Self::encode`].
    pub fn encode_part(&self, text: &str, control: bool) -> Result<Vec<u32>, Error> {
        let mut tokens = Vec::new();
        for (place, part) in self.special.parts(text, control).into_iter().enumerate() {
            match part {
                Part::Token(token) => tokens.push(token),
                Part::Text(text) => self.encode_text(text, place == 0, &mut tokens)?,
            }
        }
        Ok(tokens)
    }

    /// The tokens of a part without marks; `first`: whether the text begins with it.
    fn encode_text(&self, text: &str, first: bool, tokens: &mut Vec<u32>) -> Result<(), Error> {
        let normalized = self
            .normalizers
            .iter()
            .filter(|normalizer| first || !normalizer.is_for_the_first())
            .fold(Cow::Borrowed(text), |text, normalizer| {
                normalizer.apply(text)
            });
        for word in split::words(&self.steps, &normalized)? {
            match &self.model {
                Model::Pairs(pairs) => pairs.encode(word, &self.vocabulary, tokens),
                Model::Pieces(pieces) => pieces.encode(word, &self.vocabulary, tokens),
                Model::Words(words) => words.encode(word, &self.vocabulary, tokens),
                Model::Unigram(unigram) => unigram.encode(word, &self.vocabulary, tokens),
            }
        }
        Ok(())
    }

    /// The most bytes of a text that one token can stand for; None when there is no such bound, because a
    /// whole unknown word is one token or much of a text may be left out.
    #[must_use]
    pub fn longest(&self) -> Option<usize> {
        match self.model {
            Model::Words(_) | Model::Unigram(_) => None,
            // Both spellings are at least as long as the bytes; a character is four at most.
            Model::Pairs(_) | Model::Pieces(_) => (0..self.vocabulary.len() as u32)
                .filter_map(|token| self.vocabulary.entry(token))
                .map(|entry| entry.text.len().max(4))
                .max(),
        }
    }

    /// The bytes that a token stands for; none for control tokens. They may be a part of a
    /// character: see [`Utf8Stream`].
    #[must_use]
    pub fn bytes(&self, token: u32) -> Vec<u8> {
        let Some(entry) = self.vocabulary.entry(token) else {
            return Vec::new();
        };
        match (entry.kind, self.spelling) {
            (Kind::Control | Kind::Unknown | Kind::Unused, _) => Vec::new(),
            (Kind::UserDefined, _) => entry.text.clone().into_bytes(),
            (Kind::Normal | Kind::Byte, Spelling::Letters) => bytes::of_letters(&entry.text),
            (Kind::Byte, Spelling::Plain) if bytes::of_name(&entry.text).is_some() => {
                bytes::of_name(&entry.text).into_iter().collect()
            }
            (Kind::Normal | Kind::Byte, Spelling::Plain) => {
                entry.text.replace(SPACE, " ").into_bytes()
            }
        }
    }
}
