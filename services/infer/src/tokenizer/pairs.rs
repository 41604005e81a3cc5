//! Byte pair encoding: words, in GPT-2's letters or as they are, joined in the order of merges.

use std::collections::HashMap;

use super::bytes::{letter, name};
use super::merge::{Symbol, merge};
use super::vocabulary::Spelling;
use super::{Error, Vocabulary};

/// No token at all; joins with nothing.
const NONE: u32 = u32::MAX;

/// Merges, and what is done where they do not help.
pub(super) struct Pairs {
    spelling: Spelling,
    /// A word that is a token is taken whole, whatever the merges say.
    whole_words: bool,
    /// The rank of a pair of symbols and the symbol that it becomes.
    merges: HashMap<(u32, u32), (u32, u32)>,
    /// Texts of merges that are no tokens: numbered after the vocabulary.
    others: HashMap<String, u32>,
    first_other: u32,
    /// The token of each byte's letter, or of its name.
    bytes: Vec<u32>,
    unknown: Option<u32>,
}

/// How a [`Pairs`] behaves.
pub(super) struct Habits {
    /// How tokens are written.
    pub spelling: Spelling,
    /// Whether a word that is a token is taken whole.
    pub whole_words: bool,
    /// What stands for a character that the vocabulary has neither whole nor in bytes.
    pub unknown: Option<u32>,
}

impl Pairs {
    /// `merges` are pairs of texts, the best first. `key` names their list.
    pub(super) fn new<'m>(
        merges: impl Iterator<Item = (&'m str, &'m str)>,
        habits: Habits,
        vocabulary: &Vocabulary,
    ) -> Self {
        let first_other = vocabulary.len() as u32;
        let mut others = HashMap::new();
        let mut number = |text: &str| {
            vocabulary.token(text).unwrap_or_else(|| {
                let next = first_other + others.len() as u32;
                *others.entry(text.to_owned()).or_insert(next)
            })
        };
        let mut ranks = HashMap::new();
        for (rank, (left, right)) in merges.enumerate() {
            let pair = (number(left), number(right));
            let joined = number(&[left, right].concat());
            ranks.entry(pair).or_insert((rank as u32, joined));
        }
        let written = |byte| match habits.spelling {
            Spelling::Letters => letter(byte).to_string(),
            Spelling::Plain => name(byte),
        };
        let bytes = (0..=255).map(|byte| vocabulary.token(&written(byte)).unwrap_or(NONE));
        Self {
            spelling: habits.spelling,
            whole_words: habits.whole_words,
            merges: ranks,
            others,
            first_other,
            bytes: bytes.collect(),
            unknown: habits.unknown,
        }
    }

    /// Encodes one word.
    pub(super) fn encode(&self, word: &str, vocabulary: &Vocabulary, tokens: &mut Vec<u32>) {
        if self.whole_words {
            let whole = match self.spelling {
                Spelling::Letters => {
                    let written: String = word.bytes().map(letter).collect();
                    vocabulary.token(&written)
                }
                Spelling::Plain => vocabulary.token(word),
            };
            if let Some(token) = whole {
                return tokens.push(token);
            }
        }
        let join = |left: &Symbol, right: &Symbol| {
            let &(rank, joined) = self.merges.get(&(left.token, right.token))?;
            Some((-f64::from(rank), joined))
        };
        match self.spelling {
            Spelling::Letters => {
                let symbols = word.bytes().enumerate().map(|(place, byte)| Symbol {
                    token: self.bytes[usize::from(byte)],
                    start: place,
                    end: place + 1,
                });
                self.emit(word, merge(symbols, join), tokens);
            }
            Spelling::Plain => {
                let symbols = word.char_indices().map(|(start, letter)| {
                    let end = start + letter.len_utf8();
                    let text = &word[start..end];
                    let token = vocabulary.token(text);
                    Symbol {
                        token: token.unwrap_or_else(|| *self.others.get(text).unwrap_or(&NONE)),
                        start,
                        end,
                    }
                });
                self.emit(word, merge(symbols, join), tokens);
            }
        }
    }

    /// Writes symbols as tokens; what is no token becomes bytes, or the unknown token once for all
    /// that is unknown together, or nothing.
    fn emit(&self, word: &str, symbols: impl Iterator<Item = Symbol>, tokens: &mut Vec<u32>) {
        let mut unknown_before = false;
        for symbol in symbols {
            if symbol.token < self.first_other {
                tokens.push(symbol.token);
                unknown_before = false;
                continue;
            }
            let bytes = word.as_bytes()[symbol.start..symbol.end]
                .iter()
                .map(|&byte| self.bytes[usize::from(byte)]);
            if bytes.clone().all(|token| token == NONE) {
                if !unknown_before {
                    tokens.extend(self.unknown);
                }
                unknown_before = true;
            } else {
                tokens.extend(bytes.filter(|&token| token != NONE));
                unknown_before = false;
            }
        }
    }
}

/// The two parts of a merge that is written as one line.
///
/// # Errors
/// When there is no space between two parts.
pub(super) fn parts<'l>(
    line: &'l str,
    place: usize,
    key: &'static str,
) -> Result<(&'l str, &'l str), Error> {
    // The left part may begin with a space that is itself; none of its others is one.
    let space = line
        .char_indices()
        .skip(1)
        .find(|(_, letter)| *letter == ' ');
    space
        .map(|(middle, _)| (&line[..middle], &line[middle + 1..]))
        .ok_or_else(|| Error::Entry {
            key,
            place,
            found: format!("{line:?}"),
            allowed: "two parts with a space between".to_owned(),
        })
}
