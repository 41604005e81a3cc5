//! Metadata: typed values under unique keys.

use std::collections::BTreeMap;
use std::io::Read;

use super::Error;
use super::reader::Reader;

/// Most elements in all arrays together: the largest vocabularies need about 1.1 million. An
/// element takes 32 bytes here and may take one in the file, so this bounds memory to 128 MB.
const MAX_ELEMENTS: u64 = 4 * 1024 * 1024;

/// Deepest nesting of arrays; real files have 1.
const MAX_DEPTH: u32 = 4;

/// One metadata value.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Any unsigned integer.
    Unsigned(u64),
    /// Any signed integer.
    Signed(i64),
    /// Any float.
    Float(f64),
    /// A truth value.
    Bool(bool),
    /// Text.
    String(String),
    /// Values of one type.
    Array(Vec<Value>),
}

impl Value {
    fn describe(&self) -> String {
        match self {
            Self::Unsigned(number) => format!("{number}"),
            Self::Signed(number) => format!("{number}"),
            Self::Float(number) => format!("{number}"),
            Self::Bool(truth) => format!("{truth}"),
            Self::String(text) => format!("{:?}", text.chars().take(64).collect::<String>()),
            Self::Array(values) => format!("an array of {}", values.len()),
        }
    }

    /// Reads a value of the type `number`; `budget` is what arrays may still hold.
    pub(super) fn read<R: Read>(
        reader: &mut Reader<R>,
        number: u32,
        what: &str,
        budget: &mut u64,
        depth: u32,
    ) -> Result<Self, Error> {
        Ok(match number {
            0 => Self::Unsigned(reader.u8(what)?.into()),
            1 => Self::Signed((reader.u8(what)? as i8).into()),
            2 => Self::Unsigned(reader.u16(what)?.into()),
            3 => Self::Signed((reader.u16(what)? as i16).into()),
            4 => Self::Unsigned(reader.u32(what)?.into()),
            5 => Self::Signed((reader.u32(what)? as i32).into()),
            6 => Self::Float(f32::from_bits(reader.u32(what)?).into()),
            7 => {
                let offset = reader.offset();
                match reader.u8(what)? {
                    0 => Self::Bool(false),
                    1 => Self::Bool(true),
                    other => {
                        return Err(Error::Invalid {
                            what: what.to_owned(),
                            offset,
                            found: format!("the truth value {other}"),
                            allowed: "0, 1".to_owned(),
                        });
                    }
                }
            }
            8 => Self::String(reader.string(what)?),
            9 => Self::read_array(reader, what, budget, depth)?,
            10 => Self::Unsigned(reader.u64(what)?),
            11 => Self::Signed(reader.u64(what)? as i64),
            12 => Self::Float(f64::from_bits(reader.u64(what)?)),
            other => {
                return Err(Error::Invalid {
                    what: format!("the type of {what}"),
                    offset: reader.offset(),
                    found: other.to_string(),
                    allowed: "0 to 12".to_owned(),
                });
            }
        })
    }

    fn read_array<R: Read>(
        reader: &mut Reader<R>,
        what: &str,
        budget: &mut u64,
        depth: u32,
    ) -> Result<Self, Error> {
        let offset = reader.offset();
        if depth >= MAX_DEPTH {
            return Err(Error::Limit {
                what: format!("the nesting of {what}"),
                offset,
                found: u64::from(depth) + 1,
                limit: MAX_DEPTH.into(),
            });
        }
        let number = reader.u32(what)?;
        let count = reader.u64(what)?;
        if count > *budget {
            return Err(Error::Limit {
                what: format!("the element count of {what}"),
                offset,
                found: count,
                limit: *budget,
            });
        }
        *budget -= count;
        let smallest = match number {
            2 | 3 => 2,
            4..=6 => 4,
            8 | 10..=12 => 8,
            9 => 12,
            _ => 1,
        };
        reader.require(count.saturating_mul(smallest), what)?;
        let mut values = Vec::with_capacity(count as usize);
        for _ in 0..count {
            values.push(Self::read(reader, number, what, budget, depth + 1)?);
        }
        Ok(Self::Array(values))
    }
}

/// The metadata of one file, by key.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Metadata {
    entries: BTreeMap<String, Value>,
}

