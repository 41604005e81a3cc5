//! Takes a model's tensors out of its file.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use candle_core::quantized::{QMatMul, QStorage, QTensor};
use candle_core::{Device, Module, Tensor};

use super::{Config, Error};
use crate::gguf::{self, Kind};

/// candle's packed copies are tiles of so many rows and columns (its `repack_x86`).
const TILE_ROWS: usize = 16;
const TILE_COLUMNS: usize = 256;

/// An open file and its checked header.
pub struct Weights<'a> {
    header: &'a gguf::File,
    file: &'a File,
}

impl<'a> Weights<'a> {
    /// The tensors of `file`, whose header is `header`.
    #[must_use]
    pub fn new(header: &'a gguf::File, file: &'a File) -> Self {
        Self { header, file }
    }

    /// Whether the file has a tensor.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.header.tensors.contains_key(name)
    }

    /// A matrix as the file stores it, of exactly this shape.
    ///
    /// # Errors
    /// When it is missing, of another shape, or unreadable.
    pub fn matrix(&self, name: &str, rows: usize, columns: usize) -> Result<Matrix, Error> {
        let quantized = Arc::new(self.load(name, &[rows, columns])?);
        let product = match quantized.dtype() {
            // Wide floats go through candle's blocked matrix product, which prompts profit from.
            candle_core::quantized::GgmlDType::F32 => QMatMul::from_arc(quantized)?,
            // Everything else is computed with as it is stored; `from_arc` would blow F16 up.
            _ => QMatMul::QTensor(quantized),
        };
        Ok(Matrix { product })
    }

    /// A vector of 32-bit floats.
    ///
    /// # Errors
    /// As [`Self::matrix`].
    pub fn vector(&self, name: &str, length: usize) -> Result<Tensor, Error> {
        Ok(self.load(name, &[length])?.dequantize(&Device::Cpu)?)
    }

    fn load(&self, name: &str, shape: &[usize]) -> Result<QTensor, Error> {
        let tensor = self
            .header
            .tensors
            .get(name)
            .ok_or_else(|| Error::Missing {
                name: name.to_owned(),
            })?;
        if tensor.shape != shape {
            return Err(Error::Shape {
                name: name.to_owned(),
                found: tensor.shape.clone(),
                allowed: shape.to_vec(),
            });
        }
        // The header's check has bounded this by the file's length.
        let mut bytes = vec![0; tensor.bytes as usize];
        self.file
            .read_exact_at(&mut bytes, tensor.offset)
            .map_err(|source| Error::Read {
                name: name.to_owned(),
                source,
            })?;
        let storage = QStorage::from_data(bytes.into(), &Device::Cpu, tensor.kind.candle())?;
        Ok(QTensor::new(storage, shape)?)
    }
}

/// A weight matrix that rows of activations are multiplied with.
#[derive(Debug, Clone)]
pub struct Matrix {
    product: QMatMul,
}

impl Matrix {
    /// `rows × columns` activations to `rows × outputs`.
    ///
    /// # Errors
    /// When candle refuses.
    pub fn forward(&self, activations: &Tensor) -> Result<Tensor, Error> {
        Ok(self.product.forward(activations)?)
    }

    /// The rows of `tokens`, as 32-bit floats.
    ///
    /// # Errors
    /// When a token is beyond the last row.
    pub fn rows(&self, tokens: &Tensor) -> Result<Tensor, Error> {
        Ok(self.product.embedding(tokens)?)
    }
}

/// Memory that the model takes once it has computed: the weights, and the packed copies that
/// candle makes of some of them at their first use.
#[must_use]
pub fn loaded_bytes(header: &gguf::File, config: &Config, context: usize) -> u64 {
    let weights: u64 = header
        .tensors
        .values()
        .map(|t| t.bytes + packed_bytes(t))
        .sum();
    // A tensor's bytes pass through a buffer of their own while they are read.
    let largest = header.tensors.values().map(|t| t.bytes).max().unwrap_or(0);
    weights + largest + config.cache_bytes(context)
}

/// Size of candle 0.11's tiles for one tensor: with AVX2, Q4_K and Q6_K always get them.
/// (Q8_0 gets them with VNNI; counting that everywhere errs on the safe side.)
fn packed_bytes(tensor: &gguf::Tensor) -> u64 {
    let &[rows, columns] = tensor.shape.as_slice() else {
        return 0;
    };
    if rows % TILE_ROWS != 0 || columns % TILE_COLUMNS != 0 {
        return 0;
    }
    let tiles = tensor.elements() / (TILE_ROWS * TILE_COLUMNS) as u64;
    match tensor.kind {
        // 8 × 16 scales and as many minima in 32 bits, and 16 × 128 bytes of quants.
        Kind::Q4K => tiles * (1024 + 2048),
        // 16 × 16 scales in 32 bits, and a byte for each quant.
        Kind::Q6K => tiles * (1024 + 4096),
        // A 16-bit scale and 32 bytes for each row's block: as large as the original.
        Kind::Q8_0 => tensor.bytes,
        _ => 0,
    }
}
