//! The list of tokens, with their kinds and roles.

use std::collections::{HashMap, HashSet};

use super::Error;
use crate::gguf::{Metadata, Value, required};

const TOKENS: &str = "tokenizer.ggml.tokens";
const TYPES: &str = "tokenizer.ggml.token_type";

/// Names by which well-known models end a turn, although their files name another token as
/// the end of the text.
const TURN_ENDS: [&str; 6] = [
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "<|end_of_text|>",
];

/// What a token is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A piece of text.
    Normal,
    /// What no piece fits.
    Unknown,
    /// A mark that is not text.
    Control,
    /// Text that is always one token.
    UserDefined,
    /// One byte, written `<0x0A>`.
    Byte,
}

/// One token.
#[derive(Debug, Clone)]
pub struct Entry {
    /// As the vocabulary writes it.
    pub text: String,
    /// What it is for.
    pub kind: Kind,
}

/// All tokens of a model.
pub struct Vocabulary {
    entries: Vec<Entry>,
    numbers: HashMap<String, u32>,
    begin: Option<u32>,
    add_begin: Option<bool>,
    ends: HashSet<u32>,
    end: Option<u32>,
}

impl Vocabulary {
    pub(super) fn read(metadata: &Metadata) -> Result<Self, Error> {
        let texts = required(TOKENS, metadata.texts(TOKENS)?)?;
        if texts.is_empty() {
            return Err(Error::Count {
                key: TOKENS,
                found: 0,
                allowed: 1,
            });
        }
        let kinds = read_kinds(metadata, texts.len())?;
        let entries: Vec<_> = texts
            .iter()
            .zip(kinds)
            .map(|(&text, kind)| Entry {
                text: text.to_owned(),
                kind,
            })
            .collect();
        let mut numbers = HashMap::with_capacity(entries.len());
        for (number, entry) in entries.iter().enumerate() {
            // Some files list a padding text twice: the first is the one that text becomes.
            numbers.entry(entry.text.clone()).or_insert(number as u32);
        }
        let role = |key| read_role(metadata, key, entries.len());
        let begin = role("tokenizer.ggml.bos_token_id")?;
        let end = role("tokenizer.ggml.eos_token_id")?;
        let mut ends: HashSet<u32> = end.into_iter().collect();
        ends.extend(role("tokenizer.ggml.eot_token_id")?);
        for name in TURN_ENDS {
            let number = numbers.get(name).copied();
            ends.extend(number.filter(|&n| entries[n as usize].kind == Kind::Control));
        }
        let add_begin = metadata.truth("tokenizer.ggml.add_bos_token")?;
        Ok(Self {
            entries,
            numbers,
            begin,
            add_begin,
            ends,
            end,
        })
    }

    pub(super) fn begin_by_default(&mut self, default: bool) {
        self.add_begin.get_or_insert(default);
    }

    /// Count of tokens.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Never: a vocabulary has at least one token.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// A token by its number.
    #[must_use]
    pub fn entry(&self, token: u32) -> Option<&Entry> {
        self.entries.get(token as usize)
    }

    /// A token by its text.
    #[must_use]
    pub fn token(&self, text: &str) -> Option<u32> {
        self.numbers.get(text).copied()
    }

    /// The token that a prompt begins with, if this model wants one.
    #[must_use]
    pub fn begin(&self) -> Option<u32> {
        self.begin.filter(|_| self.add_begin == Some(true))
    }

    /// Whether a token ends an answer.
    #[must_use]
    pub fn ends(&self, token: u32) -> bool {
        self.ends.contains(&token)
    }

    /// The texts of the begin and end tokens, for templates.
    #[must_use]
    pub fn marks(&self) -> (&str, &str) {
        let text = |token: Option<u32>| token.and_then(|t| self.entry(t)).map_or("", |e| &e.text);
        (text(self.begin), text(self.end))
    }

    pub(super) fn special(&self) -> impl Iterator<Item = &str> {
        self.entries
            .iter()
            .filter(|entry| {
                matches!(
                    entry.kind,
                    Kind::Control | Kind::UserDefined | Kind::Unknown
                )
            })
            .map(|entry| entry.text.as_str())
            .filter(|text| !text.is_empty())
    }
}

fn read_kinds(metadata: &Metadata, count: usize) -> Result<Vec<Kind>, Error> {
    let Some(values) = metadata.array(TYPES)? else {
        return Ok(vec![Kind::Normal; count]);
    };
    if values.len() != count {
        return Err(Error::Count {
            key: TYPES,
            found: values.len(),
            allowed: count,
        });
    }
    let kind = |(place, value): (usize, &Value)| match value {
        // 5 marks a token that is listed but not used.
        Value::Signed(1 | 5) | Value::Unsigned(1 | 5) => Ok(Kind::Normal),
        Value::Signed(2) | Value::Unsigned(2) => Ok(Kind::Unknown),
        Value::Signed(3) | Value::Unsigned(3) => Ok(Kind::Control),
        Value::Signed(4) | Value::Unsigned(4) => Ok(Kind::UserDefined),
        Value::Signed(6) | Value::Unsigned(6) => Ok(Kind::Byte),
        other => Err(Error::Entry {
            key: TYPES,
            place,
            found: format!("{other:?}"),
            allowed: "1 to 6".to_owned(),
        }),
    };
    values.iter().enumerate().map(kind).collect()
}

fn read_role(metadata: &Metadata, key: &'static str, count: usize) -> Result<Option<u32>, Error> {
    let Some(found) = metadata.number(key)? else {
        return Ok(None);
    };
    if found >= count {
        return Err(Error::Entry {
            key,
            place: 0,
            found: found.to_string(),
            allowed: format!("a token below {count}"),
        });
    }
    Ok(Some(found as u32))
}
