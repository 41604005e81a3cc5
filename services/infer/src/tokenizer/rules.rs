//! How text is cut into words before pairs are joined, by the name in `tokenizer.ggml.pre`. The
//! names are llama.cpp's; the patterns are part of the models' published tokenizers.

use super::Error;
use super::split::{Pattern, Step};
use super::vocabulary::Spelling;

pub(super) const GPT2: &str =
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
const LLAMA3: &str = r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN2: &str = r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN35: &str = r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const GPT4O: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const DEEPSEEK3: &str = r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"##;
const CHINESE_AND_KANA: &str = r"[\x{4E00}-\x{9FA5}\x{3040}-\x{309F}\x{30A0}-\x{30FF}]+";
const CHINESE_TO_HANGUL: &str = r"[\x{4E00}-\x{9FA5}\x{800}-\x{4E00}\x{AC00}-\x{D7FF}]+";
const BAILING: &str = r"'(?:[sSdDmMtT]|[lL][lL]|[vV][eE]|[rR][eE])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+";
const SEED: &str = r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1}| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+|\s+(?!\S)|\s+";
const EXAONE_MOE: &str = r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]?|\s*[\r\n]|\s+(?!\S)|\s+";
const BLOOM: &str = r" ?[^(\s|.,!?…。，、।۔،)]+";
const LINES: &str = r"[^\n]+|[\n]+";
const DIGIT: &str = r"\p{N}";
const SOME_DIGITS: &str = r"\p{N}{1,3}";
const THREE_DIGITS: &str = "[0-9][0-9][0-9]";
const PUNCTUATION: &str = r"[\p{P}\$\+<=>\^~\|]+";

/// Letters of scripts with capitals.
const DEEPSEEK_LETTERS: &str = concat!(
    r"\s?[A-Za-z\x{B5}\x{C0}-\x{D6}\x{D8}-\x{F6}\x{F8}-\x{1BA}\x{1BC}-\x{1BF}\x{1C4}-",
    r"\x{293}\x{295}-\x{2AF}\x{370}-\x{373}\x{376}\x{377}\x{37B}-\x{37D}\x{37F}\x{386}",
    r"\x{388}-\x{38A}\x{38C}\x{38E}-\x{3A1}\x{3A3}-\x{3F5}\x{3F7}-\x{481}\x{48A}-\x{52F}",
    r"\x{531}-\x{556}\x{10A0}-\x{10C5}\x{13A0}-\x{13F5}\x{13F8}-\x{13FD}\x{1C90}-\x{1CBA}",
    r"\x{1CBD}-\x{1CBF}\x{1D00}-\x{1D2B}\x{1D6B}-\x{1D77}\x{1D79}-\x{1D9A}\x{1E00}-",
    r"\x{1F15}\x{1F18}-\x{1F1D}\x{1F20}-\x{1F45}\x{1F48}-\x{1F4D}\x{1F50}-\x{1F57}\x{1F59}",
    r"\x{1F5B}\x{1F5D}\x{1F5F}-\x{1F7D}\x{1F80}-\x{1FB4}\x{1FB6}-\x{1FBC}\x{1FBE}\x{1FC2}-",
    r"\x{1FC4}\x{1FC6}-\x{1FCC}\x{1FD0}-\x{1FD3}\x{1FD6}-\x{1FDB}\x{1FE0}-\x{1FEC}\x{1FF2}",
    r"-\x{1FF4}\x{1FF6}-\x{1FFC}\x{2102}\x{2107}\x{210A}-\x{2113}\x{2115}\x{2119}-\x{211D}",
    r"\x{2124}\x{2126}\x{2128}\x{212A}-\x{212D}\x{212F}-\x{2134}\x{2139}\x{213C}-\x{213F}",
    r"\x{2145}-\x{2149}\x{214E}\x{2183}\x{2184}\x{2C00}-\x{2C7B}\x{2C7E}-\x{2CE4}\x{2CEB}-",
    r"\x{2CEE}\x{2CF2}\x{2CF3}\x{A640}-\x{A66D}\x{A680}-\x{A69B}\x{A722}-\x{A76F}\x{A771}-",
    r"\x{A787}\x{A78B}-\x{A78E}\x{AB70}-\x{ABBF}\x{FB00}-\x{FB06}\x{FB13}-\x{FB17}\x{FF21}",
    r"-\x{FF3A}\x{FF41}-\x{FF5A}\x{10400}-\x{1044F}\x{104B0}-\x{104D3}\x{104D8}-\x{104FB}",
    r"\x{10C80}-\x{10CB2}\x{10CC0}-\x{10CF2}\x{118A0}-\x{118DF}\x{1E900}-\x{1E943}]+",
);
const DEEPSEEK_PUNCTUATION: &str =
    r"\s?[!-/:-~\x{FF01}-\x{FF0F}\x{FF1A}-\x{FF5E}\x{2018}-\x{201F}\x{3000}-\x{3002}]+";

