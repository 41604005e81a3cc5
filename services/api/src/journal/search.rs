//! What is searched for: words that must all be there, `field=value`, and what must not be there.
//!
//! `disk "not found" status=500 -debug`: the word, the phrase, the field with that value (or the
//! text `status=500`, which is how our own services write fields), and no `debug`. Case counts
//! for nothing.

use serde_json::Value;

use super::record::Record;

/// Longest search, in bytes.
pub const MAX_SEARCH: usize = 512;
/// Terms of one search.
pub const MAX_TERMS: usize = 16;

/// A parsed search; an empty one finds everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Search {
    terms: Vec<Term>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Term {
    is_wanted: bool,
    /// In lower case, as all of a term.
    text: String,
    /// Name and value, when it looks like a field.
    field: Option<(String, String)>,
}

/// Why a search cannot be understood.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum SearchError {
    /// Too long.
    #[error("search: found {0} bytes, allowed: {MAX_SEARCH}")]
    TooLong(usize),
    /// Too many terms.
    #[error("search: found more than {MAX_TERMS} terms, allowed: {MAX_TERMS}")]
    TooMany,
    /// A quotation mark without its other half.
    #[error("search: the quotation mark at byte {0} has no other half")]
    Unclosed(usize),
}

impl Search {
    /// Reads a search.
    ///
    /// # Errors
    /// When it is too long, has too many terms, or a quotation mark is not closed.
    pub fn parse(text: &str) -> Result<Self, SearchError> {
        if text.len() > MAX_SEARCH {
            return Err(SearchError::TooLong(text.len()));
        }
        let mut terms = Vec::new();
        let mut letters = text.char_indices().peekable();
        loop {
            while letters
                .next_if(|(_, letter)| letter.is_whitespace())
                .is_some()
            {}
            let Some(&(start, first)) = letters.peek() else {
                return Ok(Search { terms });
            };
            let mut word = String::new();
            let mut equals = None;
            let mut is_quoted = false;
            while let Some((at, letter)) = letters.next_if(|(_, letter)| !letter.is_whitespace()) {
                match letter {
                    '"' => {
                        is_quoted = true;
                        loop {
                            match letters.next() {
                                Some((_, '"')) => break,
                                Some((_, letter)) => word.push(letter),
                                None => return Err(SearchError::Unclosed(at)),
                            }
                        }
                    }
                    // Whether a sign means something is decided outside of quotation marks only.
                    '=' if equals.is_none() && !is_quoted => {
                        equals = Some(word.len());
                        word.push('=');
                    }
                    '-' if at == start => {}
                    letter => word.push(letter),
                }
            }
            if word.is_empty() {
                continue;
            }
            if terms.len() == MAX_TERMS {
                return Err(SearchError::TooMany);
            }
            terms.push(Term::new(first != '-', &word, equals));
        }
    }

    /// Whether it finds everything.
    pub fn is_empty(&self) -> bool {
        self.terms.is_empty()
    }

    /// Whether a record has all that is wanted and nothing that is not.
    pub fn finds(&self, record: &Record) -> bool {
        self.terms
            .iter()
            .all(|term| term.is_in(record) == term.is_wanted)
    }
}

impl Term {
    fn new(is_wanted: bool, word: &str, equals: Option<usize>) -> Self {
        let field = equals
            .and_then(|at| Some((word.get(..at)?, word.get(at + 1..)?)))
            .filter(|(name, _)| !name.is_empty())
            .map(|(name, value)| (name.to_owned(), value.to_lowercase()));
        Term {
            is_wanted,
            text: word.to_lowercase(),
            field,
        }
    }

    fn is_in(&self, record: &Record) -> bool {
        if record.message.to_lowercase().contains(&self.text) {
            return true;
        }
        let Some(fields) = &record.fields else {
            return false;
        };
        match &self.field {
            Some((name, value)) => fields.get(name).is_some_and(|found| text(found) == *value),
            None => fields
                .values()
                .any(|found| text(found).contains(&self.text)),
        }
    }
}

/// A field's value as it is searched.
fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.to_lowercase(),
        other => other.to_string().to_lowercase(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::line::Line;

    fn finds(search: &str, line: &str) -> bool {
        let line = Line::parse(6, line.to_owned());
        let record = Record {
            seq: 1,
            time_unix_ms: 0,
            boot: String::new(),
            service: "one".to_owned(),
            position: 1,
            level: line.level,
            message: line.message,
            fields: line.fields,
            gap: None,
        };
        Search::parse(search).unwrap().finds(&record)
    }

    #[test]
    fn all_words_must_be_there() {
        assert!(finds("", "anything"));
        assert!(finds("  DISK full ", "the disk is Full"));
        assert!(!finds("disk full", "the disk is empty"));
        assert!(finds("\"disk is\"", "the disk is full"));
        assert!(!finds("\"is disk\"", "the disk is full"));
        assert!(!finds("disk -full", "the disk is full"));
        assert!(finds("disk -empty", "the disk is full"));
        assert!(finds("-\"not there\"", "it is there"));
        assert!(finds("STRASSE", "die strasse"));
    }

    #[test]
    fn fields_are_found_by_name_and_value() {
        let line = r#"{"msg":"done","status":500,"path":"/api/x y","ok":true}"#;
        assert!(finds("status=500", line));
        assert!(!finds("status=50", line));
        assert!(finds("ok=true", line));
        assert!(finds("path=\"/API/x y\"", line));
        assert!(!finds("-status=500", line));
        assert!(finds("api", line));
        // As text, too: our own services write it so.
        assert!(finds("status=500", "answered status=500 in 3 ms"));
        assert!(finds("\"a=b\"", "a=b"));
        assert!(!finds("none=", line));
    }

    #[test]
    fn what_cannot_be_understood_is_refused() {
        assert_eq!(Search::parse("a \"b"), Err(SearchError::Unclosed(2)));
        let many = "x ".repeat(MAX_TERMS + 1);
        assert_eq!(Search::parse(&many), Err(SearchError::TooMany));
        let long = "x".repeat(MAX_SEARCH + 1);
        assert_eq!(
            Search::parse(&long),
            Err(SearchError::TooLong(MAX_SEARCH + 1))
        );
        assert!(Search::parse("- -- = =x \"\"").is_ok());
    }
}
