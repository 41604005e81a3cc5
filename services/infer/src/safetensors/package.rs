//! A package: the files of one model, read and checked as far as their headers.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufReader;
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::{Map, Value as Json};

use super::config::Config;
use super::json::Object;
use super::{Error, Header, Tensor, names};
use crate::gguf::{Metadata, Value};
use crate::model::{self, Pooling, Stored, Tensors};
use crate::tokenizer::{Facts, Tokenizer};

/// The files of a package by their names in it.
pub type Files = BTreeMap<String, PathBuf>;

const CONFIG: &str = "config.json";
const TOKENIZER: &str = "tokenizer.json";
const TOKENIZER_CONFIG: &str = "tokenizer_config.json";
const GENERATION: &str = "generation_config.json";
const MODULES: &str = "modules.json";
const SENTENCE: &str = "sentence_bert_config.json";
const TEMPLATE: &str = "chat_template.jinja";
const WEIGHTS: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// Largest of the small files; chat templates with tool descriptions reach some 30 KB.
const MAX_TEXT: u64 = 4 * 1024 * 1024;
/// Largest tokenizer: Gemma's, with 262,144 tokens, has 33 MB.
const MAX_TOKENIZER: u64 = 128 * 1024 * 1024;
/// Most files with weights: the largest open models have some 200.
const MAX_FILES: usize = 1000;
/// Longest name of a file.
const MAX_NAME: usize = 200;

/// Whether a file of that name is part of a package. A name has one folder at most and leads nowhere else.
#[must_use]
pub fn belongs(name: &str) -> bool {
    let part = |part: &str| {
        let letter = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.+".contains(&byte);
        !part.is_empty() && !part.starts_with('.') && part.bytes().all(letter)
    };
    if name.len() > MAX_NAME {
        return false;
    }
    match name.split_once('/') {
        Some((folder, file)) => part(folder) && file == CONFIG,
        None => {
            let known = [
                CONFIG,
                TOKENIZER,
                TOKENIZER_CONFIG,
                GENERATION,
                MODULES,
                SENTENCE,
                TEMPLATE,
                INDEX,
            ];
            part(name) && (known.contains(&name) || name.ends_with(".safetensors"))
        }
    }
}

/// A model of several files, in GGUF's terms.
pub struct Package {
    metadata: Metadata,
    /// What is in its files, by the names of GGUF.
    tensors: BTreeMap<String, (Arc<File>, Tensor)>,
    /// What stands in its configuration.
    listed: BTreeMap<String, Vec<f32>>,
    /// Norms are stored with 1 taken off (Gemma).
    norms_less_one: bool,
    facts: Facts,
    files: Files,
}

impl Package {
    /// Reads all but the tokenizer and the weights.
    ///
    /// # Errors
    /// When a file is missing or damaged, or the model is one that the engine does not have.
    pub fn open(files: &Files) -> Result<Self, Error> {
        let map = needed(files, CONFIG)?;
        let config = Config::read(&Object::new(CONFIG, &map))?;
        let tokenizer = optional(files, TOKENIZER_CONFIG)?.unwrap_or_default();
        let tokenizer = Object::new(TOKENIZER_CONFIG, &tokenizer);
        let generation = optional(files, GENERATION)?.unwrap_or_default();
        let facts = Facts {
            begin: mark(&tokenizer, "bos_token")?,
            end: mark(&tokenizer, "eos_token")?,
            ends: [
                ends(&Object::new(CONFIG, &map))?,
                ends(&Object::new(GENERATION, &generation))?,
            ]
            .concat(),
            tokens: config.vocabulary,
        };
        let mut entries = config.entries;
        if let Some(template) = template(files, &tokenizer)? {
            entries.insert(
                "tokenizer.chat_template".to_owned(),
                Value::String(template),
            );
        }
        let pooling = pooling(files)?;
        if let Some(pooling) = pooling {
            let key = format!("{}.pooling_type", config.architecture);
            entries.insert(key, Value::Unsigned(pooling.number()));
        }
        if config.architecture == "bert" {
            let key = "bert.context_length".to_owned();
            let least = shortest(files, &tokenizer)?;
            if let (Some(Value::Unsigned(context)), Some(least)) = (entries.get_mut(&key), least) {
                *context = least.min(*context);
            }
        }
        let sandwich = matches!(config.architecture, "gemma2" | "gemma3");
        let name = |name: &str| match config.architecture {
            "bert" => names::bert(name),
            // A file may hold the output beside the embedding that it is.
            _ if config.tied && name == "lm_head.weight" => None,
            _ => names::decoder(name, sandwich),
        };
        let tensors = tensors(files, name)?;
        if config.architecture != "bert" && !config.tied && !tensors.contains_key("output.weight") {
            let problem = "is missing, although 'tie_word_embeddings' is false".to_owned();
            return Err(Error::Tensor {
                file: WEIGHTS.to_owned(),
                name: "lm_head.weight".to_owned(),
                problem,
            });
        }
        Ok(Self {
            metadata: entries.into_iter().collect(),
            tensors,
            listed: config.listed,
            norms_less_one: config.architecture.starts_with("gemma"),
            facts,
            files: files.clone(),
        })
    }

