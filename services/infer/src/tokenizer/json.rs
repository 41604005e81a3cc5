//! A tokenizer from Hugging Face's `tokenizer.json`. Its parts are put together out of those that GGUF's
//! tokenizers have; one that none of them does the work of is refused by its name.

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::bytes;
use super::cutting::Cutting;
use super::pairs::{Habits, Pairs, parts};
use super::special::{Special, Strip};
use super::vocabulary::{Entry, Kind, Roles, SPACE, Spelling, Vocabulary};
use super::words::Words;
use super::{Error, Model, Tokenizer};

/// What other files of a model say of its tokens.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// The text of the token that begins a text.
    pub begin: Option<String>,
    /// The text of the token that ends one.
    pub end: Option<String>,
    /// Tokens that end an answer, too.
    pub ends: Vec<u32>,
    /// Tokens that the model has an embedding for.
    pub tokens: usize,
}

/// Most parts in a sequence of them, and how deep sequences may lie in each other.
const MAX_PARTS: usize = 32;
const MAX_DEPTH: usize = 4;
/// Most tokens: four times what the largest vocabularies have.
const MAX_TOKENS: usize = 1 << 20;

/// The file.
#[derive(Deserialize)]
struct File {
    #[serde(default)]
    added_tokens: Vec<Added>,
    #[serde(default)]
    normalizer: Value,
    #[serde(default)]
    pre_tokenizer: Value,
    #[serde(default)]
    post_processor: Value,
    model: Whole,
}

#[derive(Deserialize)]
struct Added {
    id: u32,
    content: String,
    #[serde(default)]
    special: bool,
    #[serde(default)]
    single_word: bool,
    #[serde(default)]
    lstrip: bool,
    #[serde(default)]
    rstrip: bool,
}

