//! The operator: a small model of our own that turns a plain request about the box into one call of
//! the box's API, or says that it is none.
//!
//! It is no language model and writes no text. [`words`] takes a request apart, [`encoder`] has an
//! opinion of its kind and of each word, [`decode`] finds the best [`call`] that the API has. What
//! services there are it does not know: a name is copied out of the request. It calls nothing
//! itself.
//!
//! Its file is a GGUF of an architecture of its own, so that it lies among the other models and is
//! listed like them; `cargo xtask train` makes it.

pub mod call;
pub mod decode;
pub mod desk;
pub mod encoder;
pub mod labels;
pub mod numbers;
pub mod words;

use std::fs::File;
use std::os::unix::fs::FileExt;

use candle_core::quantized::{QStorage, QTensor};
use candle_core::{Device, Tensor};
use thiserror::Error;

use crate::gguf::{self, Value};
use call::{Call, Kind};
use decode::{Opinion, decode};
use encoder::{Batch, Encoder};
use words::{MAX_PIECES, MAX_WORDS, Vocabulary};

/// What the file's `general.architecture` says.
pub const ARCHITECTURE: &str = "kos-operator";
/// The metadata that lists the words.
pub const WORDS_KEY: &str = "kos-operator.words";
/// Longest request in bytes that is looked at.
const MAX_REQUEST: usize = 4096;
/// Most words of a file: far beyond what training finds.
const MAX_VOCABULARY: usize = 100_000;

