//! The parts of a `tokenizer.json` that change characters and cut words.

use serde_json::{Map, Value};

use super::json::{part, sequence, wrong};
use super::normalize::{Form, Normalizer};
use super::split::{Pattern, Step};
use super::vocabulary::SPACE;
use super::{Error, rules};

/// Longest text that a rule may put in place of another: a file's rules must not blow a text up.
const MAX_REPLACEMENT: usize = 32;

/// What is done to a text before its words are joined.
#[derive(Default)]
pub(super) struct Cutting {
    pub(super) normalizers: Vec<Normalizer>,
    pub(super) steps: Vec<Step>,
    /// Words are written in GPT-2's letters.
    pub(super) letters: bool,
    /// Accents have been taken off their letters.
    decomposed: bool,
}

impl Cutting {
    /// Reads the part that changes characters.
    pub(super) fn normalizer(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        let Some((kind, map)) = part("normalizer", value)? else {
            return Ok(());
        };
        let bert = |clean, chinese, strip_accents, lowercase| Normalizer::Bert {
            clean,
            chinese,
            strip_accents,
            lowercase,
        };
        let form = |form| Normalizer::Form(form);
        let normalizer = match kind {
            "Sequence" => {
                for one in sequence("normalizer", "normalizers", map, depth)? {
                    self.normalizer(one, depth + 1)?;
                }
                return Ok(());
            }
            "BertNormalizer" => {
                let lowercase = truth(map, "lowercase", true);
                bert(
                    truth(map, "clean_text", true),
                    truth(map, "handle_chinese_chars", true),
                    truth(map, "strip_accents", lowercase),
                    lowercase,
                )
            }
            "Prepend" => Normalizer::Prepend(short("normalizer.prepend", map.get("prepend"))?),
            "Replace" => {
                let pattern = map.get("pattern");
                let from = pattern.and_then(|pattern| pattern.get("String")?.as_str());
                let from = from.filter(|from| !from.is_empty()).ok_or_else(|| {
                    let found = pattern.unwrap_or(&Value::Null);
                    wrong("normalizer.pattern", found, "{\"String\": TEXT}")
                })?;
                Normalizer::Replace {
                    from: from.to_owned(),
                    to: short("normalizer.content", map.get("content"))?,
                }
            }
            "NFC" => form(Form::Composed),
            "NFKC" => form(Form::CompatibleComposed),
            "NFD" | "NFKD" => {
                self.decomposed = true;
                form(match kind {
                    "NFD" => Form::Decomposed,
                    _ => Form::CompatibleDecomposed,
                })
            }
            "Lowercase" => bert(false, false, false, true),
            "StripAccents" if self.decomposed => bert(false, false, true, false),
            other => {
                return Err(wrong(
                    "normalizer.type",
                    other,
                    "Sequence, BertNormalizer, Prepend, Replace, NFC, NFD, NFKC, NFKD, Lowercase, \
                     StripAccents (after NFD)",
                ));
            }
        };
        self.normalizers.push(normalizer);
        Ok(())
    }

    /// Reads the part that cuts words.
    pub(super) fn pre_tokenizer(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        let Some((kind, map)) = part("pre_tokenizer", value)? else {
            return Ok(());
        };
        match kind {
            "Sequence" => {
                for one in sequence("pre_tokenizer", "pretokenizers", map, depth)? {
                    self.pre_tokenizer(one, depth + 1)?;
                }
            }
            "BertPreTokenizer" => self.steps.push(Step::Bert),
            "ByteLevel" => {
                if truth(map, "add_prefix_space", true) {
                    self.begin(" ", false)?;
                }
                if truth(map, "use_regex", true) {
                    self.pattern(rules::GPT2)?;
                }
                self.letters = true;
            }
            "Digits" => self.pattern(match truth(map, "individual_digits", false) {
                true => r"\p{N}",
                false => r"\p{N}+",
            })?,
            "Punctuation" => match map.get("behavior").and_then(Value::as_str) {
                None | Some("Isolated") => self.pattern(r"[\p{P}!-/:-@\[-`{-~]")?,
                Some("Contiguous") => self.pattern(r"[\p{P}!-/:-@\[-`{-~]+")?,
                Some(other) => {
                    let what = "pre_tokenizer.behavior";
                    return Err(wrong(what, other, "Isolated, Contiguous"));
                }
            },
            "Split" => self.split(map)?,
            "Metaspace" => self.metaspace(map)?,
            other => {
                return Err(wrong(
                    "pre_tokenizer.type",
                    other,
                    "Sequence, BertPreTokenizer, ByteLevel, Digits, Punctuation, Split, Metaspace",
                ));
            }
        }
        Ok(())
    }

