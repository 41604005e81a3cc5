//! A request as words, and what of a word the model sees.
//!
//! A word is seen three ways: as itself when training has met it, as its pieces of three and four
//! letters (so that a slip of the finger leaves most of it), and by its shape (so that `door-cam-2`
//! looks like a name to a model that never met it).

use std::collections::HashMap;

/// Most words of a request; nobody asks a box for one thing at greater length.
pub const MAX_WORDS: usize = 64;
/// Longest word that is looked at whole, in letters.
const MAX_LETTERS: usize = 64;
/// Rows for pieces of words; those that meet in one are told apart by the others.
pub const PIECE_ROWS: usize = 8192;
/// Rows before them, one for each trait of a shape.
pub const SHAPE_ROWS: usize = 8;
/// Most pieces of one word; a longer one is known by its beginning.
pub const MAX_PIECES: usize = 24;
/// Marks that stand for themselves when a word begins or ends with them.
const MARKS: &[char] = &[
    '"', '\'', '`', '(', ')', '[', ']', '{', '}', '<', '>', '?', '!', '.', ',', ';', ':',
];

/// The words and marks of a request, in lower case.
#[must_use]
pub fn split(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    for chunk in text.split_whitespace() {
        let chunk: String = chunk
            .chars()
            .take(MAX_LETTERS)
            .flat_map(char::to_lowercase)
            .map(plain)
            .collect();
        split_chunk(&chunk, &mut words);
    }
    words
}

/// Marks as a keyboard has them.
fn plain(letter: char) -> char {
    match letter {
        '\u{2018}' | '\u{2019}' | '\u{b4}' => '\'',
        '\u{201c}' | '\u{201d}' | '\u{201e}' | '\u{ab}' | '\u{bb}' => '"',
        '\u{2010}'..='\u{2015}' => '-',
        '\u{2026}' => '.',
        letter => letter,
    }
}

fn split_chunk(chunk: &str, words: &mut Vec<String>) {
    let mut rest = chunk;
    while let Some(mark) = rest.chars().next().filter(|mark| MARKS.contains(mark)) {
        push_mark(mark, words);
        rest = &rest[mark.len_utf8()..];
    }
    let body = rest.trim_end_matches(MARKS);
    let tail = &rest[body.len()..];
    for part in body.split_inclusive(',') {
        let word = part.trim_end_matches(',');
        match word.strip_suffix("'s").filter(|owner| !owner.is_empty()) {
            Some(owner) => words.extend([owner.to_owned(), "'s".to_owned()]),
            None if word.is_empty() => {}
            None => words.push(word.to_owned()),
        }
        if part.ends_with(',') {
            push_mark(',', words);
        }
    }
    for mark in tail.chars() {
        push_mark(mark, words);
    }
}

/// Three question marks ask no more than one.
fn push_mark(mark: char, words: &mut Vec<String>) {
    let mark = mark.to_string();
    if words.last() != Some(&mark) {
        words.push(mark);
    }
}

/// Whether it is a mark rather than a word.
#[must_use]
pub fn is_mark(word: &str) -> bool {
    word.chars().all(|letter| MARKS.contains(&letter))
}

/// Rows of the table of pieces for a word: its shape's, then its letters'.
#[must_use]
pub fn pieces(word: &str) -> Vec<u32> {
    let mut rows: Vec<u32> = shape(word)
        .into_iter()
        .enumerate()
        .filter_map(|(row, has)| has.then_some(row as u32))
        .collect();
    let letters: Vec<char> = ['<']
        .into_iter()
        .chain(word.chars().take(MAX_LETTERS))
        .chain(['>'])
        .collect();
    for length in [3, 4] {
        for piece in letters.windows(length) {
            rows.push((SHAPE_ROWS as u64 + hash(piece) % PIECE_ROWS as u64) as u32);
        }
    }
    rows.truncate(MAX_PIECES);
    rows
}

/// What a word looks like, whatever it says.
fn shape(word: &str) -> [bool; SHAPE_ROWS] {
    let has = |test: fn(char) -> bool| word.chars().any(test);
    let letters = word.chars().count();
    [
        !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit()),
        word.starts_with(|letter: char| letter.is_ascii_digit()),
        has(|letter| letter.is_ascii_digit()),
        word.len() > 1 && has(|letter| letter == '-' || letter == '_'),
        word.len() > 1 && has(|letter| "./:@=+*\\".contains(letter)),
        is_mark(word),
        letters <= 2,
        letters >= 10,
    ]
}

/// FNV-1a, mixed once more: the same in every build, because the file's rows were trained by it.
fn hash(letters: &[char]) -> u64 {
    let hash = letters
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash: u64, &letter| {
            (hash ^ u64::from(u32::from(letter))).wrapping_mul(0x0100_0000_01b3)
        });
    let mixed = (hash ^ (hash >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
    mixed ^ (mixed >> 32)
}

/// The words that training has met, by number. The first stands for all others.
#[derive(Debug, Clone)]
pub struct Vocabulary {
    words: Vec<String>,
    numbers: HashMap<String, u32>,
}

/// The number of a word that training has not met.
pub const UNKNOWN: u32 = 0;

impl Vocabulary {
    /// Of a list that begins with what stands for the unknown.
    #[must_use]
    pub fn new(words: Vec<String>) -> Self {
        let numbers = words
            .iter()
            .enumerate()
            .skip(1)
            .map(|(number, word)| (word.clone(), number as u32))
            .collect();
        Vocabulary { words, numbers }
    }

    /// A word's number.
    #[must_use]
    pub fn number(&self, word: &str) -> u32 {
        self.numbers.get(word).copied().unwrap_or(UNKNOWN)
    }

    /// All, the unknown first.
    #[must_use]
    pub fn words(&self) -> &[String] {
        &self.words
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_words_and_marks() {
        let cases: [(&str, &[&str]); 7] = [
            ("Restart Door-Cam-2!!", &["restart", "door-cam-2", "!"]),
            (
                "what's infer's state?",
                &["what", "'s", "infer", "'s", "state", "?"],
            ),
            (
                "find \u{201c}no route\u{201d}, please",
                &["find", "\"", "no", "route", "\"", ",", "please"],
            ),
            ("isn't v0.1.0 df -h", &["isn't", "v0.1.0", "df", "-h"]),
            ("stop a,b", &["stop", "a", ",", "b"]),
            ("(/data)", &["(", "/data", ")"]),
            (" \n ", &[]),
        ];
        for (text, words) in cases {
            assert_eq!(split(text), words, "{text}");
        }
        assert!(split(&"x".repeat(1000))[0].len() <= MAX_LETTERS);
    }

    #[test]
    fn a_slip_leaves_most_of_a_word() {
        let shared = |left: &str, right: &str| {
            let right = pieces(right);
            pieces(left).iter().filter(|p| right.contains(p)).count()
        };
        assert!(shared("quarantine", "quarantin") > 10);
        assert!(shared("restart", "resart") > 4);
        assert_eq!(shared("uptime", "disk"), 0);
        let most = u32::try_from(SHAPE_ROWS + PIECE_ROWS).unwrap();
        for word in ["", "a", "door-cam-2", "\u{e4}\u{f6}", &"y".repeat(64)] {
            let rows = pieces(word);
            assert!(rows.len() <= MAX_PIECES && rows.iter().all(|&row| row < most));
        }
    }
}
