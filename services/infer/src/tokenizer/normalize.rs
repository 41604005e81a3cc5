//! What is done to a text before it is cut into words.

use std::borrow::Cow;

use unicode_normalization::UnicodeNormalization;

use super::charsmap::Charsmap;
use super::unicode;
use super::vocabulary::SPACE;

/// Most bytes by which a replacement may be longer than what it replaces: a file's rules must not
/// blow a text up.
const MAX_REPLACEMENT: usize = 32;

/// One change.
pub(super) enum Normalizer {
    /// BERT's cleaning.
    Bert {
        clean: bool,
        chinese: bool,
        strip_accents: bool,
        lowercase: bool,
    },
    /// One text for another.
    Replace { from: String, to: String },
    /// A text before the text, unless that is empty.
    Prepend(String),
    /// A text before the text, unless it begins so; or only before the whole text's first part.
    Begin { with: String, only_first: bool },
    /// Unicode's ways to write the same letter.
    Form(Form),
    /// SentencePiece's table.
    Charsmap(Charsmap),
    /// SentencePiece's spaces: written as U+2581, one before the text, or only one between words.
    Spaces { prefix: bool, merge: bool },
}

/// A normalization form of Unicode.
#[derive(Debug, Clone, Copy)]
pub(super) enum Form {
    Composed,
    Decomposed,
    CompatibleComposed,
    CompatibleDecomposed,
}

impl Normalizer {
    /// Whether it changes only the part that a text begins with.
    pub(super) fn is_for_the_first(&self) -> bool {
        matches!(
            self,
            Self::Begin {
                only_first: true,
                ..
            }
        )
    }

    /// Changes a text.
    pub(super) fn apply<'t>(&self, text: Cow<'t, str>) -> Cow<'t, str> {
        match self {
            Self::Bert {
                clean,
                chinese,
                strip_accents,
                lowercase,
            } => {
                let letters = text
                    .chars()
                    .filter_map(|letter| clean_letter(letter, *clean));
                let mut out = String::with_capacity(text.len());
                for letter in letters {
                    if *chinese && unicode::chinese(letter) {
                        out.extend([' ', letter, ' ']);
                    } else {
                        out.push(letter);
                    }
                }
                if *strip_accents {
                    out = out
                        .nfd()
                        .filter(|&letter| !unicode::accent(letter))
                        .collect();
                }
                if *lowercase {
                    out = out.chars().flat_map(char::to_lowercase).collect();
                }
                out.into()
            }
            Self::Replace { from, to } => text.replace(from.as_str(), to).into(),
            Self::Prepend(_) if text.is_empty() => text,
            Self::Begin { with, .. } if text.starts_with(with.as_str()) => text,
            Self::Begin { with, .. } => [with, &*text].concat().into(),
            Self::Form(form) => match form {
                Form::Composed => text.nfc().collect(),
                Form::Decomposed => text.nfd().collect(),
                Form::CompatibleComposed => text.nfkc().collect(),
                Form::CompatibleDecomposed => text.nfkd().collect(),
            },
            Self::Prepend(before) => [before, &*text].concat().into(),
            Self::Charsmap(charsmap) => {
                let mut out = String::with_capacity(text.len());
                let mut rest: &str = &text;
                while let Some(letter) = rest.chars().next() {
                    let (length, new) = match charsmap.replacement(rest) {
                        Some((length, new)) if new.len() <= length + MAX_REPLACEMENT => {
                            (length, new)
                        }
                        _ => (letter.len_utf8(), &rest[..letter.len_utf8()]),
                    };
                    out.push_str(new);
                    rest = &rest[length..];
                }
                out.into()
            }
            Self::Spaces { prefix, merge } => spaces(&text, *prefix, *merge).into(),
        }
    }
}

/// A letter as BERT's cleaning leaves it, or nothing.
fn clean_letter(letter: char, clean: bool) -> Option<char> {
    if !clean {
        return Some(letter);
    }
    if letter.is_whitespace() {
        return Some(' ');
    }
    let lost = letter == '\0' || letter == char::REPLACEMENT_CHARACTER || unicode::control(letter);
    (!lost).then_some(letter)
}

fn spaces(text: &str, prefix: bool, merge: bool) -> String {
    let mut out = String::with_capacity(text.len() + SPACE.len());
    let (mut prefixed, mut in_word) = (false, false);
    for letter in text.chars() {
        if letter == ' ' {
            in_word = false;
            if !merge {
                out.push_str(SPACE);
            }
            continue;
        }
        if !in_word {
            in_word = true;
            if (prefix && !prefixed) || merge {
                out.push_str(SPACE);
                prefixed = true;
            }
        }
        out.push(letter);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bert_cleans() {
        let bert = Normalizer::Bert {
            clean: true,
            chinese: true,
            strip_accents: true,
            lowercase: true,
        };
        let cleaned = bert.apply("Ünï\u{0}\u{200b} 你X\t".into());
        assert_eq!(cleaned, "uni  你 x ");
    }

    #[test]
    fn spaces_are_merged_or_kept() {
        assert_eq!(spaces(" a  b ", true, true), "▁a▁b");
        assert_eq!(spaces("a  b ", true, false), "▁a▁▁b▁");
        assert_eq!(spaces("", true, false), "");
    }
}
