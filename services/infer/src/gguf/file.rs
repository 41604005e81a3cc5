//! A whole GGUF header: metadata and the places of the tensors.

use std::collections::BTreeMap;
use std::io::Read;

use super::reader::Reader;
use super::{Error, Kind, Metadata};

/// Most metadata entries; real files have some 50.
const MAX_ENTRIES: u64 = 64 * 1024;

/// Most tensors; a model of 126 layers has about 1,140.
const MAX_TENSORS: u64 = 64 * 1024;

/// Longest tensor name in bytes; the format says 64.
const MAX_NAME: usize = 256;

/// Where a tensor's data begins unless the file says otherwise.
const DEFAULT_ALIGNMENT: u64 = 32;

/// One tensor, of which the data is known to be inside the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tensor {
    /// How the numbers are stored.
    pub kind: Kind,
    /// The dimensions, slowest first (rows, then columns): the reverse of the file's order.
    pub shape: Vec<usize>,
    /// Where the data begins, from the file's start.
    pub offset: u64,
    /// Length of the data in bytes.
    pub bytes: u64,
}

impl Tensor {
    /// Count of numbers.
    #[must_use]
    pub fn elements(&self) -> u64 {
        self.shape
            .iter()
            .map(|&dimension| dimension as u64)
            .product()
    }
}

/// A checked header.
#[derive(Debug, Clone)]
pub struct File {
    /// Format version, 2 or 3.
    pub version: u32,
    /// Everything the file says about its model.
    pub metadata: Metadata,
    /// The tensors by name.
    pub tensors: BTreeMap<String, Tensor>,
    /// Bytes before the tensors' data.
    pub header_bytes: u64,
}

impl File {
    /// Reads and checks the header of a file of `length` bytes. The tensors' data is not read.
    ///
    /// # Errors
    /// When the bytes are not a sound GGUF file of types that the engine knows.
    pub fn read<R: Read>(source: R, length: u64) -> Result<Self, Error> {
        let mut reader = Reader::new(source, length);
        let version = read_version(&mut reader)?;
        let tensor_count = read_count(&mut reader, "the tensor count", MAX_TENSORS)?;
        let entry_count = read_count(&mut reader, "the metadata count", MAX_ENTRIES)?;
        let metadata = Metadata::read(&mut reader, entry_count)?;
        let alignment = read_alignment(&metadata)?;
        let mut tensors = BTreeMap::new();
        for place in 0..tensor_count {
            let (name, tensor) = read_tensor(&mut reader, place)?;
            if tensors.insert(name.clone(), tensor).is_some() {
                return Err(Error::Tensor {
                    name,
                    problem: "is listed twice".to_owned(),
                });
            }
        }
        let header_bytes = reader.offset().next_multiple_of(alignment);
        place_tensors(&mut tensors, header_bytes, alignment, length)?;
        Ok(Self {
            version,
            metadata,
            tensors,
            header_bytes,
        })
    }
}

fn read_version<R: Read>(reader: &mut Reader<R>) -> Result<u32, Error> {
    let magic = reader.bytes4("the magic number")?;
    if &magic != b"GGUF" {
        return Err(Error::Magic {
            found: format!("\"{}\"", magic.escape_ascii()),
        });
    }
    match reader.u32("the version")? {
        version @ (2 | 3) => Ok(version),
        found => {
            let swapped = matches!(found.swap_bytes(), 1..=3);
            let hint = if swapped {
                " (a file of a big-endian machine)"
            } else {
                ""
            };
            Err(Error::Version { found, hint })
        }
    }
}

fn read_count<R: Read>(reader: &mut Reader<R>, what: &str, limit: u64) -> Result<u64, Error> {
    let offset = reader.offset();
    let found = reader.u64(what)?;
    if found > limit {
        return Err(Error::Limit {
            what: what.to_owned(),
            offset,
            found,
            limit,
        });
    }
    Ok(found)
}

