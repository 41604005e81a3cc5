//! `docs/service.schema.json`: what an editor needs to help with a manifest (JSON Schema, draft 7,
//! which taplo reads).
//!
//! The schema knows forms, words and ranges. What depends on two keys or on two services only
//! `cargo xtask check-services` knows.

use anyhow::Result;
use serde_json::{Map, Value as Json, json};

use super::reference::{Key, Reference, Table, Value};

/// Writes the schema.
pub fn write(reference: &Reference) -> Result<String> {
    let mut definitions = Map::new();
    for (name, table) in &reference.tables {
        definitions.insert(name.clone(), object(table));
    }
    for (name, kind) in &reference.kinds {
        let mut schema = Map::new();
        schema.insert("description".into(), json!(kind.doc.text));
        if kind.number {
            schema.insert("type".into(), json!("integer"));
            bounds(&mut schema, kind.doc.range());
        } else {
            schema.insert("type".into(), json!("string"));
            if let Some(pattern) = &kind.doc.pattern {
                schema.insert("pattern".into(), json!(pattern));
            }
        }
        definitions.insert(name.clone(), Json::Object(schema));
    }
    for (name, choices) in &reference.choices {
        let words = choices
            .iter()
            .map(|choice| json!({ "const": choice.word, "description": choice.doc.text }));
        definitions.insert(name.clone(), json!({ "oneOf": words.collect::<Vec<_>>() }));
    }
    let mut schema = object(&reference.root);
    if let Json::Object(schema) = &mut schema {
        schema.insert(
            "$schema".into(),
            json!("http://json-schema.org/draft-07/schema#"),
        );
        schema.insert("title".into(), json!("kOS service manifest"));
        schema.insert("definitions".into(), Json::Object(definitions));
        // A service has a uid, a template has instances with one each.
        schema.insert(
            "oneOf".into(),
            json!([{ "required": ["uid"] }, { "required": ["instances"] }]),
        );
    }
    Ok(format!("{}\n", serde_json::to_string_pretty(&schema)?))
}

fn object(table: &Table) -> Json {
    let properties: Map<String, Json> = table
        .keys
        .iter()
        .map(|key| (key.name.clone(), property(key)))
        .collect();
    let required: Vec<&str> = table
        .keys
        .iter()
        .filter(|key| key.required)
        .map(|key| key.name.as_str())
        .collect();
    json!({
        "type": "object",
        "description": table.doc.text,
        "additionalProperties": false,
        "required": required,
        "properties": properties,
    })
}

fn property(key: &Key) -> Json {
    let mut schema = Map::new();
    let mut description = key.doc.text.clone();
    if let Some(allowed) = &key.doc.allowed {
        description = format!("{description} Allowed: {allowed}.");
    }
    if let Some(default) = &key.doc.default {
        description = format!("{description} Default: {default}.");
    }
    schema.insert("description".into(), json!(description));
    if let Some(default) = key
        .doc
        .default_value()
        .and_then(|text| default(&key.value, text))
    {
        schema.insert("default".into(), default);
    }
    let mut value = value(&key.value);
    if matches!(key.value, Value::Integer | Value::Float) {
        bounds(&mut value, key.doc.range());
    }
    if let (Some(words), Value::List(_)) = (few_words(key), &key.value) {
        value.insert("items".into(), json!({ "enum": words }));
    } else if let (Some(words), Value::Kind(_)) = (few_words(key), &key.value) {
        value = Map::from_iter([("enum".to_owned(), json!(words))]);
    }
    // Beside a reference draft 7 sees nothing else, so the two are joined.
    match value.remove("$ref") {
        Some(reference) => {
            schema.insert("allOf".into(), json!([{ "$ref": reference }]));
        }
        None => schema.extend(value),
    }
    Json::Object(schema)
}

/// The words of a key of kind `Word` whose `Allowed` begins with a list of them.
fn few_words(key: &Key) -> Option<Vec<String>> {
    let is_word = |value: &Value| matches!(value, Value::Kind(kind) if kind == "Word");
    let of_words = match &key.value {
        Value::List(inner) => is_word(inner),
        value => is_word(value),
    };
    let allowed = key.doc.allowed.as_deref().filter(|_| of_words)?;
    let list = allowed.split(';').next()?;
    list.split(", ")
        .map(|word| Some(word.strip_prefix('`')?.strip_suffix('`')?.to_owned()))
        .collect()
}

fn value(value: &Value) -> Map<String, Json> {
    let schema = match value {
        Value::Bool => json!({ "type": "boolean" }),
        Value::Integer => json!({ "type": "integer" }),
        Value::Float => json!({ "type": "number" }),
        Value::Kind(name) if name == "String" => json!({ "type": "string" }),
        Value::Kind(name) | Value::Choice(name) | Value::Table(name) => {
            json!({ "$ref": format!("#/definitions/{name}") })
        }
        Value::List(inner) => json!({ "type": "array", "items": self::value(inner) }),
        Value::Map(inner) => {
            json!({ "type": "object", "additionalProperties": self::value(inner) })
        }
    };
    match schema {
        Json::Object(schema) => schema,
        _ => Map::new(),
    }
}

/// A default as JSON. Texts stand in the comments without their quotes.
fn default(value: &Value, text: &str) -> Option<Json> {
    match value {
        Value::Kind(_) | Value::Choice(_) => Some(json!(text)),
        _ => serde_json::from_str(text).ok(),
    }
}

fn bounds(schema: &mut Map<String, Json>, range: Option<(f64, f64)>) {
    let Some((least, most)) = range else { return };
    let number = |bound: f64| {
        if bound.fract() == 0.0 {
            json!(bound as i64)
        } else {
            json!(bound)
        }
    };
    schema.insert("minimum".into(), number(least));
    schema.insert("maximum".into(), number(most));
}
