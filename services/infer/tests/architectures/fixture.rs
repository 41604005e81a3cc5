//! Models of every architecture, made of seeds: `expected/architectures/NAME.json` says what a model's
//! tensors are called and which numbers `transformers` computed with them; here the numbers of the
//! tensors are made again, and written as a GGUF file.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use sha2::{Digest, Sha256};

/// One model and what is expected of it.
#[derive(Deserialize)]
pub struct Expected {
    seed: u64,
    metadata: BTreeMap<String, serde_json::Value>,
    tensors: BTreeMap<String, Rule>,
    /// Tensors whose numbers stand in the file.
    #[serde(default)]
    listed: BTreeMap<String, Vec<f32>>,
    /// Count of tokens.
    pub vocabulary: usize,
    /// Tokens to read.
    pub prompt: Vec<u32>,
    /// Places of the prompt after which `logits` are.
    pub places: Vec<usize>,
    /// The logits after each of the places.
    pub logits: Vec<Vec<f64>>,
    /// What follows, always by the best logit.
    pub greedy: Vec<u32>,
    /// Smallest distance between the best two logits of these choices.
    pub margin: f64,
    /// Standard deviation of the last logits.
    pub deviation: f64,
}

/// Shape (rows, then columns), middle and spread of a tensor's numbers.
#[derive(Deserialize)]
struct Rule(Vec<u64>, f32, f32);

impl Rule {
    /// splitmix64 over seed, name and place: the upper 24 bits, as a fraction from -1 to 1.
    fn numbers(&self, seed: u64, name: &str) -> Vec<f32> {
        let Self(shape, middle, spread) = self;
        let digest = Sha256::digest(format!("{seed}/{name}"));
        let start = u64::from_le_bytes(digest[..8].try_into().unwrap());
        let number = |place: u64| {
            let mut z = start.wrapping_add(place.wrapping_mul(0x9E37_79B9_7F4A_7C15));
            z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            z ^= z >> 31;
            let fraction = (z >> 40) as f32 / (1_u32 << 23) as f32 - 1.0;
            middle + spread * fraction
        };
        (1..=shape.iter().product()).map(number).collect()
    }
}

impl Expected {
    /// The model of that name.
    pub fn read(name: &str) -> Self {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/expected/architectures");
        let text = std::fs::read_to_string(directory.join(format!("{name}.json"))).unwrap();
        serde_json::from_str(&text).unwrap()
    }

    /// Name, shape (rows, then columns) and numbers of each tensor.
    pub fn tensors(&self) -> Vec<(String, Vec<u64>, Vec<f32>)> {
        let made = self.tensors.iter().map(|(name, rule)| {
            let numbers = rule.numbers(self.seed, name);
            (name.clone(), rule.0.clone(), numbers)
        });
        let listed = self
            .listed
            .iter()
            .map(|(name, numbers)| (name.clone(), vec![numbers.len() as u64], numbers.clone()));
        made.chain(listed).collect()
    }

    /// The model as a GGUF file of 32-bit floats.
    pub fn gguf(&self) -> Vec<u8> {
        let tensors = self.tensors();
        let mut bytes = b"GGUF\x03\0\0\0".to_vec();
        bytes.extend((tensors.len() as u64).to_le_bytes());
        bytes.extend((self.metadata.len() as u64).to_le_bytes());
        for (key, value) in &self.metadata {
            bytes.extend(string(key));
            match value {
                serde_json::Value::String(text) => {
                    bytes.extend(8_u32.to_le_bytes());
                    bytes.extend(string(text));
                }
                serde_json::Value::Number(number) if number.is_u64() => {
                    bytes.extend(4_u32.to_le_bytes());
                    bytes.extend((number.as_u64().unwrap() as u32).to_le_bytes());
                }
                other => {
                    bytes.extend(6_u32.to_le_bytes());
                    bytes.extend((other.as_f64().unwrap() as f32).to_le_bytes());
                }
            }
        }
        let mut offset = 0_u64;
        for (name, shape, numbers) in &tensors {
            bytes.extend(string(name));
            bytes.extend((shape.len() as u32).to_le_bytes());
            for dimension in shape.iter().rev() {
                bytes.extend(dimension.to_le_bytes());
            }
            bytes.extend(0_u32.to_le_bytes());
            bytes.extend(offset.to_le_bytes());
            offset += (numbers.len() as u64 * 4).next_multiple_of(32);
        }
        for (_, _, numbers) in &tensors {
            bytes.resize(bytes.len().next_multiple_of(32), 0);
            numbers
                .iter()
                .for_each(|number| bytes.extend(number.to_le_bytes()));
        }
        bytes
    }
}

fn string(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat()
}