    fn pattern(&mut self, pattern: &str) -> Result<(), Error> {
        self.steps.push(Step::Pattern(Pattern::new(pattern)?));
        Ok(())
    }

    /// What a text begins with, if nothing has cut it before.
    fn begin(&mut self, with: &str, only_first: bool) -> Result<(), Error> {
        if !self.steps.is_empty() {
            let what = "pre_tokenizer.add_prefix_space";
            return Err(wrong(what, "true after another part", "false"));
        }
        self.normalizers.push(Normalizer::Begin {
            with: with.to_owned(),
            only_first,
        });
        Ok(())
    }

    fn split(&mut self, map: &Map<String, Value>) -> Result<(), Error> {
        let pattern = map.get("pattern").unwrap_or(&Value::Null);
        let behavior = map.get("behavior").and_then(Value::as_str).unwrap_or("");
        let text = |key: &str| pattern.get(key).and_then(Value::as_str);
        match (
            text("Regex"),
            text("String"),
            behavior,
            truth(map, "invert", false),
        ) {
            // What a pattern finds is a word, and so is what lies between. Inverted, what lies between
            // is lost; but the patterns that are used so leave nothing between.
            (Some(regex), _, "Isolated", _) | (Some(regex), _, "Removed", true) => {
                self.pattern(regex)
            }
            (_, Some(text), "Isolated", false) => self.pattern(&regex::escape(text)),
            (_, Some(text), "MergedWithPrevious", false) if !text.is_empty() => {
                let text = regex::escape(text);
                self.pattern(&format!("(?s:.*?){text}"))
            }
            _ => {
                let found = Value::Object(map.clone());
                let allowed = "a Regex that is Isolated, or Removed and inverted; a String that is \
                               Isolated or MergedWithPrevious";
                Err(wrong("pre_tokenizer (Split)", found, allowed))
            }
        }
    }

    fn metaspace(&mut self, map: &Map<String, Value>) -> Result<(), Error> {
        let space = map
            .get("replacement")
            .and_then(Value::as_str)
            .unwrap_or(SPACE);
        if space != SPACE {
            return Err(wrong("pre_tokenizer.replacement", space, SPACE));
        }
        self.normalizers.push(Normalizer::Replace {
            from: " ".to_owned(),
            to: SPACE.to_owned(),
        });
        let scheme = map.get("prepend_scheme").and_then(Value::as_str);
        match scheme {
            // Before there were schemes.
            None if truth(map, "add_prefix_space", true) => self.begin(SPACE, false)?,
            Some("always") => self.begin(SPACE, false)?,
            Some("first") => self.begin(SPACE, true)?,
            None | Some("never") => {}
            Some(other) => {
                let what = "pre_tokenizer.prepend_scheme";
                return Err(wrong(what, other, "always, first, never"));
            }
        }
        match truth(map, "split", true) {
            true => self.pattern(&format!("{SPACE}[^{SPACE}]*")),
            false => Ok(()),
        }
    }
}

/// A text that a rule puts into others.
fn short(what: &str, value: Option<&Value>) -> Result<String, Error> {
    let text = value.and_then(Value::as_str);
    let text = text.filter(|text| text.len() <= MAX_REPLACEMENT);
    text.map(str::to_owned).ok_or_else(|| {
        let found = value.unwrap_or(&Value::Null);
        wrong(
            what,
            found,
            format!("a text of at most {MAX_REPLACEMENT} bytes"),
        )
    })
}

fn truth(map: &Map<String, Value>, key: &str, default: bool) -> bool {
    map.get(key).and_then(Value::as_bool).unwrap_or(default)
}