fn read_alignment(metadata: &Metadata) -> Result<u64, Error> {
    let key = "general.alignment";
    let Some(found) = metadata.number(key)? else {
        return Ok(DEFAULT_ALIGNMENT);
    };
    if !(8..=65536).contains(&found) || !found.is_power_of_two() {
        return Err(Error::Metadata {
            key: key.to_owned(),
            found: found.to_string(),
            allowed: "a power of two from 8 to 65536".to_owned(),
        });
    }
    Ok(found as u64)
}

/// Reads one entry of the tensor list; its offset still counts from the data's start.
fn read_tensor<R: Read>(reader: &mut Reader<R>, place: u64) -> Result<(String, Tensor), Error> {
    let name = reader.string(&format!("the name of tensor {place}"))?;
    let wrong = |problem: String| Error::Tensor {
        name: name.clone(),
        problem,
    };
    if name.is_empty() || name.len() > MAX_NAME {
        return Err(wrong(format!(
            "the name has {} bytes, allowed: 1 to {MAX_NAME}",
            name.len()
        )));
    }
    let what = format!("tensor '{name}'");
    let dimensions = reader.u32(&what)?;
    if !(1..=4).contains(&dimensions) {
        return Err(wrong(format!(
            "it has {dimensions} dimensions, allowed: 1 to 4"
        )));
    }
    let mut shape = Vec::new();
    let mut elements = 1_u64;
    for _ in 0..dimensions {
        let dimension = reader.u64(&what)?;
        // 2^48 numbers are beyond any file; below that no later product can overflow.
        elements = match elements.checked_mul(dimension) {
            Some(product @ 1..=0x1_0000_0000_0000) => product,
            _ => {
                return Err(wrong(format!(
                    "a dimension is {dimension}, allowed: 1 to 2^48 in all"
                )));
            }
        };
        shape.push(dimension as usize);
    }
    let kind = Kind::from_number(reader.u32(&what)?)
        .map_err(|found| wrong(format!("its type is {found}, allowed: {}", Kind::ALLOWED)))?;
    if !shape[0].is_multiple_of(kind.block_columns()) {
        return Err(wrong(format!(
            "a row has {} numbers, allowed for {}: multiples of {}",
            shape[0],
            kind.name(),
            kind.block_columns()
        )));
    }
    let offset = reader.u64(&what)?;
    shape.reverse();
    let bytes = elements / kind.block_columns() as u64 * kind.block_bytes() as u64;
    Ok((
        name,
        Tensor {
            kind,
            shape,
            offset,
            bytes,
        },
    ))
}

/// Checks that every tensor is inside the file and on no other, and makes offsets absolute.
fn place_tensors(
    tensors: &mut BTreeMap<String, Tensor>,
    header_bytes: u64,
    alignment: u64,
    length: u64,
) -> Result<(), Error> {
    let data_bytes = length.saturating_sub(header_bytes);
    for (name, tensor) in tensors.iter_mut() {
        let wrong = |problem: String| Error::Tensor {
            name: name.clone(),
            problem,
        };
        if !tensor.offset.is_multiple_of(alignment) {
            return Err(wrong(format!(
                "its data begins at {} of the data, allowed: multiples of {alignment}",
                tensor.offset
            )));
        }
        match tensor.offset.checked_add(tensor.bytes) {
            Some(end) if end <= data_bytes => tensor.offset += header_bytes,
            _ => {
                return Err(wrong(format!(
                    "the file is truncated or damaged: the data at {} has {} bytes, the file has \
                     {data_bytes} bytes of data",
                    tensor.offset, tensor.bytes
                )));
            }
        }
    }
    let mut order: Vec<_> = tensors.iter().collect();
    order.sort_by_key(|(_, tensor)| tensor.offset);
    for pair in order.windows(2) {
        let ((first, before), (second, after)) = (pair[0], pair[1]);
        if before.offset + before.bytes > after.offset {
            return Err(Error::Tensor {
                name: second.clone(),
                problem: format!("its data lies on that of tensor '{first}'"),
            });
        }
    }
    Ok(())
}
