//! A JSON object of which each value is asked for by name and type.

use serde_json::{Map, Value};

use super::Error;

/// An object, and the file that it stands in.
pub(super) struct Object<'a> {
    file: &'a str,
    map: &'a Map<String, Value>,
    /// Where in the file it is, with a dot at the end.
    path: String,
}

impl<'a> Object<'a> {
    /// The whole of a file.
    pub(super) fn new(file: &'a str, map: &'a Map<String, Value>) -> Self {
        Self {
            file,
            map,
            path: String::new(),
        }
    }

    /// A value; null is none.
    pub(super) fn get(&self, key: &str) -> Option<&'a Value> {
        self.map.get(key).filter(|value| !value.is_null())
    }

    /// The error of a value that is not what it must be.
    pub(super) fn wrong(&self, key: &str, allowed: impl Into<String>) -> Error {
        let found = match self.map.get(key) {
            None => "missing".to_owned(),
            Some(value) => value.to_string().chars().take(64).collect(),
        };
        Error::invalid(self.file, format!("'{}{key}'", self.path), found, allowed)
    }

    pub(super) fn optional<T>(
        &self,
        key: &str,
        allowed: &str,
        read: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, Error> {
        let value = self.get(key).map(|value| read(value).ok_or(()));
        value.transpose().map_err(|()| self.wrong(key, allowed))
    }

    pub(super) fn number(&self, key: &str) -> Result<Option<u64>, Error> {
        let read = |value: &Value| value.as_u64().filter(|&number| number <= u32::MAX.into());
        self.optional(key, "a whole number below 2^32", read)
    }

    pub(super) fn float(&self, key: &str) -> Result<Option<f64>, Error> {
        self.optional(key, "a number", Value::as_f64)
    }

    pub(super) fn truth(&self, key: &str) -> Result<Option<bool>, Error> {
        self.optional(key, "true, false", Value::as_bool)
    }

    pub(super) fn text(&self, key: &str) -> Result<Option<&'a str>, Error> {
        self.optional(key, "a text", Value::as_str)
    }

    pub(super) fn floats(&self, key: &str) -> Result<Option<Vec<f32>>, Error> {
        self.optional(key, "an array of numbers", |value| {
            let numbers = value.as_array()?.iter();
            numbers.map(|n| n.as_f64().map(|n| n as f32)).collect()
        })
    }

    pub(super) fn object(&self, key: &str) -> Result<Option<Object<'a>>, Error> {
        let map = self.optional(key, "an object", Value::as_object)?;
        Ok(map.map(|map| Object {
            file: self.file,
            map,
            path: format!("{}{key}.", self.path),
        }))
    }

    /// A number that must be there.
    pub(super) fn needed(&self, key: &str) -> Result<u64, Error> {
        self.number(key)?
            .ok_or_else(|| self.wrong(key, "a whole number"))
    }
}