/// How a model's vocabulary cuts and joins.
pub(super) struct Rules {
    names: &'static [&'static str],
    /// Applied one after the other, each to the words of the one before.
    patterns: &'static [&'static str],
    /// Numbers are cut into groups of three before all else.
    thousands: bool,
    /// A word that is a token is taken whole, whatever the merges say.
    pub(super) whole_words: bool,
    /// The model wants its begin token unless the file says otherwise.
    pub(super) begins: bool,
    /// How tokens are written.
    pub(super) spelling: Spelling,
}

const PLAIN: Rules = Rules {
    names: &[],
    patterns: &[],
    thousands: false,
    whole_words: false,
    begins: false,
    spelling: Spelling::Letters,
};

const RULES: [Rules; 28] = [
    Rules {
        names: &[
            "llama-bpe",
            "llama3",
            "llama-v3",
            "falcon3",
            "falcon-h1",
            "pixtral",
            "midm-2.0",
            "lfm2",
            "jina-v5-nano",
        ],
        patterns: &[LLAMA3],
        whole_words: true,
        begins: true,
        ..PLAIN
    },
    Rules {
        names: &["dbrx", "smaug-bpe", "chatglm-bpe"],
        patterns: &[LLAMA3],
        ..PLAIN
    },
    Rules {
        names: &["glm4", "glm5"],
        patterns: &[LLAMA3],
        whole_words: true,
        ..PLAIN
    },
    Rules {
        names: &["minicpm5"],
        patterns: &[SOME_DIGITS, LLAMA3],
        whole_words: true,
        ..PLAIN
    },
    Rules {
        names: &[
            "gpt-2",
            "phi-2",
            "jina-es",
            "jina-de",
            "jina-v2-es",
            "jina-v2-de",
            "jina-v1-en",
            "jina-v2-code",
            "roberta-bpe",
            "gigachat",
            "a.x-4.0",
            "mellum",
            "modern-bert",
            "mpt",
            "olmo",
            "jais",
            "trillion",
            "granite-docling",
            "exaone4",
        ],
        patterns: &[GPT2],
        ..PLAIN
    },
    Rules {
        names: &[
            "smollm",
            "starcoder",
            "refact",
            "command-r",
            "codeshell",
            "exaone",
            "minerva-7b",
            "mellum2",
        ],
        patterns: &[DIGIT, GPT2],
        ..PLAIN
    },
    Rules {
        names: &[
            "qwen2",
            "deepseek-r1-qwen",
            "kormo",
            "f2llmv2",
            "stablelm2",
            "hunyuan",
            "solar-open",
            "megrez",
            "grok-2",
        ],
        patterns: &[QWEN2],
        ..PLAIN
    },
    Rules {
        names: &["qwen35"],
        patterns: &[QWEN35],
        ..PLAIN
    },
    Rules {
        names: &["tekken"],
        patterns: &[TEKKEN],
        whole_words: true,
        begins: true,
        ..PLAIN
    },
    Rules {
        names: &["gpt-4o", "llama4", "kanana2", "talkie", "minimax-m2"],
        patterns: &[GPT4O],
        ..PLAIN
    },
    Rules {
        names: &["granite-embed-multi-97m"],
        patterns: &[GPT4O],
        whole_words: true,
        ..PLAIN
    },
    Rules {
        names: &["tiny_aya", "cohere2moe"],
        patterns: &[GPT4O],
        thousands: true,
        ..PLAIN
    },
    Rules {
        names: &["deepseek-llm"],
        patterns: &[
            r"[\r\n]",
            DEEPSEEK_LETTERS,
            DEEPSEEK_PUNCTUATION,
            r"\s+$",
            CHINESE_TO_HANGUL,
            r"\p{N}+",
        ],
        ..PLAIN
    },
    Rules {
        names: &["deepseek-coder"],
        patterns: &[
            r"[\r\n]",
            r"\s?\p{L}+",
            r"\s?\p{P}+",
            CHINESE_TO_HANGUL,
            DIGIT,
        ],
        ..PLAIN
    },
    Rules {
        names: &["deepseek-v3", "hunyuan-dense", "joyai-llm", "hy_v4"],
        patterns: &[SOME_DIGITS, CHINESE_AND_KANA, DEEPSEEK3],
        ..PLAIN
    },
    Rules {
        names: &["falcon"],
        patterns: &[r"[\p{P}\$\+<=>\^~\|`]+", GPT2, THREE_DIGITS],
        ..PLAIN
    },
    Rules {
        names: &["poro-chat", "bloom", "gpt3-finnish"],
        patterns: &[BLOOM],
        ..PLAIN
    },
    Rules {
        names: &["viking"],
        patterns: &[BLOOM, DIGIT],
        ..PLAIN
    },
    Rules {
        names: &["bailingmoe", "bailingmoe2", "llada-moe"],
        patterns: &[BAILING],
        ..PLAIN
    },
    Rules {
        names: &["seed-coder"],
        patterns: &[SEED],
        ..PLAIN
    },
    Rules {
        names: &["exaone-moe"],
        patterns: &[EXAONE_MOE],
        ..PLAIN
    },
    Rules {
        names: &["chameleon"],
        patterns: &[
            "<sentinel:[0-9]+>",
            "(IMGIMG)((A|B|C|D|E|F|G|H|I){1,4})Z",
            r"([\t\n]|    |  )",
            DIGIT,
            r"[\p{P}!-/:-@\[-`{-~]",
            GPT2,
        ],
        begins: true,
        ..PLAIN
    },
    Rules {
        names: &["superbpe"],
        thousands: true,
        ..PLAIN
    },
    Rules {
        names: &["laguna"],
        patterns: &[LINES, QWEN2],
        ..PLAIN
    },
    Rules {
        names: &["gemma4", "granite-embed-multi-311m"],
        patterns: &[LINES],
        begins: true,
        spelling: Spelling::Plain,
        ..PLAIN
    },
    Rules {
        names: &["sarvam-moe"],
        patterns: &[LINES],
        spelling: Spelling::Plain,
        ..PLAIN
    },
    Rules {
        names: &["ufakzeka"],
        patterns: &[
            r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        ],
        ..PLAIN
    },
    // Files that say nothing, and what llama.cpp does with them.
    Rules {
        names: &["default", ""],
        patterns: &[PUNCTUATION, GPT2, r"\p{N}+", THREE_DIGITS],
        ..PLAIN
    },
];

