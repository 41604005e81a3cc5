//! What clients are shown of a model.

use std::collections::BTreeMap;

use serde::Serialize;
use sha2::{Digest, Sha256};

use super::{Model, Opened};
use crate::constrain::Manner;
use crate::gguf::{self, Kind, Metadata};
use crate::operator::Operator;

/// Ollama's `details`.
#[derive(Debug, Clone, Serialize)]
pub struct Summary {
    parent_model: String,
    format: &'static str,
    family: String,
    families: Vec<String>,
    parameter_size: String,
    quantization_level: String,
}

impl Summary {
    /// Of a file whose header cannot be read.
    #[must_use]
    pub fn unknown() -> Self {
        Self {
            parent_model: String::new(),
            format: "gguf",
            family: String::new(),
            families: Vec::new(),
            parameter_size: String::new(),
            quantization_level: "unknown".to_owned(),
        }
    }
}

/// What is kept of a header for lists.
#[derive(Debug)]
pub struct Details {
    /// As in Ollama's lists.
    pub summary: Summary,
    /// Names this version of the file. Ollama's digest is that of a manifest; this one is taken
    /// over the file's length and its header's tensors, because reading all of a model to list
    /// it would take minutes on a small board.
    pub digest: String,
    /// Whether it is the operator, which no decoder runs.
    pub is_operator: bool,
    /// What it can do, in Ollama's words.
    pub capabilities: Vec<&'static str>,
    /// How it writes calls of tools.
    pub manner: Manner,
}

impl Details {
    pub(super) fn new(model: &Model, opened: &Opened) -> Self {
        let family = opened
            .metadata()
            .text("general.architecture")
            .ok()
            .flatten();
        let family = family.unwrap_or_default().to_owned();
        let summary = Summary {
            parent_model: String::new(),
            format: opened.format(),
            families: vec![family.clone()],
            family,
            parameter_size: parameter_size(opened.parameters()),
            quantization_level: quantization(opened).to_owned(),
        };
        Self {
            summary,
            digest: match model.made.digest.as_str() {
                "" => digest(model, opened),
                known => known.to_owned(),
            },
            is_operator: Operator::is_in(opened.metadata()),
            capabilities: capabilities(model, opened.metadata()),
            manner: Manner::of(template(model, opened.metadata()).unwrap_or_default()),
        }
    }

    /// Whether it can do that.
    #[must_use]
    pub fn has(&self, capability: &str) -> bool {
        self.capabilities.contains(&capability)
    }
}

/// What a model can do, by its architecture and its template.
fn capabilities(model: &Model, metadata: &Metadata) -> Vec<&'static str> {
    let text = |key| metadata.text(key).ok().flatten();
    let architecture = text("general.architecture").unwrap_or_default();
    // A decoder that says how its states become a vector was taught for that.
    let pooled = metadata.get(&format!("{architecture}.pooling_type"));
    if architecture.contains("bert") || pooled.is_some() {
        return vec!["embedding"];
    }
    let template = template(model, metadata);
    let says = |words: &[&str]| {
        words
            .iter()
            .any(|word| template.is_some_and(|t| t.contains(word)))
    };
    let mut all = vec!["completion"];
    if says(&["tools"]) {
        all.push("tools");
    }
    if says(&["<think>", "enable_thinking", "reasoning_content"]) {
        all.push("thinking");
    }
    all
}

/// The template that its prompts are made by.
fn template<'a>(model: &'a Model, metadata: &'a Metadata) -> Option<&'a str> {
    let own = || metadata.text("tokenizer.chat_template").ok().flatten();
    model.made.template.as_deref().or_else(own)
}

fn digest(model: &Model, opened: &Opened) -> String {
    let mut hash = Sha256::new();
    hash.update(model.bytes.to_le_bytes());
    for (key, value) in opened.metadata().iter() {
        // Arrays are vocabularies; the tensors' places below differ where they do.
        if !matches!(value, gguf::Value::Array(_)) {
            hash.update(format!("{key}={value:?}\n"));
        }
    }
    match opened {
        Opened::Gguf(_, header) => {
            for (name, tensor) in &header.tensors {
                hash.update(format!("{name} {tensor:?}\n"));
            }
        }
        Opened::Package(package) => {
            for (name, tensor) in package.tensors() {
                hash.update(format!("{name} {tensor:?}\n"));
            }
        }
    }
    hash.finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// A count as Ollama writes it: `8.0B`, `134.5M`.
fn parameter_size(count: u64) -> String {
    match count {
        0..1_000 => format!("{count}"),
        1_000..1_000_000 => format!("{:.2}K", count as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.2}M", count as f64 / 1e6),
        _ => format!("{:.1}B", count as f64 / 1e9),
    }
}

/// The name of the file's mix of types if it says one, else of the type that most bytes have.
fn quantization(opened: &Opened) -> &str {
    match opened.metadata().number("general.file_type").ok().flatten() {
        Some(0) => "F32",
        Some(1) => "F16",
        Some(2) => "Q4_0",
        Some(3) => "Q4_1",
        Some(7) => "Q8_0",
        Some(8) => "Q5_0",
        Some(9) => "Q5_1",
        Some(10) => "Q2_K",
        Some(11) => "Q3_K_S",
        Some(12) => "Q3_K_M",
        Some(13) => "Q3_K_L",
        Some(14) => "Q4_K_S",
        Some(15) => "Q4_K_M",
        Some(16) => "Q5_K_S",
        Some(17) => "Q5_K_M",
        Some(18) => "Q6_K",
        Some(32) => "BF16",
        _ => {
            let mut bytes: BTreeMap<&str, u64> = BTreeMap::new();
            for (_, kind, _, length) in opened.tensors() {
                *bytes.entry(kind).or_default() += length;
            }
            bytes
                .into_iter()
                .max_by_key(|&(_, b)| b)
                .map_or(Kind::F32.name(), |(name, _)| name)
        }
    }
}
