//! The list of tokens, with their kinds and roles.

use std::collections::{HashMap, HashSet};

use super::Error;
use crate::gguf::{Metadata, Value, required};

const TOKENS: &str = "tokenizer.ggml.tokens";
const TYPES: &str = "tokenizer.ggml.token_type";

/// How SentencePiece writes a space.
pub(super) const SPACE: &str = "\u{2581}";

/// Names by which well-known models end an answer, although their files name another token, or
/// none, as the end of the text. llama.cpp's list.
const ENDS: [&str; 22] = [
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<|flush|>",
    "<|calls|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "</s>",
    "<|eom_id|>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "[EOS]",
    "<|end_of_text|>",
    "<end_of_utterance>",
    "<eos>",
    "<turn|>",
    "<|tool_response>",
    "<\u{FF5C}end\u{2581}of\u{2581}sentence\u{FF5C}>",
    "[e~[",
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
    /// Listed, but says nothing.
    Unused,
    /// One byte, written `<0x0A>`.
    Byte,
}

/// How a vocabulary writes bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Spelling {
    /// In GPT-2's letters.
    Letters,
    /// As they are, with U+2581 for a space and names for single bytes.
    Plain,
}

/// One token.
#[derive(Debug, Clone)]
pub struct Entry {
    /// As the vocabulary writes it.
    pub text: String,
    /// What it is for.
    pub kind: Kind,
}

/// Tokens with a role of their own.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Roles {
    /// Begins a text.
    pub(super) begin: Option<u32>,
    /// Ends a text.
    pub(super) end: Option<u32>,
    /// Ends a turn.
    pub(super) turn_end: Option<u32>,
    /// Stands for what has no token.
    pub(super) unknown: Option<u32>,
    /// Stands between two texts.
    pub(super) separator: Option<u32>,
}

/// All tokens of a model.
pub struct Vocabulary {
    entries: Vec<Entry>,
    numbers: HashMap<String, u32>,
    pub(super) roles: Roles,
    pub(super) add_begin: bool,
    ends: HashSet<u32>,
}

impl Vocabulary {
    /// Of tokens and roles that are among them.
    pub(super) fn new(entries: Vec<Entry>, roles: Roles) -> Self {
        let mut numbers = HashMap::with_capacity(entries.len());
        for (number, entry) in entries.iter().enumerate() {
            // Some files list a padding text twice: the first is the one that text becomes.
            numbers.entry(entry.text.clone()).or_insert(number as u32);
        }
        let mut ends: HashSet<u32> = roles.end.into_iter().chain(roles.turn_end).collect();
        for name in ENDS {
            let number = numbers.get(name).copied();
            // In a few vocabularies `</s>` is markup that a model may write.
            ends.extend(number.filter(|&n| {
                let kind = entries[n as usize].kind;
                kind == Kind::Control || (kind == Kind::UserDefined && name != "</s>")
            }));
        }
        // The protocol of gpt-oss: a message's end is not the answer's.
        if numbers.contains_key("<|return|>") && numbers.contains_key("<|call|>") {
            numbers.get("<|end|>").map(|number| ends.remove(number));
        }
        Self {
            entries,
            numbers,
            roles,
            add_begin: false,
            ends,
        }
    }

    /// These tokens end an answer, too; those that there are not are left out.
    pub(super) fn also_ends(&mut self, tokens: &[u32]) {
        let count = self.entries.len();
        let known = tokens
            .iter()
            .copied()
            .filter(|&token| (token as usize) < count);
        self.ends.extend(known);
    }

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
        let role = |key| read_role(metadata, key, entries.len());
        let roles = Roles {
            begin: role("tokenizer.ggml.bos_token_id")?,
            end: role("tokenizer.ggml.eos_token_id")?,
            turn_end: role("tokenizer.ggml.eot_token_id")?,
            unknown: role("tokenizer.ggml.unknown_token_id")?,
            // Its name is misspelt in the format's own list of keys.
            separator: match role("tokenizer.ggml.seperator_token_id")? {
                None => role("tokenizer.ggml.separator_token_id")?,
                found => found,
            },
        };
        Ok(Self::new(entries, roles))
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
        self.roles.begin.filter(|_| self.add_begin)
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
        (text(self.roles.begin), text(self.roles.end))
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
        Value::Signed(1) | Value::Unsigned(1) => Ok(Kind::Normal),
        Value::Signed(2) | Value::Unsigned(2) => Ok(Kind::Unknown),
        Value::Signed(3) | Value::Unsigned(3) => Ok(Kind::Control),
        Value::Signed(4) | Value::Unsigned(4) => Ok(Kind::UserDefined),
        Value::Signed(5) | Value::Unsigned(5) => Ok(Kind::Unused),
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
