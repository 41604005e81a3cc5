//! What a service said in one line: text, or a JSON object with fields.
//!
//! The line was written by others and may be anything; what is kept of it has its bounds.

use serde_json::{Map, Value};

/// Fields kept of one line.
const MAX_FIELDS: usize = 32;
/// Longest name of a field, in bytes; one with a longer name is not kept.
const MAX_NAME: usize = 64;
/// Longest text of a field, in bytes; a longer one is cut.
const MAX_TEXT: usize = 1024;
/// What PID 1 says of a line without a severity prefix.
const UNSAID: u8 = 6;
/// The field that counts the fields that were not kept.
const OMITTED: &str = "fields_omitted";

/// A line, taken apart.
#[derive(Debug, PartialEq)]
pub struct Line {
    /// syslog severity.
    pub level: u8,
    /// What is for people.
    pub message: String,
    /// What is for programs.
    pub fields: Option<Map<String, Value>>,
}

impl Line {
    /// Takes a line apart. What is no JSON object is a message.
    pub fn parse(level: u8, text: String) -> Self {
        let plain = |message| Line {
            level,
            message,
            fields: None,
        };
        if !text.starts_with('{') {
            return plain(text);
        }
        match serde_json::from_str::<Map<String, Value>>(&text) {
            Ok(fields) if !fields.is_empty() => Self::from_fields(level, fields, text),
            _ => plain(text),
        }
    }

    fn from_fields(level: u8, mut fields: Map<String, Value>, text: String) -> Self {
        let said = ["message", "msg"].into_iter().find(|name| {
            let value = fields.get(*name).and_then(Value::as_str);
            value.is_some_and(|value| !value.is_empty())
        });
        let message = match said.and_then(|name| fields.remove(name)) {
            Some(Value::String(message)) => message,
            _ => text,
        };
        let named = ["level", "severity", "lvl"]
            .into_iter()
            .find_map(|name| severity(fields.get(name)?.as_str()?));
        let level = if level == UNSAID {
            named.unwrap_or(level)
        } else {
            level
        };
        let mut kept = Map::new();
        let mut omitted: u64 = 0;
        for (name, value) in fields {
            if kept.len() < MAX_FIELDS && name.len() <= MAX_NAME && name != OMITTED {
                kept.insert(name, bounded(value));
            } else {
                omitted += 1;
            }
        }
        if omitted > 0 {
            kept.insert(OMITTED.to_owned(), omitted.into());
        }
        Line {
            level,
            message,
            fields: (!kept.is_empty()).then_some(kept),
        }
    }
}

/// syslog's severity by one of the names that loggers use.
pub fn severity(name: &str) -> Option<u8> {
    let level = match name.to_ascii_lowercase().as_str() {
        "emerg" | "emergency" | "panic" => 0,
        "alert" => 1,
        "crit" | "critical" | "fatal" => 2,
        "err" | "error" => 3,
        "warn" | "warning" => 4,
        "notice" => 5,
        "info" | "information" => 6,
        "debug" | "trace" => 7,
        _ => return None,
    };
    Some(level)
}

/// A value within its bound: what is nested becomes its text.
fn bounded(value: Value) -> Value {
    let text = match value {
        Value::String(text) => text,
        Value::Array(_) | Value::Object(_) => value.to_string(),
        plain => return plain,
    };
    if text.len() <= MAX_TEXT {
        return Value::String(text);
    }
    let cut = text.floor_char_boundary(MAX_TEXT);
    Value::String(format!("{}…", text.get(..cut).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Line {
        Line::parse(6, text.to_owned())
    }

    #[test]
    fn an_object_gives_its_message_its_level_and_its_fields() {
        let line = parse(r#"{"level":"ERROR","msg":"no disk","code":5,"at":{"a":[1]},"ok":true}"#);
        assert_eq!((line.level, line.message.as_str()), (3, "no disk"));
        let fields = line.fields.unwrap();
        assert_eq!(fields["code"], 5);
        assert_eq!(fields["at"], r#"{"a":[1]}"#);
        assert_eq!(fields["ok"], true);
        assert!(!fields.contains_key("msg"));
        // A severity that the line was sent with counts more.
        let line = Line::parse(4, r#"{"level":"debug","message":"m"}"#.to_owned());
        assert_eq!(line.level, 4);
    }

    #[test]
    fn what_is_no_object_stays_as_it_is() {
        for text in ["plain", "{not json", "[1,2]", "{}", "", "{\"a\":1} tail"] {
            let line = parse(text);
            assert_eq!((line.message.as_str(), line.fields), (text, None));
        }
        let line = parse(r#"{"a":1}"#);
        assert_eq!(line.message, r#"{"a":1}"#);
        assert_eq!(line.fields.unwrap()["a"], 1);
    }

    #[test]
    fn what_is_kept_has_its_bounds() {
        let many: Map<String, Value> = (0..100).map(|n| (format!("f{n}"), n.into())).collect();
        let fields = parse(&Value::Object(many).to_string()).fields.unwrap();
        assert_eq!(fields.len(), MAX_FIELDS + 1);
        assert_eq!(fields[OMITTED], 68);
        let long = format!(
            r#"{{"a":"{}","{}":1}}"#,
            "\u{e4}".repeat(2000),
            "n".repeat(65)
        );
        let fields = parse(&long).fields.unwrap();
        assert!(fields["a"].as_str().unwrap().len() <= MAX_TEXT + 3);
        assert_eq!(fields[OMITTED], 1);
        // Deeper than the parser goes: a message, and no harm.
        let deep = format!("{{\"a\":{}", "[".repeat(4000));
        assert_eq!(parse(&deep).fields, None);
    }
}
