//! A tokenizer from a GGUF file's metadata.

use super::charsmap::Charsmap;
use super::normalize::Normalizer;
use super::pairs::{Habits, Pairs, parts};
use super::pieces::Pieces;
use super::rules::Rules;
use super::special::{Special, Strip};
use super::split::Step;
use super::unigram::Unigram;
use super::vocabulary::{Kind, SPACE, Spelling, Vocabulary};
use super::words::Words;
use super::{Error, Model, Tokenizer};
use crate::gguf::{Metadata, Value, required};

const MERGES: &str = "tokenizer.ggml.merges";
const SCORES: &str = "tokenizer.ggml.scores";
const CHARSMAP: &str = "tokenizer.ggml.precompiled_charsmap";

/// What the families differ in, beside the model itself.
struct Family {
    normalizers: Vec<Normalizer>,
    steps: Vec<Step>,
    model: Model,
    spelling: Spelling,
    /// Whether a text gets a token before and after it, unless the file says otherwise.
    frame: (bool, bool),
}

/// Builds the tokenizer that the metadata describes.
pub(super) fn read(metadata: &Metadata) -> Result<Tokenizer, Error> {
    let key = "tokenizer.ggml.model";
    let name = required(key, metadata.text(key)?)?;
    let mut vocabulary = Vocabulary::read(metadata)?;
    let family = match name {
        "gpt2" => pairs(metadata, metadata.text("tokenizer.ggml.pre")?, &vocabulary)?,
        "gemma4" => pairs(metadata, Some("gemma4"), &vocabulary)?,
        "llama" => pieces(metadata, &vocabulary)?,
        "bert" => words(metadata, &mut vocabulary)?,
        "t5" => unigram(metadata, &vocabulary)?,
        other => {
            return Err(Error::Family {
                found: other.to_owned(),
                allowed: "gpt2, llama, bert, t5, gemma4",
            });
        }
    };
    let truth = |key, default: bool| metadata.truth(key).map(|found| found.unwrap_or(default));
    let begin = truth("tokenizer.ggml.add_bos_token", family.frame.0)?;
    let end = truth("tokenizer.ggml.add_eos_token", family.frame.1)?;
    vocabulary.add_begin = begin;
    let roles = vocabulary.roles;
    let after = if name == "bert" {
        roles.separator
    } else {
        roles.end.filter(|_| end)
    };
    let special = Special::new(&vocabulary, strips(metadata, &vocabulary)?)?;
    Ok(Tokenizer {
        before: roles.begin.filter(|_| begin).into_iter().collect(),
        after: after.into_iter().collect(),
        special,
        normalizers: family.normalizers,
        steps: family.steps,
        model: family.model,
        spelling: family.spelling,
        vocabulary,
    })
}

/// Which tokens take the spaces beside them: files do not say it, so llama.cpp knows it by name.
fn strips<'v>(
    metadata: &Metadata,
    vocabulary: &'v Vocabulary,
) -> Result<impl Fn(u32) -> Strip + use<'v>, Error> {
    let model = metadata.text("general.name")?.unwrap_or("").to_lowercase();
    let phi3 = model.contains("phi-3") || model.contains("phi3");
    Ok(move |token: u32| {
        let text = vocabulary.entry(token).map_or("", |entry| &entry.text);
        Strip {
            left: false,
            right: phi3 && !matches!(text, "<unk>" | "<s>" | "<|endoftext|>"),
        }
    })
}

fn pairs(
    metadata: &Metadata,
    rules: Option<&str>,
    vocabulary: &Vocabulary,
) -> Result<Family, Error> {
    let rules = Rules::named(rules.unwrap_or_default())?;
    let lines = required(MERGES, metadata.texts(MERGES)?)?;
    let merges = lines
        .into_iter()
        .enumerate()
        .map(|(place, line)| parts(line, place, MERGES))
        .collect::<Result<Vec<_>, _>>()?;
    let habits = Habits {
        spelling: rules.spelling,
        whole_words: rules.whole_words,
        unknown: None,
    };
    let normalizers = match rules.spelling {
        Spelling::Letters => Vec::new(),
        Spelling::Plain => vec![Normalizer::Replace {
            from: " ".to_owned(),
            to: SPACE.to_owned(),
        }],
    };
    Ok(Family {
        normalizers,
        steps: rules.steps()?,
        model: Model::Pairs(Pairs::new(merges.into_iter(), habits, vocabulary)),
        spelling: rules.spelling,
        frame: (rules.begins, false),
    })
}

