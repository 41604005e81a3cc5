//! Takes a model's tensors out of its file.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use super::Error;
use crate::gguf::{self, Kind};
use crate::kernels::{Isa, Matrix, Pool, Product, unpacked};

/// Where a tensor lies.
#[derive(Debug, Clone)]
pub struct Stored {
    /// Its file.
    pub file: Arc<File>,
    /// Its first byte in the file.
    pub offset: u64,
    /// How its numbers are stored.
    pub format: Kind,
    /// Dimensions, slowest first.
    pub shape: Vec<usize>,
}

/// A model's tensors by the names that GGUF gives them, wherever they come from.
pub trait Tensors {
    /// Where a tensor lies, if there is one of that name. What is told must be inside the file.
    fn find(&self, name: &str) -> Option<Stored>;

    /// Whether there is a tensor.
    fn has(&self, name: &str) -> bool {
        self.find(name).is_some()
    }

    /// A matrix of exactly this shape.
    ///
    /// # Errors
    /// When it is missing, or of another shape.
    fn matrix(&self, name: &str, rows: usize, columns: usize) -> Result<Matrix, Error> {
        self.part(name, rows, 0..rows, columns)
    }

    /// Some rows of a matrix of `all` rows.
    ///
    /// # Errors
    /// As [`Self::matrix`].
    fn part(
        &self,
        name: &str,
        all: usize,
        rows: std::ops::Range<usize>,
        columns: usize,
    ) -> Result<Matrix, Error> {
        let stored = self.shaped(name, &[all, columns])?;
        if !columns.is_multiple_of(stored.format.block_columns()) {
            return Err(Error::Unsupported {
                what: format!("{name}'s columns"),
                found: columns.to_string(),
                allowed: format!("a multiple of {}", stored.format.block_columns()),
            });
        }
        let start = (rows.start * stored.format.row_bytes(columns)) as u64;
        Ok(Matrix::new(
            stored.file,
            stored.offset + start,
            stored.format,
            rows.len(),
            columns,
        ))
    }

    /// A vector of 32-bit floats.
    ///
    /// # Errors
    /// When it is missing, of another shape, or unreadable.
    fn vector(&self, name: &str, length: usize) -> Result<Vec<f32>, Error> {
        self.stored_vector(name, length)
    }

    /// A vector as it is stored.
    ///
    /// # Errors
    /// As [`Self::vector`].
    fn stored_vector(&self, name: &str, length: usize) -> Result<Vec<f32>, Error> {
        let stored = self.shaped(name, &[length])?;
        let mut bytes = vec![0; stored.format.row_bytes(length)];
        let read = stored.file.read_exact_at(&mut bytes, stored.offset);
        read.map_err(|source| Error::Read {
            name: name.to_owned(),
            source,
        })?;
        Ok(unpacked(stored.format, &bytes, length))
    }

    /// A vector, if there is one.
    ///
    /// # Errors
    /// As [`Self::vector`].
    fn optional_vector(&self, name: &str, length: usize) -> Result<Option<Vec<f32>>, Error> {
        if self.has(name) {
            self.vector(name, length).map(Some)
        } else {
            Ok(None)
        }
    }

    /// A tensor of exactly this shape.
    ///
    /// # Errors
    /// When it is missing, or of another shape.
    fn shaped(&self, name: &str, shape: &[usize]) -> Result<Stored, Error> {
        found(self.find(name), name, shape)
    }
}

/// What was found under a name, if it is a tensor of this shape.
///
/// # Errors
/// When nothing was found, or a tensor of another shape.
pub fn found(stored: Option<Stored>, name: &str, shape: &[usize]) -> Result<Stored, Error> {
    let stored = stored.ok_or_else(|| Error::Missing {
        name: name.to_owned(),
    })?;
    if stored.shape == shape {
        return Ok(stored);
    }
    Err(Error::Shape {
        name: name.to_owned(),
        found: stored.shape,
        allowed: shape.to_vec(),
    })
}

/// A matrix, and what is added to its product.
#[derive(Clone)]
pub struct Linear {
    /// The weights.
    pub matrix: Matrix,
    /// One for each row.
    pub bias: Option<Vec<f32>>,
}

impl Linear {
    /// Adds the bias to each row of `out`.
    fn add_bias(&self, out: &mut [f32]) {
        if let Some(bias) = &self.bias {
            for row in out.chunks_exact_mut(bias.len()) {
                crate::kernels::add(row, bias);
            }
        }
    }
}

/// Multiplies rows with several matrices of as many columns, and adds what is added.
pub(super) fn multiply<const N: usize>(
    pool: &Pool,
    isa: Isa,
    rows: &[f32],
    outs: [(&Linear, &mut [f32]); N],
) -> Result<(), Error> {
    let mut linears = Vec::with_capacity(N);
    let mut products = outs.map(|(linear, out)| {
        linears.push(linear);
        Product {
            matrix: &linear.matrix,
            out,
        }
    });
    Matrix::multiply(pool, isa, rows, &mut products).map_err(Error::Weights)?;
    for (linear, product) in linears.iter().zip(&mut products) {
        linear.add_bias(product.out);
    }
    Ok(())
}

/// The tensors of a GGUF file.
pub struct Weights<'a> {
    header: &'a gguf::File,
    file: Arc<File>,
}

impl<'a> Weights<'a> {
    /// The tensors of `file`, whose header is `header`.
    #[must_use]
    pub fn new(header: &'a gguf::File, file: Arc<File>) -> Self {
        Self { header, file }
    }
}

impl Tensors for Weights<'_> {
    fn find(&self, name: &str) -> Option<Stored> {
        let tensor = self.header.tensors.get(name)?;
        Some(Stored {
            file: self.file.clone(),
            offset: tensor.offset,
            format: tensor.kind,
            shape: tensor.shape.clone(),
        })
    }
}