    /// What it says of itself, under GGUF's keys.
    #[must_use]
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// Its tensors, by the names of GGUF.
    pub fn tensors(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        let tensors = self.tensors.iter();
        tensors.map(|(name, (_, tensor))| (name.as_str(), tensor))
    }

    /// Reads the tokenizer.
    ///
    /// # Errors
    /// When the file is missing or damaged, or a part of it is one that the engine does not have.
    pub fn tokenizer(&self) -> Result<Tokenizer, Error> {
        let text = text(&self.files, TOKENIZER, MAX_TOKENIZER)?.ok_or_else(|| Error::NoFile {
            file: TOKENIZER.to_owned(),
        })?;
        Tokenizer::read_json(&text, &self.facts).map_err(|source| Error::Tokenizer {
            file: TOKENIZER.to_owned(),
            source,
        })
    }
}

impl Tensors for Package {
    fn find(&self, name: &str) -> Option<Stored> {
        let (file, tensor) = self.tensors.get(name)?;
        Some(Stored {
            file: file.clone(),
            offset: tensor.offset,
            format: tensor.kind()?,
            shape: tensor.shape.clone(),
        })
    }

    fn has(&self, name: &str) -> bool {
        self.listed.contains_key(name) || self.tensors.contains_key(name)
    }

    fn vector(&self, name: &str, length: usize) -> Result<Vec<f32>, model::Error> {
        if let Some(numbers) = self.listed.get(name) {
            if numbers.len() != length {
                return Err(model::Error::Shape {
                    name: name.to_owned(),
                    found: vec![numbers.len()],
                    allowed: vec![length],
                });
            }
            return Ok(numbers.clone());
        }
        let mut numbers = self.stored_vector(name, length)?;
        if self.norms_less_one && name.ends_with("norm.weight") {
            numbers.iter_mut().for_each(|number| *number += 1.0);
        }
        Ok(numbers)
    }

    fn shaped(&self, name: &str, shape: &[usize]) -> Result<Stored, model::Error> {
        if let Some((_, tensor)) = self.tensors.get(name)
            && tensor.kind().is_none()
        {
            return Err(model::Error::Unsupported {
                what: format!("tensor '{name}'"),
                found: tensor.dtype.clone(),
                allowed: "F32, F16, BF16".to_owned(),
            });
        }
        model::found(self.find(name), name, shape)
    }
}

fn open(files: &Files, name: &str) -> Result<Option<(File, u64)>, Error> {
    let Some(path) = files.get(name) else {
        return Ok(None);
    };
    let read = |source| Error::Read {
        file: name.to_owned(),
        source,
    };
    let file = File::open(path).map_err(read)?;
    let length = file.metadata().map_err(read)?.len();
    Ok(Some((file, length)))
}

