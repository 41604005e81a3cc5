//! A text that somebody wrote, and the checks that point into it when they refuse a value.

use std::ops::{Range, RangeInclusive};
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use toml::Spanned;

use crate::error::{ManifestError, place};
use crate::quantity;
use crate::raw::{Size, SizeOrNone, Time};

/// Longest path, in bytes: half of what the kernel takes, so that there is room for what a sandbox
/// puts before it.
const MAX_PATH: usize = 2048;

/// A text with its name, to point into.
#[derive(Debug, Clone, Copy)]
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

    /// A time within bounds, or the default when none is given.
    pub fn time(
        &self,
        key: &str,
        raw: Option<&Time>,
        default: Duration,
        range: RangeInclusive<Duration>,
    ) -> Result<Duration, ManifestError> {
        let Some(raw) = raw else { return Ok(default) };
        let time =
            quantity::duration(raw.get_ref()).map_err(|message| self.error(key, raw, message))?;
        if range.contains(&time) {
            return Ok(time);
        }
        let message = format!(
            "found '{}', allowed: {} to {}",
            raw.get_ref(),
            quantity::show_duration(*range.start()),
            quantity::show_duration(*range.end())
        );
        Err(self.error(key, raw, message))
    }

    /// A size of at least `least` bytes; `None` when none is given.
    pub fn size(
        &self,
        key: &str,
        raw: Option<&Size>,
        least: u64,
    ) -> Result<Option<u64>, ManifestError> {
        let Some(raw) = raw else { return Ok(None) };
        let size =
            quantity::bytes(raw.get_ref()).map_err(|message| self.error(key, raw, message))?;
        if size >= least {
            return Ok(Some(size));
        }
        let message = format!(
            "found '{}', allowed: at least {}",
            raw.get_ref(),
            quantity::show_bytes(least)
        );
        Err(self.error(key, raw, message))
    }

    /// A size of at least `least` bytes, or `none`; the default when none is given.
    pub fn size_or_none(
        &self,
        key: &str,
        raw: Option<&SizeOrNone>,
        least: u64,
        default: u64,
    ) -> Result<Option<u64>, ManifestError> {
        match raw {
            None => Ok(Some(default)),
            Some(raw) if raw.get_ref() == "none" => Ok(None),
            some => self.size(key, some, least),
        }
    }

    /// A number within bounds, or the default when none is given.
    pub fn in_range(
        &self,
        key: &str,
        raw: Option<&Spanned<u32>>,
        default: u32,
        range: RangeInclusive<u32>,
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

    /// At most so many elements; the error points at the first one too many.
    pub fn few<T>(
        &self,
        key: &str,
        list: &[T],
        most: usize,
        place: impl Fn(&T) -> Range<usize>,
    ) -> Result<(), ManifestError> {
        let Some(extra) = list.get(most) else {
            return Ok(());
        };
        let at = Spanned::new(place(extra), ());
        let message = format!("found {}, allowed: at most {most}", list.len());
        Err(self.error(key, &at, message))
    }

    /// A text without control characters: it ends up on a console, in a path or in an argument,
    /// where a line break or a NUL would mean something else.
    pub fn text(
        &self,
        key: &str,
        raw: &Spanned<String>,
        most: usize,
    ) -> Result<String, ManifestError> {
        let text = raw.get_ref();
        let message = if text.len() > most {
            format!("found {} bytes, allowed: at most {most}", text.len())
        } else if let Some(letter) = text.chars().find(|letter| letter.is_control()) {
            format!("found {letter:?} in it, allowed: no control characters")
        } else {
            return Ok(text.clone());
        };
        Err(self.error(key, raw, message))
    }

    /// A word that looks as `fits` says; `allowed` says it in words.
    pub fn word(
        &self,
        key: &str,
        raw: &Spanned<String>,
        allowed: &str,
        fits: impl Fn(&str) -> bool,
    ) -> Result<String, ManifestError> {
        if fits(raw.get_ref()) {
            return Ok(raw.get_ref().clone());
        }
        let message = format!("found {:?}, allowed: {allowed}", raw.get_ref());
        Err(self.error(key, raw, message))
    }

    /// An absolute path that cannot climb and is not the root.
    pub fn path(&self, key: &str, raw: &Spanned<String>) -> Result<PathBuf, ManifestError> {
        self.text(key, raw, MAX_PATH)?;
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
