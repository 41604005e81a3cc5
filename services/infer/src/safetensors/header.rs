//! The header of one file: eight bytes that say how long it is, JSON that says where each tensor lies,
//! then the tensors.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Read;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};

use super::Error;
use crate::gguf::Kind;

/// Longest header: a model of a thousand tensors has some 100 KB.
const MAX_HEADER: u64 = 32 * 1024 * 1024;
/// Most tensors, as in GGUF.
const MAX_TENSORS: usize = 64 * 1024;
/// Longest name of a tensor in bytes.
const MAX_NAME: usize = 256;

/// A tensor, of which the data is known to be inside the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tensor {
    /// The type of its numbers, as the file names it.
    pub dtype: String,
    /// The dimensions, slowest first.
    pub shape: Vec<usize>,
    /// Where the data begins, from the file's start.
    pub offset: u64,
    /// Length of the data in bytes.
    pub bytes: u64,
}

impl Tensor {
    /// How the numbers are stored, when it is a way that the engine computes with.
    #[must_use]
    pub fn kind(&self) -> Option<Kind> {
        match self.dtype.as_str() {
            "F32" => Some(Kind::F32),
            "F16" => Some(Kind::F16),
            "BF16" => Some(Kind::Bf16),
            _ => None,
        }
    }

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
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// The tensors by name.
    pub tensors: BTreeMap<String, Tensor>,
}

/// An entry as it is written.
#[derive(Deserialize)]
struct Raw {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: (u64, u64),
}

/// Entries in the file's order, so that a name that stands there twice is seen.
struct Entries(Vec<(String, Raw)>);

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct All;
        impl<'de> Visitor<'de> for All {
            type Value = Entries;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("an object of tensors")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries, A::Error> {
                let mut entries = Vec::new();
                while let Some(name) = map.next_key::<String>()? {
                    if name == "__metadata__" {
                        map.next_value::<serde::de::IgnoredAny>()?;
                        continue;
                    }
                    if entries.len() >= MAX_TENSORS {
                        let text = format!("more than {MAX_TENSORS} tensors");
                        return Err(serde::de::Error::custom(text));
                    }
                    entries.push((name, map.next_value()?));
                }
                Ok(Entries(entries))
            }
        }
        deserializer.deserialize_map(All)
    }
}

impl Header {
    /// Reads and checks the header of a file of `length` bytes; `file` is its name, for messages. The
    /// tensors' data is not read.
    ///
    /// # Errors
    /// When the bytes are no sound safetensors file.
    pub fn read(mut source: impl Read, length: u64, file: &str) -> Result<Self, Error> {
        let read = |source| Error::Read {
            file: file.to_owned(),
            source,
        };
        let mut first = [0; 8];
        if length < 8 {
            return Err(Error::invalid(
                file,
                "its length",
                length,
                "at least 8 bytes",
            ));
        }
        source.read_exact(&mut first).map_err(read)?;
        let header = u64::from_le_bytes(first);
        let most = (length - 8).min(MAX_HEADER);
        if header > most {
            let allowed = format!("at most {most} bytes: the file has {length}");
            return Err(Error::invalid(file, "the header's length", header, allowed));
        }
        let mut json = vec![0; header as usize];
        source.read_exact(&mut json).map_err(read)?;
        let Entries(entries) = serde_json::from_slice(&json).map_err(|source| Error::Json {
            file: format!("{file}'s header"),
            source,
        })?;
        let data = 8 + header;
        let mut tensors = BTreeMap::new();
        for (name, raw) in entries {
            let wrong = |problem: String| Error::Tensor {
                file: file.to_owned(),
                name: name.chars().take(MAX_NAME).collect(),
                problem,
            };
            if name.is_empty() || name.len() > MAX_NAME {
                let found = name.len();
                return Err(wrong(format!(
                    "the name has {found} bytes, allowed: 1 to {MAX_NAME}"
                )));
            }
            let tensor = placed(raw, data, length).map_err(wrong)?;
            if tensors.insert(name.clone(), tensor).is_some() {
                return Err(wrong("is listed twice".to_owned()));
            }
        }
        let mut order: Vec<_> = tensors.iter().collect();
        order.sort_by_key(|(_, tensor)| (tensor.offset, tensor.bytes));
        for pair in order.windows(2) {
            let ((first, before), (name, after)) = (pair[0], pair[1]);
            if before.offset + before.bytes > after.offset {
                return Err(Error::Tensor {
                    file: file.to_owned(),
                    name: name.clone(),
                    problem: format!("its data lies on that of tensor '{first}'"),
                });
            }
        }
        Ok(Self { tensors })
    }
}

