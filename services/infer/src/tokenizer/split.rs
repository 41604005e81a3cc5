//! How text is cut into words before pairs are joined, by the name in `tokenizer.ggml.pre`.
//! The patterns are part of the models' published tokenizers.

use fancy_regex::Regex;

use super::Error;

const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
const LLAMA3: &str = r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN2: &str = r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const DIGIT: &str = r"\p{N}";

/// Rules of splitting.
struct Rules {
    names: &'static [&'static str],
    /// Applied one after the other, each to the pieces of the one before.
    patterns: &'static [&'static str],
    /// A word that is a token is taken whole, whatever the merges say.
    whole_words: bool,
    /// The model wants its begin token unless the file says otherwise.
    begins: bool,
}

const RULES: [Rules; 5] = [
    Rules {
        names: &["llama-bpe", "llama3", "llama-v3", "falcon3"],
        patterns: &[LLAMA3],
        whole_words: true,
        begins: true,
    },
    Rules {
        names: &["gpt-2"],
        patterns: &[GPT2],
        whole_words: false,
        begins: false,
    },
    Rules {
        names: &["smollm", "starcoder", "refact", "command-r"],
        patterns: &[DIGIT, GPT2],
        whole_words: false,
        begins: false,
    },
    Rules {
        names: &["qwen2", "deepseek-r1-qwen"],
        patterns: &[QWEN2],
        whole_words: false,
        begins: false,
    },
    Rules {
        names: &["tekken"],
        patterns: &[TEKKEN],
        whole_words: true,
        begins: true,
    },
];

/// Cuts text into words.
pub(super) struct Split {
    patterns: Vec<Regex>,
    pub(super) whole_words: bool,
    pub(super) begins: bool,
}

impl Split {
    /// The rules of that name.
    pub(super) fn named(name: &str) -> Result<Self, Error> {
        let rules = RULES
            .iter()
            .find(|rules| rules.names.contains(&name))
            .ok_or_else(|| {
                let names: Vec<_> = RULES
                    .iter()
                    .flat_map(|rules| rules.names)
                    .copied()
                    .collect();
                Error::Splitting {
                    found: name.to_owned(),
                    allowed: names.join(", "),
                }
            })?;
        let patterns = rules.patterns.iter().map(|pattern| Regex::new(pattern));
        Ok(Self {
            patterns: patterns.collect::<Result<_, _>>().map_err(Error::split)?,
            whole_words: rules.whole_words,
            begins: rules.begins,
        })
    }

    /// The words of `text`; together they are the text.
    pub(super) fn words<'t>(&self, text: &'t str) -> Result<Vec<&'t str>, Error> {
        let mut words = vec![text];
        for pattern in &self.patterns {
            let mut finer = Vec::with_capacity(words.len());
            for word in words {
                let mut rest = 0;
                for found in pattern.find_iter(word) {
                    let found = found.map_err(Error::split)?;
                    finer.push(&word[rest..found.start()]);
                    finer.push(found.as_str());
                    rest = found.end();
                }
                finer.push(&word[rest..]);
            }
            finer.retain(|word| !word.is_empty());
            words = finer;
        }
        Ok(words)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words<'t>(name: &str, text: &'t str) -> Vec<&'t str> {
        Split::named(name).unwrap().words(text).unwrap()
    }

    #[test]
    fn rules_differ_in_digits_and_spaces() {
        let text = "It's 12345  ok\n\n x";
        assert_eq!(
            words("llama-bpe", text),
            ["It", "'s", " ", "123", "45", " ", " ok", "\n\n", " x"]
        );
        assert_eq!(
            words("gpt-2", text),
            ["It", "'s", " 12345", " ", " ok", "\n\n", " x"]
        );
        assert_eq!(
            words("smollm", text),
            [
                "It", "'s", " ", "1", "2", "3", "4", "5", " ", " ok", "\n\n", " x"
            ]
        );
        assert_eq!(words("qwen2", "12"), ["1", "2"]);
    }

    #[test]
    fn unknown_rules_are_named() {
        let error = Split::named("jais-2").err().unwrap().to_string();
        assert!(
            error.contains("'jais-2'") && error.contains("llama-bpe"),
            "{error}"
        );
    }
}