/// A file's bytes.
fn text(files: &Files, name: &str, most: u64) -> Result<Option<Vec<u8>>, Error> {
    use std::io::Read;
    let Some((file, _)) = open(files, name)? else {
        return Ok(None);
    };
    let mut bytes = Vec::new();
    let read = file.take(most + 1).read_to_end(&mut bytes);
    read.map_err(|source| Error::Read {
        file: name.to_owned(),
        source,
    })?;
    if bytes.len() as u64 > most {
        let allowed = format!("at most {most} bytes");
        return Err(Error::invalid(name, "its length", "more", allowed));
    }
    Ok(Some(bytes))
}

fn json(files: &Files, name: &str) -> Result<Option<Json>, Error> {
    let bytes = text(files, name, MAX_TEXT)?;
    let value = bytes
        .map(|bytes| serde_json::from_slice(&bytes))
        .transpose();
    value.map_err(|source| Error::Json {
        file: name.to_owned(),
        source,
    })
}

/// A file that holds an object, if it is there.
fn optional(files: &Files, name: &str) -> Result<Option<Map<String, Json>>, Error> {
    match json(files, name)? {
        None => Ok(None),
        Some(Json::Object(map)) => Ok(Some(map)),
        Some(_) => Err(Error::invalid(name, "it", "no object", "an object")),
    }
}

fn needed(files: &Files, name: &str) -> Result<Map<String, Json>, Error> {
    optional(files, name)?.ok_or_else(|| Error::NoFile {
        file: name.to_owned(),
    })
}

/// A token's text: alone, or with how it is found.
fn mark(tokenizer: &Object, key: &str) -> Result<Option<String>, Error> {
    tokenizer.optional(key, "a text, an object with 'content'", |value| {
        let text = value.as_str().or_else(|| value.get("content")?.as_str())?;
        Some(text.to_owned())
    })
}

/// The tokens that end an answer: one or several.
fn ends(config: &Object) -> Result<Vec<u32>, Error> {
    let key = "eos_token_id";
    let found = config.optional(key, "a token or an array of tokens", |value| {
        let token = |value: &Json| u32::try_from(value.as_u64()?).ok();
        match value {
            Json::Array(values) => values.iter().map(token).collect(),
            value => Some(vec![token(value)?]),
        }
    })?;
    Ok(found.unwrap_or_default())
}

/// The chat template: in a file of its own, or in the tokenizer's.
fn template(files: &Files, tokenizer: &Object) -> Result<Option<String>, Error> {
    if let Some(bytes) = text(files, TEMPLATE, MAX_TEXT)? {
        let text = String::from_utf8(bytes);
        let text = text.map_err(|_| Error::invalid(TEMPLATE, "it", "no text", "UTF-8"))?;
        return Ok(Some(text));
    }
    let allowed = "a text, an array of which one is named \"default\"";
    tokenizer.optional("chat_template", allowed, |value| {
        let named = || {
            let all = value.as_array()?;
            all.iter().find(|one| one["name"] == "default")?["template"].as_str()
        };
        value.as_str().or_else(named).map(str::to_owned)
    })
}

/// How sentence-transformers makes a vector of the model's states; None when nothing is said.
fn pooling(files: &Files) -> Result<Option<Pooling>, Error> {
    let Some(modules) = json(files, MODULES)? else {
        return Ok(None);
    };
    let wrong = |found: &str| {
        let allowed = "Transformer, Pooling, Normalize";
        Error::invalid(MODULES, "a module", found, allowed)
    };
    let mut pooling = None;
    for module in modules.as_array().into_iter().flatten() {
        let kind = module["type"].as_str().unwrap_or_default();
        // The vector always has the length 1.
        match kind.rsplit('.').next().unwrap_or_default() {
            "Transformer" | "Normalize" => {}
            "Pooling" => {
                let path = module["path"].as_str().unwrap_or_default();
                let name = format!("{path}/{CONFIG}");
                let map = needed(files, &name)?;
                pooling = Some(mode(&name, &map)?);
            }
            _ => return Err(wrong(kind)),
        }
    }
    Ok(pooling)
}