impl FromIterator<(String, Value)> for Metadata {
    /// Of entries that come from elsewhere; of two with the same key the last one counts.
    fn from_iter<I: IntoIterator<Item = (String, Value)>>(entries: I) -> Self {
        Self {
            entries: entries.into_iter().collect(),
        }
    }
}

impl Metadata {
    pub(super) fn read<R: Read>(reader: &mut Reader<R>, count: u64) -> Result<Self, Error> {
        let mut entries = BTreeMap::new();
        let mut budget = MAX_ELEMENTS;
        for place in 0..count {
            let offset = reader.offset();
            let key = reader.string(&format!("metadata key {place}"))?;
            let what = format!("the metadata's '{key}'");
            let number = reader.u32(&what)?;
            let value = Value::read(reader, number, &what, &mut budget, 0)?;
            if entries.insert(key.clone(), value).is_some() {
                return Err(Error::Invalid {
                    what: format!("metadata key {place}"),
                    offset,
                    found: format!("'{key}' for the second time"),
                    allowed: "each key once".to_owned(),
                });
            }
        }
        Ok(Self { entries })
    }

    /// All values, sorted by key.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.entries
            .iter()
            .map(|(key, value)| (key.as_str(), value))
    }

    /// A value, if the file has it.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.entries.get(key)
    }

    fn wrong(key: &str, value: &Value, allowed: &str) -> Error {
        Error::Metadata {
            key: key.to_owned(),
            found: value.describe(),
            allowed: allowed.to_owned(),
        }
    }

    /// A whole number of at least 0 that fits in 32 bits, if the file has it.
    ///
    /// # Errors
    /// When it is something else.
    pub fn number(&self, key: &str) -> Result<Option<usize>, Error> {
        let number = match self.get(key) {
            None => return Ok(None),
            Some(Value::Unsigned(number)) => u32::try_from(*number).ok(),
            Some(Value::Signed(number)) => u32::try_from(*number).ok(),
            Some(_) => None,
        };
        match (number, self.get(key)) {
            (None, Some(value)) => Err(Self::wrong(key, value, "a whole number below 2^32")),
            (number, _) => Ok(number.map(|number| number as usize)),
        }
    }

    /// A finite number, if the file has it.
    ///
    /// # Errors
    /// When it is something else.
    pub fn float(&self, key: &str) -> Result<Option<f64>, Error> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Float(number)) if number.is_finite() => Ok(Some(*number)),
            Some(Value::Unsigned(number)) => Ok(Some(*number as f64)),
            Some(Value::Signed(number)) => Ok(Some(*number as f64)),
            Some(value) => Err(Self::wrong(key, value, "a finite number")),
        }
    }

    /// A truth value, if the file has it.
    ///
    /// # Errors
    /// When it is something else.
    pub fn truth(&self, key: &str) -> Result<Option<bool>, Error> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Bool(truth)) => Ok(Some(*truth)),
            Some(value) => Err(Self::wrong(key, value, "a truth value")),
        }
    }

    /// Text, if the file has it.
    ///
    /// # Errors
    /// When it is something else.
    pub fn text(&self, key: &str) -> Result<Option<&str>, Error> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(value) => Err(Self::wrong(key, value, "text")),
        }
    }

    /// An array, if the file has it.
    ///
    /// # Errors
    /// When it is something else.
    pub fn array(&self, key: &str) -> Result<Option<&[Value]>, Error> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Array(values)) => Ok(Some(values)),
            Some(value) => Err(Self::wrong(key, value, "an array")),
        }
    }

    /// An array of texts, if the file has it.
    ///
    /// # Errors
    /// When it is something else.
    pub fn texts(&self, key: &str) -> Result<Option<Vec<&str>>, Error> {
        let Some(values) = self.array(key)? else {
            return Ok(None);
        };
        let texts = values.iter().map(|value| match value {
            Value::String(text) => Ok(text.as_str()),
            other => Err(Self::wrong(key, other, "an array of texts")),
        });
        texts.collect::<Result<_, _>>().map(Some)
    }
}

/// Turns an optional value into one that must be there.
pub(crate) fn required<T>(key: &str, value: Option<T>) -> Result<T, Error> {
    value.ok_or_else(|| Error::Missing {
        key: key.to_owned(),
    })
}
