//! Packages made of seeds: `expected/packages/NAME.json` says what a model's tensors are called and what
//! `transformers` computed with them; here their numbers are made again, and written as safetensors.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use half::{bf16, f16};
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// One model and what is expected of it.
#[derive(Deserialize)]
pub struct Expected {
    seed: u64,
    dtype: String,
    parts: usize,
    tokenizer: String,
    files: BTreeMap<String, Value>,
    tensors: BTreeMap<String, Rule>,
    /// Texts, their tokens, and their vectors.
    pub texts: Vec<Text>,
    /// Of encoders: tokens that a text is cut to.
    #[serde(default)]
    pub context: usize,
    /// Of decoders: a text to go on from.
    #[serde(default)]
    pub prompt: String,
    #[serde(default)]
    pub prompt_tokens: Vec<u32>,
    /// What follows, always by the best logit.
    #[serde(default)]
    pub greedy: Vec<u32>,
}

#[derive(Deserialize)]
pub struct Text {
    pub text: String,
    pub tokens: Vec<u32>,
    pub vector: Vec<f32>,
}

/// Shape, middle and spread of a tensor's numbers.
#[derive(Deserialize)]
struct Rule(Vec<u64>, f32, f32);

impl Rule {
    /// splitmix64 over seed, name and place: the upper 24 bits, as a fraction from -1 to 1.
    fn numbers(&self, seed: u64, name: &str) -> impl Iterator<Item = f32> {
        let Self(shape, middle, spread) = self;
        let digest = Sha256::digest(format!("{seed}/{name}"));
        let start = u64::from_le_bytes(digest[..8].try_into().unwrap());
        (1..=shape.iter().product()).map(move |place: u64| {
            let mut z = start.wrapping_add(place.wrapping_mul(0x9E37_79B9_7F4A_7C15));
            z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            z ^= z >> 31;
            middle + spread * ((z >> 40) as f32 / (1_u32 << 23) as f32 - 1.0)
        })
    }
}

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/expected/packages")
}

impl Expected {
    /// The model of that name.
    pub fn read(name: &str) -> Self {
        let text = std::fs::read_to_string(directory().join(format!("{name}.json"))).unwrap();
        serde_json::from_str(&text).unwrap()
    }

    /// All its files.
    pub fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let mut files: BTreeMap<_, _> = self
            .files
            .iter()
            .map(|(name, value)| (name.clone(), value.to_string().into_bytes()))
            .collect();
        let tokenizer = format!("tokenizers/{}.json", self.tokenizer);
        let tokenizer = std::fs::read(directory().join(tokenizer)).unwrap();
        files.insert("tokenizer.json".to_owned(), tokenizer);
        if self.parts == 1 {
            let all: Vec<_> = self.tensors.iter().collect();
            files.insert("model.safetensors".to_owned(), self.weights(&all));
            return files;
        }
        let mut map = BTreeMap::new();
        for part in 0..self.parts {
            let name = format!("model-{:05}-of-{:05}.safetensors", part + 1, self.parts);
            let tensors = self.tensors.iter().skip(part).step_by(self.parts);
            let tensors: Vec<_> = tensors.collect();
            map.extend(tensors.iter().map(|(tensor, _)| (*tensor, name.clone())));
            files.insert(name, self.weights(&tensors));
        }
        let index = json!({ "metadata": {}, "weight_map": map });
        files.insert(
            "model.safetensors.index.json".to_owned(),
            index.to_string().into_bytes(),
        );
        files
    }

    fn weights(&self, tensors: &[(&String, &Rule)]) -> Vec<u8> {
        let mut header = serde_json::Map::new();
        let mut data = Vec::new();
        for (name, rule) in tensors {
            let begin = data.len();
            for number in rule.numbers(self.seed, name) {
                match self.dtype.as_str() {
                    "F32" => data.extend(number.to_le_bytes()),
                    "F16" => data.extend(f16::from_f32(number).to_le_bytes()),
                    "BF16" => data.extend(bf16::from_f32(number).to_le_bytes()),
                    other => panic!("{other}"),
                }
            }
            let place = json!({
                "dtype": self.dtype, "shape": rule.0, "data_offsets": [begin, data.len()],
            });
            header.insert((*name).clone(), place);
        }
        let header = Value::Object(header).to_string();
        let length = (header.len() as u64).to_le_bytes();
        [&length, header.as_bytes(), &data].concat()
    }
}

/// How much two vectors differ: the largest difference of a number.
pub fn distance(found: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(found.len(), expected.len());
    let pairs = found.iter().zip(expected);
    pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}