impl Rules {
    /// The rules of that name.
    pub(super) fn named(name: &str) -> Result<&'static Self, Error> {
        RULES
            .iter()
            .find(|rules| rules.names.contains(&name))
            .ok_or_else(|| {
                let names = RULES.iter().flat_map(|rules| rules.names).copied();
                let names: Vec<_> = names.filter(|name| !name.is_empty()).collect();
                Error::Splitting {
                    found: name.to_owned(),
                    allowed: names.join(", "),
                }
            })
    }

    /// The cutting, compiled.
    pub(super) fn steps(&self) -> Result<Vec<Step>, Error> {
        let thousands = self.thousands.then_some(Ok(Step::Thousands));
        let patterns = self
            .patterns
            .iter()
            .map(|pattern| Ok(Step::Pattern(Pattern::new(pattern)?)));
        thousands.into_iter().chain(patterns).collect()
    }

    #[cfg(test)]
    pub(super) fn all() -> &'static [Self] {
        &RULES
    }

    #[cfg(test)]
    pub(super) fn patterns(&self) -> &'static [&'static str] {
        self.patterns
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_rules_are_named() {
        let error = Rules::named("other").err().unwrap().to_string();
        assert!(
            error.contains("'other'") && error.contains("llama-bpe"),
            "{error}"
        );
    }

    #[test]
    fn all_compile_for_the_linear_engine_and_have_one_name_each() {
        let mut names = std::collections::HashSet::new();
        for rules in &RULES {
            assert!(
                rules.names.iter().all(|name| names.insert(*name)),
                "{:?}",
                rules.names
            );
            for step in rules.steps().unwrap() {
                let linear = matches!(
                    step,
                    Step::Thousands | Step::Pattern(Pattern::Linear { .. })
                );
                assert!(linear, "{:?}", rules.names);
            }
        }
    }
}