/// Why the file is no operator.
#[derive(Debug, Error)]
pub enum Error {
    /// The header says something else.
    #[error("{key}: found {found}, allowed: {allowed}")]
    Metadata {
        /// Which entry.
        key: &'static str,
        /// What it says.
        found: String,
        /// What it may say.
        allowed: &'static str,
    },
    /// A tensor is missing.
    #[error("it has no tensor '{name}'")]
    Missing {
        /// Its name.
        name: String,
    },
    /// A tensor has another shape.
    #[error("tensor '{name}' has the shape {found:?}, allowed: {allowed:?}")]
    Shape {
        /// Its name.
        name: String,
        /// What it has.
        found: Vec<usize>,
        /// What the network needs.
        allowed: Vec<usize>,
    },
    /// A tensor's data cannot be read.
    #[error("cannot read tensor '{name}'")]
    Read {
        /// Its name.
        name: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// candle refuses.
    #[error("cannot compute")]
    Compute(#[from] candle_core::Error),
    /// The header is not sound.
    #[error(transparent)]
    Header(#[from] gguf::Error),
}

/// The model in memory.
#[derive(Debug)]
pub struct Operator {
    vocabulary: Vocabulary,
    encoder: Encoder,
}

impl Operator {
    /// Whether a file's metadata says that it is an operator.
    #[must_use]
    pub fn is_in(metadata: &gguf::Metadata) -> bool {
        matches!(
            metadata.text("general.architecture"),
            Ok(Some(ARCHITECTURE))
        )
    }

    /// Reads it from its file.
    ///
    /// # Errors
    /// When the file is of another kind, or damaged.
    pub fn load(header: &gguf::File, file: &File) -> Result<Self, Error> {
        if !Self::is_in(&header.metadata) {
            return Err(Error::Metadata {
                key: "general.architecture",
                found: format!("{:?}", header.metadata.text("general.architecture")?),
                allowed: ARCHITECTURE,
            });
        }
        let vocabulary = read_vocabulary(header)?;
        let count = vocabulary.words().len();
        let mut get = |name: &str, shape: &[usize]| read_tensor(header, file, name, shape);
        let encoder = Encoder::new(count, &mut get)?;
        Ok(Operator {
            vocabulary,
            encoder,
        })
    }

    /// One of weights that are still being trained.
    #[must_use]
    pub fn new(vocabulary: Vocabulary, encoder: Encoder) -> Self {
        Operator {
            vocabulary,
            encoder,
        }
    }

    /// What a request means.
    ///
    /// # Errors
    /// When candle refuses.
    pub fn read(&self, request: &str) -> Result<Call, Error> {
        if request.len() > MAX_REQUEST {
            return Ok(Call::of(Kind::None));
        }
        let words = words::split(request);
        // Nothing, or a story: neither is a call, and the second would take time.
        if words.is_empty() || words.len() > MAX_WORDS {
            return Ok(Call::of(Kind::None));
        }
        let batch = batch(&self.vocabulary, &[&words], |_, _, number| number)?;
        let (kinds, labels) = self.encoder.forward(&batch, None)?;
        let opinion = Opinion {
            kinds: kinds.squeeze(0)?.to_vec1()?,
            labels: labels.squeeze(0)?.to_vec2()?,
        };
        Ok(decode(&words, &opinion))
    }
}

/// Requests as the network wants them. `seen` may hide the number of a word, told by its request
/// and its place there.
///
/// # Errors
/// When candle refuses.
pub fn batch(
    vocabulary: &Vocabulary,
    requests: &[&[String]],
    mut seen: impl FnMut(usize, usize, u32) -> u32,
) -> candle_core::Result<Batch> {
    let length = requests.iter().map(|words| words.len()).max().unwrap_or(0);
    let mut places = Vec::with_capacity(requests.len() * length);
    let mut mask = Vec::with_capacity(requests.len() * length);
    let mut different = std::collections::HashMap::new();
    let mut list: Vec<(u32, Vec<u32>)> = Vec::new();
    for (request, words) in requests.iter().enumerate() {
        for place in 0..length {
            let word = words.get(place).map_or("", String::as_str);
            let number = seen(request, place, vocabulary.number(word));
            let next = list.len() as u32;
            let index = *different.entry((word, number)).or_insert_with(|| {
                list.push((number, words::pieces(word)));
                next
            });
            places.push(index);
            mask.push(if place < words.len() { 1_f32 } else { 0.0 });
        }
    }
    let numbers: Vec<u32> = list.iter().map(|(number, _)| *number).collect();
    let mut pieces = vec![0_u32; list.len() * MAX_PIECES];
    let mut weights = vec![0_f32; list.len() * MAX_PIECES];
    for (row, (_, of_word)) in list.iter().enumerate() {
        #[expect(clippy::cast_precision_loss)]
        let weight = 1.0 / (of_word.len().max(1) as f32).sqrt();
        for (column, &piece) in of_word.iter().enumerate() {
            pieces[row * MAX_PIECES + column] = piece;
            weights[row * MAX_PIECES + column] = weight;
        }
    }
    let device = &Device::Cpu;
    let count = list.len();
    Ok(Batch {
        words: Tensor::from_vec(numbers, count, device)?,
        pieces: Tensor::from_vec(pieces, (count, MAX_PIECES), device)?,
        weights: Tensor::from_vec(weights, (count, MAX_PIECES, 1), device)?,
        places: Tensor::from_vec(places, requests.len() * length, device)?,
        mask: Tensor::from_vec(mask, (requests.len(), length), device)?,
    })
}

fn read_vocabulary(header: &gguf::File) -> Result<Vocabulary, Error> {
    let wrong = |found: String| Error::Metadata {
        key: WORDS_KEY,
        found,
        allowed: "2 to 100000 texts",
    };
    let values = header
        .metadata
        .array(WORDS_KEY)?
        .ok_or_else(|| wrong("nothing".to_owned()))?;
    if !(2..=MAX_VOCABULARY).contains(&values.len()) {
        return Err(wrong(format!("{} entries", values.len())));
    }
    let words = values.iter().map(|value| match value {
        Value::String(text) => Ok(text.clone()),
        other => Err(wrong(format!("{other:?}"))),
    });
    Ok(Vocabulary::new(words.collect::<Result<_, _>>()?))
}

fn read_tensor(
    header: &gguf::File,
    file: &File,
    name: &str,
    shape: &[usize],
) -> Result<Tensor, Error> {
    let name = || name.to_owned();
    let tensor = header
        .tensors
        .get(&name())
        .ok_or_else(|| Error::Missing { name: name() })?;
    if tensor.shape != shape {
        return Err(Error::Shape {
            name: name(),
            found: tensor.shape.clone(),
            allowed: shape.to_vec(),
        });
    }
    // The header's check has bounded this by the file's length.
    let mut bytes = vec![0; tensor.bytes as usize];
    file.read_exact_at(&mut bytes, tensor.offset)
        .map_err(|source| Error::Read {
            name: name(),
            source,
        })?;
    let storage = QStorage::from_data(bytes.into(), &Device::Cpu, tensor.kind.candle())?;
    Ok(QTensor::new(storage, shape)?.dequantize(&Device::Cpu)?)
}
