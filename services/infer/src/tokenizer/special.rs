//! Finds the tokens that stand for themselves in a text: marks such as `<|im_end|>`, and words that
//! are always one token.

use aho_corasick::{AhoCorasick, MatchKind};

use super::Error;
use super::vocabulary::{Kind, Vocabulary};

/// Most bytes of all such tokens together: real vocabularies have some 100 KB of them, and a file
/// from anywhere must not make us build a machine of gigabytes.
const MAX_BYTES: usize = 1024 * 1024;

/// Spaces as C's `isspace` knows them.
const SPACES: [char; 6] = [' ', '\t', '\n', '\r', '\u{B}', '\u{C}'];

/// What a text is made of.
pub(super) enum Part<'t> {
    /// A token by its name.
    Token(u32),
    /// Anything else; never empty.
    Text(&'t str),
}

/// A token that takes the spaces beside it with it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Strip {
    pub(super) left: bool,
    pub(super) right: bool,
}

struct Mark {
    token: u32,
    strip: Strip,
}

/// Finds marks, the leftmost and then the longest first.
pub(super) struct Special {
    /// All of them.
    all: Finder,
    /// Those that are text rather than control: found even in text that must not control.
    texts: Finder,
}

struct Finder {
    automaton: AhoCorasick,
    marks: Vec<Mark>,
}

impl Special {
    /// Of the vocabulary's tokens that are not ordinary; `strip` says which take spaces.
    pub(super) fn new(
        vocabulary: &Vocabulary,
        strip: impl Fn(u32) -> Strip,
    ) -> Result<Self, Error> {
        let of = |kinds: &[Kind]| {
            let tokens = (0..vocabulary.len() as u32).filter_map(|token| {
                let entry = vocabulary.entry(token)?;
                let named = kinds.contains(&entry.kind) && !entry.text.is_empty();
                // A text that is listed twice is the first token.
                let first = named && vocabulary.token(&entry.text) == Some(token);
                first.then_some((token, entry.text.as_str()))
            });
            Finder::new(tokens.collect(), &strip)
        };
        Ok(Self {
            all: of(&[Kind::Control, Kind::UserDefined, Kind::Unknown])?,
            texts: of(&[Kind::UserDefined])?,
        })
    }

    /// The parts of `text`, in order. `control`: whether marks are found that are not text.
    pub(super) fn parts<'t>(&self, text: &'t str, control: bool) -> Vec<Part<'t>> {
        let finder = if control { &self.all } else { &self.texts };
        let mut parts = Vec::new();
        let mut rest = 0;
        let mut add = |mut between: &'t str, before: Strip, after: Strip, mark: Option<u32>| {
            if before.right {
                between = between.trim_start_matches(SPACES);
            }
            if after.left {
                between = between.trim_end_matches(SPACES);
            }
            if !between.is_empty() {
                parts.push(Part::Text(between));
            }
            parts.extend(mark.map(Part::Token));
        };
        let mut before = Strip::default();
        for found in finder.automaton.find_iter(text) {
            let mark = &finder.marks[found.pattern().as_usize()];
            add(
                &text[rest..found.start()],
                before,
                mark.strip,
                Some(mark.token),
            );
            rest = found.end();
            before = mark.strip;
        }
        add(&text[rest..], before, Strip::default(), None);
        parts
    }
}

impl Finder {
    fn new(tokens: Vec<(u32, &str)>, strip: impl Fn(u32) -> Strip) -> Result<Self, Error> {
        let bytes: usize = tokens.iter().map(|(_, text)| text.len()).sum();
        let too_many = || Error::Special {
            found: bytes,
            allowed: MAX_BYTES,
        };
        if bytes > MAX_BYTES {
            return Err(too_many());
        }
        let automaton = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostLongest)
            .build(tokens.iter().map(|(_, text)| text))
            .map_err(|_| too_many())?;
        let marks = tokens
            .into_iter()
            .map(|(token, _)| Mark {
                token,
                strip: strip(token),
            })
            .collect();
        Ok(Self { automaton, marks })
    }
}
