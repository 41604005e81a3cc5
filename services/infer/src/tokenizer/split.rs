//! Cuts text into words before the model of the tokenizer sees it.
//!
//! Published patterns end in `\s+(?!\S)|\s+`: spaces, but the last one belongs to the word that follows.
//! That is what keeps them from an engine that is linear in the text, so it is taken out of the pattern
//! and done by hand. What still looks around itself goes to an engine that gives up after a
//! million steps back: an error, not a hang.

use super::Error;
use super::unicode;

const LAST_SPACE: &str = r"\s+(?!\S)";

/// One way of cutting.
pub(super) enum Step {
    /// By a pattern: what it finds is a word, and so is what lies between.
    Pattern(Pattern),
    /// Numbers into groups of three, the rest of the division first: 1 234 567.
    Thousands,
    /// As BERT: at spaces, which are left out, and around punctuation.
    Bert,
}

/// A pattern that finds words.
pub(super) enum Pattern {
    /// Linear; with the last of several spaces given back to the word that follows.
    Linear {
        regex: regex::Regex,
        give_back: bool,
    },
    /// Looks around itself.
    Backtracking(fancy_regex::Regex),
}

impl Pattern {
    /// Compiles a pattern.
    pub(super) fn new(pattern: &str) -> Result<Self, Error> {
        let without = pattern
            .replace(&format!(r"{LAST_SPACE}|\s+"), r"\s+")
            .replace(LAST_SPACE, r"\s+");
        let give_back = without != pattern;
        let compiled = (!possessive(&without)).then(|| regex::Regex::new(&without));
        if let Some(Ok(regex)) = compiled {
            return Ok(Self::Linear { regex, give_back });
        }
        fancy_regex::Regex::new(pattern)
            .map(Self::Backtracking)
            .map_err(Error::split)
    }

    /// The next place at or after `from` that it finds, never an empty one.
    fn find(&self, text: &str, from: usize) -> Result<Option<(usize, usize)>, Error> {
        let mut at = from;
        while at < text.len() {
            let found = match self {
                Self::Linear { regex, .. } => regex.find_at(text, at).map(|m| (m.start(), m.end())),
                Self::Backtracking(regex) => regex
                    .find_from_pos(text, at)
                    .map_err(Error::split)?
                    .map(|m| (m.start(), m.end())),
            };
            match found {
                None => return Ok(None),
                Some((start, end)) if start == end => {
                    at = end + text[end..].chars().next().map_or(1, char::len_utf8);
                }
                Some((start, end)) => return Ok(Some((start, self.end(text, start, end)))),
            }
        }
        Ok(None)
    }

    /// Where a word really ends: before the last of several spaces, if a word follows. (Spaces that end
    /// with a line were found by another part of the pattern, where it has one; where it has
    /// none, giving back the newline is right, too.)
    fn end(&self, text: &str, start: usize, end: usize) -> usize {
        let Self::Linear {
            give_back: true,
            regex,
        } = self
        else {
            return end;
        };
        let word = &text[start..end];
        let Some(last) = word.chars().next_back() else {
            return end;
        };
        let lines = regex.as_str().contains(r"[\r\n]") && matches!(last, '\r' | '\n');
        let several = word.len() > last.len_utf8();
        // The pattern is greedy: what follows its spaces is no space.
        if lines || !several || end == text.len() || !word.chars().all(char::is_whitespace) {
            return end;
        }
        end - last.len_utf8()
    }
}

/// Whether a pattern has `?+`, `++`, `*+` or `{n}+`: possessive for those who publish patterns, and something
/// else for the linear engine.
fn possessive(pattern: &str) -> bool {
    let mut inside = 0_usize;
    let mut before = [' '; 2];
    let mut letters = pattern.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '\\' => {
                letters.next();
            }
            '[' => inside += 1,
            ']' => inside = inside.saturating_sub(1),
            '+' if inside == 0 => match before {
                [_, '?' | '+' | '*'] => return true,
                [digit, '}'] if digit.is_ascii_digit() => return true,
                _ => {}
            },
            _ => {}
        }
        before = [before[1], letter];
    }
    false
}

impl Step {
    fn cut<'t>(&self, text: &'t str, words: &mut Vec<&'t str>) -> Result<(), Error> {
        match self {
            Self::Pattern(pattern) => return pattern.cut(text, words),
            Self::Thousands => thousands(text, words),
            Self::Bert => {
                for word in text.split(char::is_whitespace) {
                    let mut rest = 0;
                    for (place, letter) in word.char_indices() {
                        if unicode::punctuation(letter) {
                            words.push(&word[rest..place]);
                            rest = place + letter.len_utf8();
                            words.push(&word[place..rest]);
                        }
                    }
                    words.push(&word[rest..]);
                }
            }
        }
        Ok(())
    }
}