/// The model's part of the file.
#[derive(Deserialize)]
struct Whole {
    #[serde(rename = "type")]
    kind: Option<String>,
    vocab: Numbers,
    #[serde(default)]
    merges: Vec<Merge>,
    unk_token: Option<String>,
    continuing_subword_prefix: Option<String>,
    end_of_word_suffix: Option<String>,
    max_input_chars_per_word: Option<usize>,
    #[serde(default)]
    ignore_merges: bool,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Numbers {
    Map(HashMap<String, u32>),
    /// Texts with scores.
    Other(serde::de::IgnoredAny),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Merge {
    Line(String),
    Pair(String, String),
}

pub(super) fn wrong(what: &str, found: impl ToString, allowed: impl Into<String>) -> Error {
    Error::Part {
        what: what.to_owned(),
        found: found.to_string().chars().take(80).collect(),
        allowed: allowed.into(),
    }
}

/// Builds the tokenizer.
pub(super) fn read(json: &[u8], facts: &Facts) -> Result<Tokenizer, Error> {
    let file: File = serde_json::from_slice(json)?;
    let Numbers::Map(numbers) = &file.model.vocab else {
        let kind = file.model.kind.as_deref().unwrap_or("without a type");
        return Err(wrong("model.type", kind, "BPE, WordPiece"));
    };
    let kind = match file.model.kind.as_deref() {
        Some(kind) => kind,
        // As files were written before 2021.
        None if file.model.merges.is_empty() => "WordPiece",
        None => "BPE",
    };
    let mut cutting = Cutting::default();
    cutting.normalizer(&file.normalizer, 0)?;
    cutting.pre_tokenizer(&file.pre_tokenizer, 0)?;
    let spelling = match (kind, cutting.letters) {
        ("BPE", true) => Spelling::Letters,
        ("BPE" | "WordPiece", _) => Spelling::Plain,
        (other, _) => return Err(wrong("model.type", other, "BPE, WordPiece")),
    };
    let entries = entries(numbers, &file.added_tokens, kind, spelling, facts)?;
    let number = |text: &Option<String>| {
        let text = text.as_deref()?;
        let word = (kind == "WordPiece").then(|| piece(text));
        let named = |entry: &Entry| entry.text == text || Some(&entry.text) == word.as_ref();
        Some(entries.iter().position(named)? as u32)
    };
    let roles = Roles {
        begin: number(&facts.begin),
        end: number(&facts.end),
        unknown: number(&file.model.unk_token),
        ..Roles::default()
    };
    let mut vocabulary = Vocabulary::new(entries, roles);
    vocabulary.also_ends(&facts.ends);
    let model = match kind {
        "BPE" => Model::Pairs(pairs(&file.model, spelling, &vocabulary)?),
        _ => Model::Words(words(&file.model, &vocabulary)?),
    };
    let mut frame = Frame::default();
    frame.read(&file.post_processor, &vocabulary, 0)?;
    vocabulary.add_begin = roles.begin.is_some_and(|begin| frame.before == [begin]);
    let strips: HashMap<u32, Strip> = file
        .added_tokens
        .iter()
        .map(|added| {
            let strip = Strip {
                left: added.lstrip,
                right: added.rstrip,
            };
            (added.id, strip)
        })
        .collect();
    let strip = |token| strips.get(&token).copied().unwrap_or_default();
    Ok(Tokenizer {
        special: Special::new(&vocabulary, strip)?,
        normalizers: cutting.normalizers,
        steps: cutting.steps,
        model,
        spelling,
        before: frame.before,
        after: frame.after,
        vocabulary,
    })
}

/// The vocabulary as GGUF's files write it.
fn entries(
    numbers: &HashMap<String, u32>,
    added: &[Added],
    kind: &str,
    spelling: Spelling,
    facts: &Facts,
) -> Result<Vec<Entry>, Error> {
    let own = numbers.values().chain(added.iter().map(|added| &added.id));
    let count = own.max().map_or(0, |&most| most as usize + 1);
    let most = match facts.tokens {
        0 => MAX_TOKENS,
        tokens => tokens.min(MAX_TOKENS),
    };
    if count == 0 || count > most {
        let allowed = format!("1 to {most}, which the model has embeddings for");
        return Err(wrong("the count of tokens", count, allowed));
    }
    let empty = Entry {
        text: String::new(),
        kind: Kind::Unused,
    };
    // Models often have embeddings for more tokens than there are.
    let mut entries = vec![empty; count.max(facts.tokens.min(MAX_TOKENS))];
    for (text, &number) in numbers {
        let entry = &mut entries[number as usize];
        if !entry.text.is_empty() {
            let text = &entry.text;
            return Err(wrong(
                "model.vocab",
                format!("{number} twice"),
                format!("each number once: it is {text:?} already"),
            ));
        }
        let byte = spelling == Spelling::Plain && bytes::of_name(text).is_some();
        *entry = Entry {
            text: match kind {
                "WordPiece" => piece(text),
                _ => text.clone(),
            },
            kind: if byte { Kind::Byte } else { Kind::Normal },
        };
    }
    for token in added {
        if token.single_word {
            return Err(wrong("added_tokens.single_word", "true", "false"));
        }
        entries[token.id as usize] = Entry {
            text: token.content.clone(),
            kind: match token.special {
                true => Kind::Control,
                false => Kind::UserDefined,
            },
        };
    }
    Ok(entries)
}

/// A piece of a word, as GGUF writes it: the beginning is marked instead of what goes on.
fn piece(text: &str) -> String {
    match text.strip_prefix("##").filter(|rest| !rest.is_empty()) {
        Some(rest) => rest.to_owned(),
        None => [SPACE, text].concat(),
    }
}

fn pairs(model: &Whole, spelling: Spelling, vocabulary: &Vocabulary) -> Result<Pairs, Error> {
    for (key, text) in [
        (
            "model.continuing_subword_prefix",
            &model.continuing_subword_prefix,
        ),
        ("model.end_of_word_suffix", &model.end_of_word_suffix),
    ] {
        if let Some(text) = text.as_ref().filter(|text| !text.is_empty()) {
            return Err(wrong(key, format!("{text:?}"), "null"));
        }
    }
    let merges = model
        .merges
        .iter()
        .enumerate()
        .map(|(place, merge)| match merge {
            Merge::Pair(left, right) => Ok((left.as_str(), right.as_str())),
            Merge::Line(line) => parts(line, place, "model.merges"),
        })
        .collect::<Result<Vec<_>, _>>()?;
    let habits = Habits {
        spelling,
        whole_words: model.ignore_merges,
        unknown: match spelling {
            Spelling::Letters => None,
            Spelling::Plain => vocabulary.roles.unknown,
        },
    };
    Ok(Pairs::new(merges.into_iter(), habits, vocabulary))
}

fn words(model: &Whole, vocabulary: &Vocabulary) -> Result<Words, Error> {
    if let Some(prefix) = &model.continuing_subword_prefix
        && prefix != "##"
    {
        let key = "model.continuing_subword_prefix";
        return Err(wrong(key, format!("{prefix:?}"), "\"##\""));
    }
    let most = model.max_input_chars_per_word.unwrap_or(100);
    Ok(Words::new(vocabulary.roles.unknown, vocabulary).of_words_up_to(most))
}

/// A part's type, and its object.
pub(super) type Part<'v> = (&'v str, &'v Map<String, Value>);

/// A part that is one of several; null is none.
pub(super) fn part<'v>(what: &str, value: &'v Value) -> Result<Option<Part<'v>>, Error> {
    if value.is_null() {
        return Ok(None);
    }
    let map = value.as_object();
    let kind = map.and_then(|map| map.get("type")?.as_str());
    match (kind, map) {
        (Some(kind), Some(map)) => Ok(Some((kind, map))),
        _ => Err(wrong(what, value, "null, an object with a 'type'")),
    }
}

