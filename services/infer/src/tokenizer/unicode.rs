//! Kinds of characters, from the tables of the pattern engine.

use std::sync::LazyLock;

use regex_syntax::hir::{Class, HirKind};

/// Ranges of characters, sorted.
type Ranges = Vec<(char, char)>;

static PUNCTUATION: LazyLock<Ranges> = LazyLock::new(|| ranges(r"\p{P}"));
static ACCENTS: LazyLock<Ranges> = LazyLock::new(|| ranges(r"\p{Mn}"));
static OTHERS: LazyLock<Ranges> = LazyLock::new(|| ranges(r"\p{C}"));
static DIGITS: LazyLock<Ranges> = LazyLock::new(|| ranges(r"\p{N}"));

fn ranges(class: &str) -> Ranges {
    let parsed = regex_syntax::parse(class).expect("the class is one that Unicode has");
    match parsed.kind() {
        HirKind::Class(Class::Unicode(class)) => class
            .iter()
            .map(|range| (range.start(), range.end()))
            .collect(),
        _ => Vec::new(),
    }
}

fn within(ranges: &Ranges, letter: char) -> bool {
    let place = ranges.partition_point(|&(_, end)| end < letter);
    ranges.get(place).is_some_and(|&(start, _)| start <= letter)
}

/// Punctuation as BERT means it: Unicode's, and all signs of ASCII.
pub(super) fn punctuation(letter: char) -> bool {
    letter.is_ascii_punctuation() || (!letter.is_ascii() && within(&PUNCTUATION, letter))
}

/// A mark above or below a letter.
pub(super) fn accent(letter: char) -> bool {
    within(&ACCENTS, letter)
}

/// Control and format characters and what is no character (yet).
pub(super) fn control(letter: char) -> bool {
    within(&OTHERS, letter)
}

/// A number's character.
pub(super) fn digit(letter: char) -> bool {
    within(&DIGITS, letter)
}

/// A Chinese character in BERT's eyes: each is a word.
pub(super) fn chinese(letter: char) -> bool {
    matches!(letter,
        '\u{4E00}'..='\u{9FFF}' | '\u{3400}'..='\u{4DBF}' | '\u{20000}'..='\u{2A6DF}'
        | '\u{2A700}'..='\u{2B73F}' | '\u{2B740}'..='\u{2B81F}' | '\u{2B920}'..='\u{2CEAF}'
        | '\u{F900}'..='\u{FAFF}' | '\u{2F800}'..='\u{2FA1F}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_are_what_unicode_says() {
        assert!(punctuation('$') && punctuation('«') && punctuation('。') && !punctuation('€'));
        assert!(accent('\u{301}') && !accent('e'));
        assert!(control('\0') && control('\u{200D}') && !control('a'));
        assert!(digit('٣') && digit('½') && !digit('a'));
        assert!(chinese('你') && !chinese('あ'));
    }
}