impl Pattern {
    fn cut<'t>(&self, text: &'t str, words: &mut Vec<&'t str>) -> Result<(), Error> {
        let mut rest = 0;
        while let Some((start, end)) = self.find(text, rest)? {
            words.extend([&text[rest..start], &text[start..end]]);
            rest = end;
        }
        words.push(&text[rest..]);
        Ok(())
    }
}

/// Cuts every number so that its last groups have three digits.
fn thousands<'t>(text: &'t str, words: &mut Vec<&'t str>) {
    let mut rest = text;
    while let Some(start) = rest.find(unicode::digit) {
        words.push(&rest[..start]);
        let number = &rest[start..];
        let end = number
            .find(|letter| !unicode::digit(letter))
            .unwrap_or(number.len());
        let (number, after) = number.split_at(end);
        let places: Vec<usize> = number.char_indices().map(|(place, _)| place).collect();
        let mut begin = 0;
        let first = places.len() % 3;
        for group in (first..places.len()).step_by(3) {
            words.push(&number[begin..places[group]]);
            begin = places[group];
        }
        words.push(&number[begin..]);
        rest = after;
    }
    words.push(rest);
}

/// The words of `text`, cut by one step after the other.
pub(super) fn words<'t>(steps: &[Step], text: &'t str) -> Result<Vec<&'t str>, Error> {
    let mut words = vec![text];
    for step in steps {
        let mut finer = Vec::with_capacity(words.len());
        for word in words {
            step.cut(word, &mut finer)?;
        }
        finer.retain(|word| !word.is_empty());
        words = finer;
    }
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::super::rules::Rules;
    use super::*;

    fn cut<'t>(name: &str, text: &'t str) -> Vec<&'t str> {
        words(&Rules::named(name).unwrap().steps().unwrap(), text).unwrap()
    }

    #[test]
    fn rules_differ_in_digits_and_spaces() {
        let text = "It's 12345  ok\n\n x";
        assert_eq!(
            cut("llama-bpe", text),
            ["It", "'s", " ", "123", "45", " ", " ok", "\n\n", " x"]
        );
        assert_eq!(
            cut("gpt-2", text),
            ["It", "'s", " 12345", " ", " ok", "\n\n", " x"]
        );
        assert_eq!(
            cut("smollm", text),
            [
                "It", "'s", " ", "1", "2", "3", "4", "5", " ", " ok", "\n\n", " x"
            ]
        );
        assert_eq!(cut("qwen2", "12"), ["1", "2"]);
        assert_eq!(
            cut("superbpe", "a1234567b12"),
            ["a", "1", "234", "567", "b", "12"]
        );
    }

    /// The pattern as it was published, run by the engine that can look around itself.
    #[test]
    fn giving_back_is_the_same_as_looking_ahead() {
        let texts = [
            "a  b",
            "a \n b",
            "  \n\n  x",
            "\t\t",
            "a   ",
            " \u{3000} x",
            "\r\n \r\n y",
            "x\n",
            "  1",
            "  !",
            " \n",
            "\n \n",
            "a\u{a0}\u{a0}b",
            "\u{2028}\u{2028}q  ",
        ];
        for rules in Rules::all() {
            for pattern in rules.patterns() {
                let Pattern::Linear {
                    give_back: true, ..
                } = Pattern::new(pattern).unwrap()
                else {
                    continue;
                };
                let linear = [Step::Pattern(Pattern::new(pattern).unwrap())];
                let fancy = Pattern::Backtracking(fancy_regex::Regex::new(pattern).unwrap());
                let fancy = [Step::Pattern(fancy)];
                for text in texts {
                    let (a, b) = (words(&linear, text).unwrap(), words(&fancy, text).unwrap());
                    assert_eq!(a, b, "{pattern} on {text:?}");
                }
            }
        }
    }

    #[test]
    fn a_long_run_is_no_trouble() {
        for name in [
            "llama-bpe",
            "gpt-2",
            "qwen2",
            "deepseek-llm",
            "deepseek-v3",
            "falcon",
            "tekken",
        ] {
            let steps = Rules::named(name).unwrap().steps().unwrap();
            for letter in [" ", "a", "1", "\n", "!", "é"] {
                let text = letter.repeat(1_000_000) + "b";
                assert_eq!(
                    words(&steps, &text).unwrap().concat(),
                    text,
                    "{name} {letter:?}"
                );
            }
        }
    }

    #[test]
    fn possessive_signs_are_seen() {
        assert!(possessive(r"a?+") && possessive(r"[^a]++x") && possessive(r"\p{N}{1,3}+"));
        assert!(!possessive(r"\p{N}+") && !possessive(r"[*+?+]+") && !possessive(r"\?+ \++"));
    }
}