fn mode(file: &str, map: &Map<String, Json>) -> Result<Pooling, Error> {
    const MODES: [(&str, Pooling); 3] = [
        ("pooling_mode_mean_tokens", Pooling::Mean),
        ("pooling_mode_cls_token", Pooling::First),
        ("pooling_mode_lasttoken", Pooling::Last),
    ];
    let on: Vec<_> = map
        .iter()
        .filter(|(key, value)| key.starts_with("pooling_mode_") && **value == Json::Bool(true))
        .map(|(key, _)| key.as_str())
        .collect();
    let known = MODES.iter().find(|(key, _)| on == [*key]);
    known.map(|(_, pooling)| *pooling).ok_or_else(|| {
        let allowed = MODES.map(|(key, _)| key).join(", or ");
        let found = format!("[{}]", on.join(", "));
        Error::invalid(file, "what is true", found, allowed)
    })
}

/// What the text may be cut to, of those who say something.
fn shortest(files: &Files, tokenizer: &Object) -> Result<Option<u64>, Error> {
    let sentence = optional(files, SENTENCE)?.unwrap_or_default();
    let sentence = Object::new(SENTENCE, &sentence).number("max_seq_length")?;
    // Written as 10^30 where nobody knew.
    let own = tokenizer.get("model_max_length").and_then(Json::as_u64);
    Ok(sentence.or(own).filter(|&tokens| tokens > 0))
}

/// The tensors of all files.
fn tensors(
    files: &Files,
    name: impl Fn(&str) -> Option<String>,
) -> Result<BTreeMap<String, (Arc<File>, Tensor)>, Error> {
    let mut all = BTreeMap::new();
    for file in weights(files)? {
        let (opened, length) =
            open(files, &file)?.ok_or_else(|| Error::NoFile { file: file.clone() })?;
        let reader = BufReader::with_capacity(1 << 16, &opened);
        let header = Header::read(reader, length, &file)?;
        let opened = Arc::new(opened);
        for (own, tensor) in header.tensors {
            let Some(name) = name(&own) else {
                continue;
            };
            if all.insert(name, (opened.clone(), tensor)).is_some() {
                return Err(Error::Tensor {
                    file,
                    name: own,
                    problem: "is in more than one file".to_owned(),
                });
            }
        }
    }
    Ok(all)
}

/// The names of the files with weights.
fn weights(files: &Files) -> Result<Vec<String>, Error> {
    let mut names: Vec<String> = match optional(files, INDEX)? {
        Some(index) => {
            let map = index.get("weight_map").and_then(Json::as_object);
            let map = map.ok_or_else(|| {
                Error::invalid(INDEX, "'weight_map'", "missing", "an object of file names")
            })?;
            let names = map.values().map(|value| {
                let name = value.as_str().filter(|name| name.ends_with(".safetensors"));
                let wrong = || {
                    let allowed = "names of *.safetensors";
                    Error::invalid(INDEX, "'weight_map'", value, allowed)
                };
                name.map(str::to_owned).ok_or_else(wrong)
            });
            names.collect::<Result<_, _>>()?
        }
        None if files.contains_key(WEIGHTS) => vec![WEIGHTS.to_owned()],
        None => {
            let names = files.keys().filter(|name| name.ends_with(".safetensors"));
            names.cloned().collect()
        }
    };
    names.sort();
    names.dedup();
    match names.len() {
        0 => Err(Error::NoFile {
            file: WEIGHTS.to_owned(),
        }),
        1..=MAX_FILES => Ok(names),
        found => {
            let allowed = format!("at most {MAX_FILES}");
            Err(Error::invalid(INDEX, "the count of files", found, allowed))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_a_package_lead_nowhere_else() {
        for name in [
            "config.json",
            "model-00001-of-00002.safetensors",
            "1_Pooling/config.json",
        ] {
            assert!(belongs(name), "{name}");
        }
        for name in [
            "../config.json",
            "/config.json",
            "a/b/config.json",
            ".x.safetensors",
            "..//config.json",
            "a/model.safetensors",
            "tokenizer.model",
            "",
        ] {
            assert!(!belongs(name), "{name}");
        }
    }
}
