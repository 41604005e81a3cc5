//! The `llama` family: SentencePiece with scores, and bytes for what has no piece.

use std::cell::RefCell;

use super::merge::merge;
use super::vocabulary::Kind;
use super::{Error, Vocabulary};
use crate::gguf::{Metadata, Value, required};

const SCORES: &str = "tokenizer.ggml.scores";

/// How SentencePiece writes a space.
const SPACE: &str = "\u{2581}";

/// Numbers from here on stand for letters without a token, while pieces are joined.
const UNKNOWN: u32 = 1 << 31;

/// Scores and the habit of a leading space.
pub(super) struct Pieces {
    scores: Vec<f64>,
    leading_space: bool,
    bytes: Vec<Option<u32>>,
    unknown: Option<u32>,
}

impl Pieces {
    pub(super) fn read(metadata: &Metadata, vocabulary: &Vocabulary) -> Result<Self, Error> {
        let values = required(SCORES, metadata.array(SCORES)?)?;
        if values.len() != vocabulary.len() {
            let (found, allowed) = (values.len(), vocabulary.len());
            return Err(Error::Count {
                key: SCORES,
                found,
                allowed,
            });
        }
        let score = |(place, value): (usize, &Value)| match value {
            Value::Float(score) if !score.is_nan() => Ok(*score),
            other => Err(Error::Entry {
                key: SCORES,
                place,
                found: format!("{other:?}"),
                allowed: "a number".to_owned(),
            }),
        };
        let scores = values
            .iter()
            .enumerate()
            .map(score)
            .collect::<Result<_, _>>()?;
        let bytes = (0..=255).map(|byte: u8| vocabulary.token(&format!("<0x{byte:02X}>")));
        let unknown = metadata.number("tokenizer.ggml.unknown_token_id")?;
        let unknown = unknown
            .filter(|&token| token < vocabulary.len())
            .map(|token| token as u32);
        let leading_space = metadata
            .truth("tokenizer.ggml.add_space_prefix")?
            .unwrap_or(true);
        Ok(Self {
            scores,
            leading_space,
            bytes: bytes.collect(),
            unknown,
        })
    }

    /// Encodes text that stands at the beginning or after a special token: there the family
    /// puts a space first.
    pub(super) fn encode(&self, text: &str, vocabulary: &Vocabulary, tokens: &mut Vec<u32>) {
        let prefix = if self.leading_space { " " } else { "" };
        let text = [prefix, text].concat().replace(' ', SPACE);
        // Letters without a token keep their place: pieces do not join across them, but a
        // vocabulary may have a piece of which a letter is no token, so texts are what is joined.
        let texts = RefCell::new(Vec::<String>::new());
        let number = |text: &str| {
            vocabulary.token(text).unwrap_or_else(|| {
                let mut texts = texts.borrow_mut();
                texts.push(text.to_owned());
                UNKNOWN + (texts.len() - 1) as u32
            })
        };
        let written = |number: u32| match number.checked_sub(UNKNOWN) {
            Some(place) => texts.borrow()[place as usize].clone(),
            None => vocabulary
                .entry(number)
                .map_or_else(String::new, |entry| entry.text.clone()),
        };
        let mut letter_bytes = [0; 4];
        let symbols: Vec<u32> = text
            .chars()
            .map(|letter| number(letter.encode_utf8(&mut letter_bytes)))
            .collect();
        let joined = merge(symbols.into_iter(), |left, right| {
            let token = vocabulary.token(&[written(left), written(right)].concat())?;
            Some((self.scores[token as usize], token))
        });
        for symbol in joined {
            if symbol < UNKNOWN {
                tokens.push(symbol);
                continue;
            }
            for byte in written(symbol).bytes() {
                tokens.extend(self.bytes[usize::from(byte)].or(self.unknown));
            }
        }
    }
}

/// The bytes that a token stands for.
pub(super) fn bytes(text: &str, kind: Kind) -> Vec<u8> {
    if kind == Kind::Byte {
        let digits = text
            .strip_prefix("<0x")
            .and_then(|rest| rest.strip_suffix('>'));
        if let Some(byte) = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            return vec![byte];
        }
    }
    text.replace(SPACE, " ").into_bytes()
}
