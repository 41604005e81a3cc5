//! A text that somebody wrote, and the checks that point into it when they refuse a value.

use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use toml::Spanned;

use crate::error::{ManifestError, place};
use crate::quantity;

/// A text with its name, to point into.
pub(crate) struct Source<'a> {
    /// File name as the caller gave it.
    pub file: &'a str,
    /// The text.
    pub text: &'a str,
}

impl Source<'_> {
    /// Refuses a text that is longer than anybody would write by hand.
    ///
    /// # Errors
    /// The text is longer.
    pub fn at_most(&self, bytes: usize) -> Result<(), ManifestError> {
        if self.text.len() <= bytes {
            return Ok(());
        }
        Err(ManifestError {
            file: self.file.to_owned(),
            place: None,
            key: String::new(),
            message: format!("found {} bytes, allowed: {bytes}", self.text.len()),
        })
    }

    /// What is wrong with the value at one place.
    pub fn error<T>(&self, key: &str, at: &Spanned<T>, message: String) -> ManifestError {
        ManifestError {
            file: self.file.to_owned(),
            place: Some(place(self.text, at.span().start)),
            key: key.to_owned(),
            message,
        }
    }

    /// A time, or the default when none is given.
    pub fn duration(
        &self,
        key: &str,
        raw: Option<&Spanned<String>>,
        default: Duration,
    ) -> Result<Duration, ManifestError> {
        let Some(raw) = raw else { return Ok(default) };
        quantity::duration(raw.get_ref()).map_err(|message| self.error(key, raw, message))
    }

    /// A number within bounds, or the default when none is given.
    pub fn in_range(
        &self,
        key: &str,
        raw: Option<&Spanned<u32>>,
        default: u32,
        range: std::ops::RangeInclusive<u32>,
    ) -> Result<u32, ManifestError> {
        let Some(raw) = raw else { return Ok(default) };
        let value = *raw.get_ref();
        if range.contains(&value) {
            return Ok(value);
        }
        let message = format!(
            "found {value}, allowed: {} to {}",
            range.start(),
            range.end()
        );
        Err(self.error(key, raw, message))
    }

    /// One of the words allowed.
    pub fn one_of(
        &self,
        key: &str,
        raw: &Spanned<String>,
        allowed: &[&str],
    ) -> Result<String, ManifestError> {
        if allowed.contains(&raw.get_ref().as_str()) {
            return Ok(raw.get_ref().clone());
        }
        let message = format!("found '{}', allowed: {}", raw.get_ref(), allowed.join(", "));
        Err(self.error(key, raw, message))
    }

    /// An absolute path that cannot climb and is not the root.
    pub fn path(&self, key: &str, raw: &Spanned<String>) -> Result<PathBuf, ManifestError> {
        let path = Path::new(raw.get_ref());
        let mut components = path.components();
        let absolute = components.next() == Some(Component::RootDir);
        let mut deep = 0;
        let plain = components.all(|component| {
            deep += 1;
            matches!(component, Component::Normal(_))
        });
        if absolute && plain && deep > 0 {
            return Ok(path.to_owned());
        }
        let message = format!(
            "found '{}', allowed: an absolute path below /, without '..'",
            raw.get_ref()
        );
        Err(self.error(key, raw, message))
    }
}
