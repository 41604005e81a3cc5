//! The trained model as a GGUF file.

use std::io::{Cursor, Write};
use std::path::Path;

use anyhow::{Context, Result};
use candle_core::Tensor;
use candle_core::quantized::gguf_file::{self, Value};
use candle_core::quantized::{GgmlDType, QTensor};
use kos_infer::operator::words::Vocabulary;
use kos_infer::operator::{ARCHITECTURE, WORDS_KEY};

/// Numbers in a block of Q8_0: a row must be a multiple of it.
const BLOCK: usize = 32;

/// The file's bytes. Matrices are stored in 8 bits, with one scale for 32 of them.
///
/// # Errors
/// When candle refuses.
pub fn file(
    vocabulary: &Vocabulary,
    weights: &[(String, Tensor)],
    record: &str,
) -> Result<Vec<u8>> {
    let mut tensors = Vec::with_capacity(weights.len());
    for (name, tensor) in weights {
        let row = tensor.dims().last().copied().unwrap_or(0);
        let kind = match tensor.rank() >= 2 && row % BLOCK == 0 {
            true => GgmlDType::Q8_0,
            false => GgmlDType::F32,
        };
        tensors.push((name.as_str(), QTensor::quantize(tensor, kind)?));
    }
    let words = vocabulary
        .words()
        .iter()
        .cloned()
        .map(Value::String)
        .collect();
    let text = |text: &str| Value::String(text.to_owned());
    let metadata = [
        ("general.architecture", text(ARCHITECTURE)),
        ("general.name", text("operator")),
        (
            "general.description",
            text("Requests about a kOS box to calls of its API; no chat"),
        ),
        ("general.license", text("MIT OR Apache-2.0")),
        ("general.file_type", Value::U32(7)),
        ("kos-operator.training", text(record)),
        (WORDS_KEY, Value::Array(words)),
    ];
    let metadata: Vec<_> = metadata.iter().map(|(key, value)| (*key, value)).collect();
    let tensors: Vec<_> = tensors
        .iter()
        .map(|(name, tensor)| (*name, tensor))
        .collect();
    let mut bytes = Cursor::new(Vec::new());
    gguf_file::write(&mut bytes, &metadata, &tensors)?;
    Ok(bytes.into_inner())
}

/// Puts them where they belong, at once or not at all.
///
/// # Errors
/// When that cannot be written.
pub fn put(path: &Path, bytes: &[u8]) -> Result<()> {
    let partial = path.with_extension("partial");
    let act = || format!("write {}", path.display());
    let mut file = std::fs::File::create(&partial).with_context(act)?;
    file.write_all(bytes).with_context(act)?;
    std::fs::rename(&partial, path).with_context(act)
}