fn scores(metadata: &Metadata, vocabulary: &Vocabulary) -> Result<Vec<f64>, Error> {
    let values = required(SCORES, metadata.array(SCORES)?)?;
    if values.len() != vocabulary.len() {
        return Err(Error::Count {
            key: SCORES,
            found: values.len(),
            allowed: vocabulary.len(),
        });
    }
    let score = |(place, value): (usize, &Value)| match value {
        Value::Float(score) if !score.is_nan() => Ok(*score),
        Value::Signed(score) => Ok(*score as f64),
        other => Err(Error::Entry {
            key: SCORES,
            place,
            found: format!("{other:?}"),
            allowed: "a number".to_owned(),
        }),
    };
    values.iter().enumerate().map(score).collect()
}

fn pieces(metadata: &Metadata, vocabulary: &Vocabulary) -> Result<Family, Error> {
    let scores = scores(metadata, vocabulary)?;
    let prefix = metadata
        .truth("tokenizer.ggml.add_space_prefix")?
        .unwrap_or(true);
    let mut normalizers = vec![Normalizer::Replace {
        from: " ".to_owned(),
        to: SPACE.to_owned(),
    }];
    if prefix {
        // Before every text: one that does not begin all stands after a special token.
        normalizers.push(Normalizer::Prepend(SPACE.to_owned()));
    }
    let scores = scores.into_iter().map(|score| score as f32).collect();
    Ok(Family {
        normalizers,
        steps: Vec::new(),
        model: Model::Pieces(Pieces::new(scores, vocabulary.roles.unknown, vocabulary)),
        spelling: Spelling::Plain,
        frame: (true, false),
    })
}

fn words(metadata: &Metadata, vocabulary: &mut Vocabulary) -> Result<Family, Error> {
    let lowercase = metadata
        .truth("tokenizer.ggml.normalizer.lowercase")?
        .unwrap_or(true);
    let strip_accents = metadata
        .truth("tokenizer.ggml.normalizer.strip_accents")?
        .unwrap_or(lowercase);
    // Old files do not say them; every vocabulary of this family calls them so.
    let named = |role: Option<u32>, name: &str| role.or_else(|| vocabulary.token(name));
    let mut roles = vocabulary.roles;
    roles.begin = named(roles.begin, "[CLS]");
    roles.separator = named(roles.separator, "[SEP]");
    roles.unknown = named(roles.unknown, "[UNK]");
    vocabulary.roles = roles;
    Ok(Family {
        normalizers: vec![Normalizer::Bert {
            clean: true,
            chinese: true,
            strip_accents,
            lowercase,
        }],
        steps: vec![Step::Bert],
        model: Model::Words(Words::new(vocabulary.roles.unknown, vocabulary)),
        spelling: Spelling::Plain,
        frame: (true, false),
    })
}

fn unigram(metadata: &Metadata, vocabulary: &Vocabulary) -> Result<Family, Error> {
    let scores = scores(metadata, vocabulary)?;
    let truth = |key, default: bool| metadata.truth(key).map(|found| found.unwrap_or(default));
    let mut normalizers = Vec::new();
    if let Some(table) = metadata.array(CHARSMAP)? {
        let byte = |(place, value): (usize, &Value)| match value {
            Value::Unsigned(byte) => Ok(*byte as u8),
            Value::Signed(byte) => Ok(*byte as u8),
            other => Err(Error::Entry {
                key: CHARSMAP,
                place,
                found: format!("{other:?}"),
                allowed: "a byte".to_owned(),
            }),
        };
        let table: Vec<u8> = table
            .iter()
            .enumerate()
            .map(byte)
            .collect::<Result<_, _>>()?;
        let charsmap = Charsmap::parse(&table).ok_or_else(|| Error::Entry {
            key: CHARSMAP,
            place: 0,
            found: format!("{} bytes that are no table", table.len()),
            allowed: "a table of SentencePiece".to_owned(),
        })?;
        normalizers.push(Normalizer::Charsmap(charsmap));
    }
    normalizers.push(Normalizer::Spaces {
        prefix: truth("tokenizer.ggml.add_space_prefix", true)?,
        merge: truth("tokenizer.ggml.remove_extra_whitespaces", false)?,
    });
    // The family's own default.
    let unknown = vocabulary.roles.unknown.unwrap_or_else(|| {
        let first = vocabulary.entry(2).map(|entry| entry.kind);
        if first == Some(Kind::Unknown) { 2 } else { 0 }
    });
    Ok(Family {
        normalizers,
        steps: Vec::new(),
        model: Model::Unigram(Unigram::new(scores, unknown, vocabulary)),
        spelling: Spelling::Plain,
        frame: (false, true),
    })
}
