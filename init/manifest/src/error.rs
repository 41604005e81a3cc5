//! What is wrong with a text that somebody wrote: where, which key, what was found, what is allowed.

use std::fmt;

/// An error in a manifest. Its message is one line that an editor can jump to:
/// `infer.toml:12:1: restart.policy: found …, allowed: …`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct ManifestError {
    /// File name as the caller gave it.
    pub file: String,
    /// Line and column, from 1; `None` when the error concerns the file as a whole.
    pub place: Option<(usize, usize)>,
    /// The key, dotted; empty when the error concerns the file as a whole.
    pub key: String,
    /// What was found and what is allowed.
    pub message: String,
}

impl fmt::Display for ManifestError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.file)?;
        if let Some((line, column)) = self.place {
            write!(formatter, ":{line}:{column}")?;
        }
        if !self.key.is_empty() {
            write!(formatter, ": {}", self.key)?;
        }
        write!(formatter, ": {}", self.message)
    }
}

/// Line and column, from 1, of a byte offset in a text.
pub(crate) fn place(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset.min(text.len())).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before
        .rsplit('\n')
        .next()
        .map_or(0, |tail| tail.chars().count())
        + 1;
    (line, column)
}

/// What a path to a value says of [`toml::Spanned`] around it.
const SPANNED_VALUE: &str = ".$__serde_spanned_private_value";

/// Parses TOML into a raw type, and turns what goes wrong into an error with place and key.
///
/// # Errors
/// Bad syntax, an unknown key (with those allowed), a value of the wrong type.
pub(crate) fn parse_toml<T: serde::de::DeserializeOwned>(
    file: &str,
    text: &str,
) -> Result<T, ManifestError> {
    let fail = |error: &toml::de::Error, key: String| {
        let place = error.span().map(|span| place(text, span.start));
        ManifestError {
            file: file.to_owned(),
            place,
            key,
            message: error
                .message()
                .replace('`', "'")
                .replace("expected one of", "allowed:"),
        }
    };
    let deserializer =
        toml::Deserializer::parse(text).map_err(|error| fail(&error, String::new()))?;
    serde_path_to_error::deserialize(deserializer).map_err(|error| {
        // The wrapper that keeps a value's place is no key of anybody's.
        let path = error.path().to_string().replace(SPANNED_VALUE, "");
        let key = if path == "." { String::new() } else { path };
        fail(error.inner(), key)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn place_counts_lines_and_characters_from_one() {
        assert_eq!(place("ab\ncd", 0), (1, 1));
        assert_eq!(place("ab\ncd", 3), (2, 1));
        assert_eq!(place("é=1", 2), (1, 2));
        assert_eq!(place("ab", 99), (1, 3));
    }
}
