//! Text to tokens and back, by the vocabulary in the model's file.
//!
//! Two families: `gpt2` (byte-level pairs in the order of their merges) and `llama`
//! (SentencePiece: pairs by score, bytes for what has no piece).

mod bytes;
mod error;
mod merge;
mod pairs;
mod pieces;
mod split;
mod stream;
mod vocabulary;

pub use error::Error;
pub use stream::Utf8Stream;
pub use vocabulary::Vocabulary;

use fancy_regex::Regex;

use crate::gguf::Metadata;
use pairs::Pairs;
use pieces::Pieces;

/// A model's tokenizer.
pub struct Tokenizer {
    vocabulary: Vocabulary,
    family: Family,
    /// Finds special tokens in text, longest first. None when the vocabulary has none.
    special: Option<Regex>,
}

enum Family {
    Pairs(Pairs),
    Pieces(Pieces),
}

impl Tokenizer {
    /// Builds the tokenizer that the metadata describes.
    ///
    /// # Errors
    /// When something is missing, contradicts itself, or is of another family.
    pub fn read(metadata: &Metadata) -> Result<Self, Error> {
        let key = "tokenizer.ggml.model";
        let model = crate::gguf::required(key, metadata.text(key)?)?;
        let mut vocabulary = Vocabulary::read(metadata)?;
        let family = match model {
            "gpt2" => {
                let pairs = Pairs::read(metadata, &vocabulary)?;
                vocabulary.begin_by_default(pairs.begins());
                Family::Pairs(pairs)
            }
            "llama" => {
                vocabulary.begin_by_default(true);
                Family::Pieces(Pieces::read(metadata, &vocabulary)?)
            }
            other => {
                return Err(Error::Family {
                    found: other.to_owned(),
                    allowed: "gpt2, llama",
                });
            }
        };
        let special = special_pattern(&vocabulary)?;
        Ok(Self {
            vocabulary,
            family,
            special,
        })
    }

    /// The vocabulary.
    #[must_use]
    pub fn vocabulary(&self) -> &Vocabulary {
        &self.vocabulary
    }

    /// The tokens of `text`, in which special tokens are recognised by their names. The token
    /// that begins a text is put first when the model wants it and the text does not have it.
    ///
    /// # Errors
    /// When the text defeats the pattern that splits it (its backtracking is bounded).
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, Error> {
        let mut tokens = Vec::new();
        let mut rest = 0;
        if let Some(special) = &self.special {
            for found in special.find_iter(text) {
                let found = found.map_err(Error::split)?;
                self.encode_plain(&text[rest..found.start()], &mut tokens)?;
                tokens.extend(self.vocabulary.token(found.as_str()));
                rest = found.end();
            }
        }
        self.encode_plain(&text[rest..], &mut tokens)?;
        if let Some(begin) = self.vocabulary.begin()
            && tokens.first() != Some(&begin)
        {
            tokens.insert(0, begin);
        }
        Ok(tokens)
    }

    /// Encodes text without special tokens.
    fn encode_plain(&self, text: &str, tokens: &mut Vec<u32>) -> Result<(), Error> {
        if text.is_empty() {
            return Ok(());
        }
        match &self.family {
            Family::Pairs(pairs) => pairs.encode(text, &self.vocabulary, tokens),
            Family::Pieces(pieces) => {
                pieces.encode(text, &self.vocabulary, tokens);
                Ok(())
            }
        }
    }

    /// The bytes that a token stands for; none for control tokens. They may be a part of a
    /// character: see [`Utf8Stream`].
    #[must_use]
    pub fn bytes(&self, token: u32) -> Vec<u8> {
        let Some(entry) = self.vocabulary.entry(token) else {
            return Vec::new();
        };
        match (entry.kind, &self.family) {
            (vocabulary::Kind::Control | vocabulary::Kind::Unknown, _) => Vec::new(),
            (vocabulary::Kind::UserDefined, _) => entry.text.clone().into_bytes(),
            (_, Family::Pairs(pairs)) => pairs.bytes(&entry.text),
            (kind, Family::Pieces(_)) => pieces::bytes(&entry.text, kind),
        }
    }
}

fn special_pattern(vocabulary: &Vocabulary) -> Result<Option<Regex>, Error> {
    let mut names: Vec<&str> = vocabulary.special().collect();
    if names.is_empty() {
        return Ok(None);
    }
    // An alternation takes the first that fits: the longest must come first.
    names.sort_by_key(|name| std::cmp::Reverse(name.len()));
    let names: Vec<_> = names.into_iter().map(fancy_regex::escape).collect();
    Regex::new(&names.join("|")).map(Some).map_err(Error::split)
}