/// The parts of a sequence.
pub(super) fn sequence<'v>(
    what: &str,
    key: &str,
    map: &'v Map<String, Value>,
    depth: usize,
) -> Result<&'v [Value], Error> {
    let parts = map.get(key).and_then(Value::as_array);
    let parts = parts.filter(|parts| parts.len() <= MAX_PARTS && depth < MAX_DEPTH);
    let parts = parts.map(Vec::as_slice);
    parts.ok_or_else(|| wrong(what, "Sequence", format!("at most {MAX_PARTS} {key}")))
}

/// Tokens before and after a text.
#[derive(Default)]
struct Frame {
    before: Vec<u32>,
    after: Vec<u32>,
}

impl Frame {
    fn read(&mut self, value: &Value, vocabulary: &Vocabulary, depth: usize) -> Result<(), Error> {
        let Some((kind, map)) = part("post_processor", value)? else {
            return Ok(());
        };
        let token = |number: Option<&Value>| {
            let known = number.and_then(Value::as_u64);
            let known = known.filter(|&token| token < vocabulary.len() as u64);
            known.map(|token| token as u32).ok_or_else(|| {
                let found = number.unwrap_or(&Value::Null);
                wrong("post_processor's token", found, "a token")
            })
        };
        match kind {
            // It only changes the places that tokens are said to come from.
            "ByteLevel" => {}
            "Sequence" => {
                for one in sequence("post_processor", "processors", map, depth)? {
                    self.read(one, vocabulary, depth + 1)?;
                }
            }
            "BertProcessing" | "RobertaProcessing" => {
                let of = |key: &str| token(map.get(key).and_then(|pair| pair.get(1)));
                self.before.push(of("cls")?);
                self.after.push(of("sep")?);
            }
            "TemplateProcessing" => {
                let mut seen = false;
                for one in sequence("post_processor", "single", map, depth)? {
                    if one.get("Sequence").is_some() {
                        seen = true;
                        continue;
                    }
                    let id = one.pointer("/SpecialToken/id").and_then(Value::as_str);
                    let specials = map.get("special_tokens");
                    let ids = id.and_then(|id| specials?.get(id)?.get("ids")?.as_array());
                    let ids = ids.ok_or_else(|| {
                        wrong(
                            "post_processor.single",
                            one,
                            "Sequence, SpecialToken with ids",
                        )
                    })?;
                    let side = if seen {
                        &mut self.after
                    } else {
                        &mut self.before
                    };
                    for id in ids.iter().take(MAX_PARTS) {
                        side.push(token(Some(id))?);
                    }
                }
            }
            other => {
                return Err(wrong(
                    "post_processor.type",
                    other,
                    "Sequence, ByteLevel, BertProcessing, RobertaProcessing, TemplateProcessing",
                ));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Letters, a space in GPT-2's letters, and a mark.
    fn file(changes: Value) -> Value {
        let mut file = json!({
            "added_tokens": [{"id": 7, "content": "<end>", "special": true, "rstrip": true}],
            "normalizer": null,
            "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "use_regex": true},
            "post_processor": null,
            "model": {
                "type": "BPE", "merges": ["a b", ["ab", "c"]],
                "vocab": {"a": 0, "b": 1, "c": 2, "ab": 3, "abc": 4, "\u{120}": 5, "\u{120}a": 6},
            },
        });
        for (key, value) in changes.as_object().unwrap() {
            file[key] = value.clone();
        }
        file
    }

    fn tokenizer(file: &Value, tokens: usize) -> Result<Tokenizer, Error> {
        let facts = Facts {
            end: Some("<end>".to_owned()),
            tokens,
            ..Facts::default()
        };
        read(file.to_string().as_bytes(), &facts)
    }

    #[test]
    fn a_text_becomes_tokens() {
        let all = tokenizer(&file(json!({})), 20).unwrap();
        assert_eq!(all.vocabulary().len(), 20);
        assert_eq!(all.encode("abc ab<end>  c").unwrap(), [4, 5, 3, 7, 2]);
        assert!(all.vocabulary().ends(7));
        let framed = json!({"post_processor": {"type": "TemplateProcessing",
            "single": [{"Sequence": {"id": "A"}}, {"SpecialToken": {"id": "e"}}],
            "special_tokens": {"e": {"ids": [7]}}}});
        assert_eq!(
            tokenizer(&file(framed), 8).unwrap().encode("a").unwrap(),
            [0, 7]
        );
    }

    #[test]
    fn what_nobody_here_does_is_refused_by_name() {
        for (changes, part) in [
            (
                json!({"normalizer": {"type": "Nmt"}}),
                "'normalizer.type' is Nmt",
            ),
            (
                json!({"normalizer": {"type": "Replace", "pattern": {"Regex": "a+"}, "content": ""}}),
                "{\"Regex\":\"a+\"}",
            ),
            (
                json!({"normalizer": {"type": "Prepend", "prepend": "x".repeat(99)}}),
                "at most 32 bytes",
            ),
            (json!({"pre_tokenizer": {"type": "Other"}}), "Other"),
            (
                json!({"pre_tokenizer": {"type": "Split", "pattern": {"Regex": "a"},
                    "behavior": "MergedWithNext", "invert": false}}),
                "MergedWithNext",
            ),
            (
                json!({"post_processor": {"type": "Other"}}),
                "post_processor.type",
            ),
            (
                json!({"post_processor": {"type": "BertProcessing", "cls": ["x", 99], "sep": ["y", 1]}}),
                "99",
            ),
            (
                json!({"model": {"type": "WordLevel", "vocab": {"a": 0}}}),
                "WordLevel",
            ),
            (
                json!({"model": {"type": "Unigram", "vocab": [["a", -1.0]]}}),
                "Unigram",
            ),
            (
                json!({"model": {"type": "BPE", "vocab": {"a": 0, "b": 0}}}),
                "twice",
            ),
            (
                json!({"model": {"type": "BPE", "vocab": {"a": 4_000_000}}}),
                "4000001",
            ),
        ] {
            let text = tokenizer(&file(changes.clone()), 0)
                .err()
                .unwrap()
                .to_string();
            assert!(text.contains(part), "{changes}: {text}");
        }
        let text = tokenizer(&file(json!({})), 5).err().unwrap().to_string();
        assert!(text.contains("'the count of tokens' is 8"), "{text}");
        assert!(matches!(read(b"{", &Facts::default()), Err(Error::Json(_))));
    }

    #[test]
    fn the_first_space_is_put_where_the_scheme_says() {
        let metaspace = |scheme: &str| {
            tokenizer(
                &file(json!({
                    "pre_tokenizer": {"type": "Metaspace", "replacement": SPACE,
                        "prepend_scheme": scheme, "split": true},
                    "model": {"type": "BPE", "merges": [], "vocab": {"a": 0, SPACE: 1}},
                })),
                8,
            )
            .unwrap()
        };
        let text = "a<end>a a";
        assert_eq!(metaspace("first").encode(text).unwrap(), [1, 0, 7, 0, 1, 0]);
        assert_eq!(
            metaspace("always").encode(text).unwrap(),
            [1, 0, 7, 1, 0, 1, 0]
        );
        assert_eq!(metaspace("never").encode(text).unwrap(), [0, 7, 0, 1, 0]);
        assert_eq!(metaspace("always").encode(" a").unwrap(), [1, 0]);
    }
}