/// Bytes of a number of that type; None for types that nobody here knows.
fn size(dtype: &str) -> Option<u64> {
    match dtype {
        "BOOL" | "U8" | "I8" | "F8_E4M3" | "F8_E5M2" => Some(1),
        "U16" | "I16" | "F16" | "BF16" => Some(2),
        "U32" | "I32" | "F32" => Some(4),
        "U64" | "I64" | "F64" | "C64" => Some(8),
        _ => None,
    }
}

/// Checks that an entry is inside the file, whose data begins at `data`.
fn placed(raw: Raw, data: u64, length: u64) -> Result<Tensor, String> {
    let (begin, end) = raw.data_offsets;
    if begin > end || end > length - data {
        return Err(format!(
            "its data is at {begin} to {end}, allowed: within the file's {} bytes of data",
            length - data
        ));
    }
    let mut elements = 1_u64;
    for &dimension in &raw.shape {
        // As in GGUF: 2^48 numbers are beyond any file, and below that no later product overflows.
        elements = match elements.checked_mul(dimension) {
            Some(product @ 0..=0x1_0000_0000_0000) => product,
            _ => return Err(format!("a dimension is {dimension}, allowed: 2^48 in all")),
        };
    }
    let bytes = end - begin;
    if let Some(size) = size(&raw.dtype)
        && elements * size != bytes
    {
        return Err(format!(
            "its data has {bytes} bytes, allowed: {}, for {elements} numbers of {}",
            elements * size,
            raw.dtype
        ));
    }
    Ok(Tensor {
        dtype: raw.dtype,
        shape: raw
            .shape
            .iter()
            .map(|&dimension| dimension as usize)
            .collect(),
        offset: data + begin,
        bytes,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(header: &str, data: usize) -> Vec<u8> {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.as_bytes());
        bytes.resize(bytes.len() + data, 0);
        bytes
    }

    fn read(bytes: &[u8]) -> Result<Header, Error> {
        Header::read(bytes, bytes.len() as u64, "m")
    }

    #[test]
    fn places_are_read() {
        let json = r#"{"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[2,3],
            "data_offsets":[0,24]},"b":{"dtype":"I64","shape":[],"data_offsets":[24,32]}}"#;
        let header = read(&file(json, 32)).unwrap();
        let (a, b) = (&header.tensors["a"], &header.tensors["b"]);
        assert_eq!(a.offset, 8 + json.len() as u64);
        assert_eq!(
            (a.kind(), a.elements(), b.kind()),
            (Some(Kind::F32), 6, None)
        );
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let one = |entry: &str| file(&format!("{{\"a\":{entry}}}"), 16);
        let at = |shape: &str, offsets: &str| {
            one(&format!(
                r#"{{"dtype":"F32","shape":{shape},"data_offsets":{offsets}}}"#
            ))
        };
        for (bytes, part) in [
            (vec![1, 2, 3], "its length is 3"),
            (u64::MAX.to_le_bytes().to_vec(), "the header's length"),
            (file("[]", 0), "not valid JSON"),
            (at("[4]", "[0,17]"), "allowed: within the file's 16 bytes"),
            (at("[4]", "[16,0]"), "16 to 0"),
            (
                at("[4]", "[18446744073709551615,0]"),
                "18446744073709551615",
            ),
            (at("[3]", "[0,16]"), "allowed: 12, for 3 numbers of F32"),
            (at("[4294967296,4294967296]", "[0,16]"), "a dimension"),
            (at("[-1]", "[0,16]"), "not valid JSON"),
            (
                file(
                    r#"{"a":{"dtype":"U8","shape":[3],"data_offsets":[0,3]},
                        "b":{"dtype":"U8","shape":[2],"data_offsets":[2,4]}}"#,
                    4,
                ),
                "'b': its data lies on that of tensor 'a'",
            ),
            (
                file(
                    r#"{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},
                        "a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}"#,
                    4,
                ),
                "listed twice",
            ),
        ] {
            let text = read(&bytes).unwrap_err().to_string();
            assert!(text.contains(part), "{text} / {part}");
        }
        let whole = file(
            r#"{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}}"#,
            4,
        );
        for length in 0..whole.len() {
            read(&whole[..length]).unwrap_err();
        }
        read(&whole).unwrap();
    }
}
