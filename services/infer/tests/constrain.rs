//! Constrained answers of models that know nothing: whatever the logits say, an answer parses and
//! satisfies its schema, by another implementation's judgement (boon).

#![allow(
    clippy::unwrap_used,
    reason = "a test says by its panic what went wrong"
)]

use std::sync::Arc;

use kos_infer::constrain::{Constraint, Document, Grammar, Piece, Pieces};
use kos_infer::sampler::{Sampler, Sampling};
use serde_json::{Value, json};

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, count: usize) -> usize {
        (self.next() % count as u64) as usize
    }

    fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }

    fn uniform(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1_u64 << 24) as f32
    }
}

const MARK: &str = "<tool_call>";

/// All bytes, and pieces as merges make them: words with blanks before them, digits, punctuation
/// across the borders of JSON's own tokens, parts of characters.
fn vocabulary(count: usize) -> Vec<Piece> {
    let mut texts: Vec<Vec<u8>> = (0..=255_u8).map(|byte| vec![byte]).collect();
    for text in [
        "\":",
        "\":\"",
        "\": \"",
        "\": ",
        "\",\"",
        "\", \"",
        "\",",
        "\"}",
        "\"]",
        "},",
        "},{",
        "}}",
        "]]",
        "]}",
        "{\"",
        "[{\"",
        "[[",
        "{}",
        "[]",
        ", ",
        ": ",
        ",\n",
        "{\n",
        "[\n",
        "\n  ",
        "\n\n",
        "\n    ",
        "        ",
        "\t\t",
        "null",
        "true",
        "false",
        "null,",
        "true}",
        "\\n",
        "\\u",
        "\\\"",
        "\\\\",
        "\\u00",
        "0.",
        ".5",
        "e+",
        "-1",
        "1e",
        "10",
        "00",
        "e1",
        "é",
        "日本",
        "語\"",
        "😀",
        "—",
        "2024-",
        "-01-",
        "T00:",
        ":00Z",
        "id\":",
        "\"id\"",
        "name\":\"",
        " \"name",
        "e\",\"",
        "a\"]}",
        "next\":",
        "\"next\":{",
        "\"value\":",
        "</tool_call>",
        " <",
        "call>",
    ] {
        texts.push(text.as_bytes().to_vec());
    }
    // Halves of characters.
    texts.extend([
        vec![0xE6, 0x97],
        vec![0xA5],
        vec![0xF0, 0x9F],
        vec![0x98, 0x80, b'"'],
    ]);
    let mut random = Random(1);
    for number in 0..1000 {
        texts.push(number.to_string().into_bytes());
    }
    while texts.len() < count {
        let mut text = String::new();
        if random.one_in(2) {
            text.push(' ');
        }
        for _ in 0..1 + random.below(9) {
            text.push(char::from(b'a' + random.below(26) as u8));
        }
        if random.one_in(12) {
            text.push_str(["\"", "\":", "\",", "\n", "é", "\\"][random.below(6)]);
        }
        texts.push(text.into_bytes());
    }
    let mut pieces: Vec<Piece> = texts.into_iter().map(Piece::Text).collect();
    pieces.extend([
        Piece::End,
        Piece::Mark(MARK.into()),
        Piece::Unused,
        Piece::End,
    ]);
    pieces
}

/// What a model without sense is fond of.
#[derive(Clone, Copy)]
enum Mood {
    Neutral,
    /// Brackets and quotes that close.
    Closing,
    /// Brackets that open, blanks and backslashes.
    Opening,
}

/// Lets a random model answer: at most `most` tokens, then the shortest completion.
fn answer(
    constraint: &mut Constraint,
    pieces: &[Piece],
    seed: u64,
    mood: Mood,
    most: usize,
) -> String {
    let mut random = Random(seed);
    let mut sampler = Sampler::new(Sampling {
        seed,
        temperature: 1.0,
        top_k: 0,
        top_p: 1.0,
        ..Sampling::default()
    });
    let fond: &[u8] = match mood {
        Mood::Neutral => b"",
        Mood::Closing => b"\"}]",
        Mood::Opening => b"{[ \n\t\\\"",
    };
    let mut text = Vec::new();
    for _ in 0..most {
        if constraint.finished() {
            break;
        }
        let mut logits: Vec<f32> = pieces
            .iter()
            .map(|piece| {
                let likes = matches!(piece, Piece::Text(bytes) if fond.contains(&bytes[0]));
                random.uniform() * 3.0 + if likes { 8.0 } else { 0.0 }
            })
            .collect();
        assert!(
            constraint.mask(&mut logits),
            "no token is left after {}",
            show(&text)
        );
        let token = sampler.choose(&mut logits).token;
        assert!(
            constraint.accept(token),
            "{token} was allowed after {}",
            show(&text)
        );
        match &pieces[token as usize] {
            Piece::End => return String::from_utf8(text).unwrap(),
            Piece::Text(bytes) | Piece::Mark(bytes) => text.extend(bytes),
            Piece::Unused => panic!("a token without bytes"),
        }
    }
    let rest = constraint
        .close()
        .unwrap_or_else(|| panic!("no end after {}", show(&text)));
    text.extend(rest);
    String::from_utf8(text).unwrap()
}

fn show(text: &[u8]) -> String {
    String::from_utf8_lossy(text).into_owned()
}

const NAMES: [&str; 8] = [
    "id", "name", "next", "value", "a\"quote", "näme", "x", "tags",
];

/// A schema of what is supported, at most so deep.
fn schema(random: &mut Random, depth: usize) -> Value {
    let kinds = if depth == 0 { 9 } else { 15 };
    match random.below(kinds) {
        0 => json!({"type": "null"}),
        1 => json!({"type": "boolean"}),
        2 => {
            let (low, span) = (random.below(2000) as i64 - 1000, random.below(3000) as i64);
            match random.below(4) {
                0 => json!({"type": "integer"}),
                1 => json!({"type": "integer", "minimum": low}),
                2 => json!({"type": "integer", "minimum": low, "maximum": low + span}),
                _ => {
                    json!({"type": "integer", "exclusiveMinimum": low, "exclusiveMaximum": low + span + 2})
                }
            }
        }
        3 => {
            let (low, span) = (
                random.below(400) as f64 / 8.0 - 25.0,
                random.below(100) as f64 / 4.0,
            );
            match random.below(4) {
                0 => json!({"type": "number"}),
                1 => json!({"type": "number", "maximum": low}),
                2 => json!({"type": "number", "minimum": low, "maximum": low + span}),
                _ => {
                    json!({"type": "number", "exclusiveMinimum": low, "exclusiveMaximum": low + span + 0.5})
                }
            }
        }
        4 => {
            let least = random.below(6);
            match random.below(4) {
                0 => json!({"type": "string"}),
                1 => {
                    json!({"type": "string", "minLength": least, "maxLength": least + random.below(8)})
                }
                2 => json!({"type": "string", "maxLength": least}),
                _ => json!({"type": "string", "minLength": least * 4}),
            }
        }
        5 => {
            let patterns = [
                "^[a-z]+$",
                "^[A-Z]{2}-\\d{3,5}$",
                "b",
                "^(yes|no|maybe)$",
                "^\\w+@\\w+\\.com$",
                "^[^\"x]*$",
                "^\\p{Lu}\\S*$",
                "\\\\",
                "^.{3}$",
            ];
            let pattern = patterns[random.below(patterns.len())];
            match random.one_in(3) && pattern.contains('+') {
                true => {
                    json!({"type": "string", "pattern": pattern, "minLength": 7, "maxLength": 20})
                }
                false => json!({"type": "string", "pattern": pattern}),
            }
        }
        6 => {
            let formats = [
                "date",
                "time",
                "date-time",
                "duration",
                "uuid",
                "email",
                "hostname",
                "ipv4",
                "uri",
            ];
            json!({"type": "string", "format": formats[random.below(formats.len())]})
        }
        7 => match random.below(3) {
            0 => json!({"enum": ["red", "gr\"een", 3, 4.5, null, {"a": [1, "x"]}]}),
            1 => json!({"type": "string", "enum": ["red", "grün", 3], "maxLength": 4}),
            _ => json!({"const": ["fixed", 1, false]}),
        },
        8 => json!({"type": ["string", "null", "integer"], "maxLength": 5, "minimum": 0}),
        9 | 10 => object(random, depth),
        11 => {
            let least = random.below(3);
            let mut list = json!({"type": "array", "items": schema(random, depth - 1)});
            if random.one_in(2) {
                list["minItems"] = json!(least);
            }
            if random.one_in(2) {
                list["maxItems"] = json!(least + random.below(4));
            }
            list
        }
        12 => {
            let first: Vec<Value> = (0..1 + random.below(3))
                .map(|_| schema(random, depth - 1))
                .collect();
            let count = first.len();
            match random.below(3) {
                0 => {
                    json!({"type": "array", "prefixItems": first, "items": false, "minItems": count})
                }
                1 => {
                    json!({"type": "array", "prefixItems": first, "items": schema(random, depth - 1)})
                }
                _ => json!({"type": "array", "prefixItems": first, "minItems": count + 1}),
            }
        }
        13 => {
            let choices: Vec<Value> = (0..2 + random.below(3))
                .map(|_| schema(random, depth - 1))
                .collect();
            json!({"anyOf": choices})
        }
        _ => match random.below(4) {
            0 => json!({"allOf": [object(random, depth), object(random, depth)]}),
            1 => {
                json!({"type": "object", "properties": {"kind": {"const": "pair"}, "a": {}, "b": {}},
                "required": ["kind"], "anyOf": [{"required": ["a"]}, {"required": ["b"]}]})
            }
            2 => {
                json!({"oneOf": [{"type": "string", "maxLength": 3}, {"type": "array", "items": {"type": "null"}}]})
            }
            _ => json!({"$ref": "#/$defs/tree"}),
        },
    }
}

fn object(random: &mut Random, depth: usize) -> Value {
    let mut fields = serde_json::Map::new();
    for _ in 0..random.below(5) {
        let name = NAMES[random.below(NAMES.len())];
        fields.insert(name.to_owned(), schema(random, depth - 1));
    }
    let required: Vec<&String> = fields.keys().filter(|_| random.one_in(2)).collect();
    let mut object = json!({"type": "object", "properties": fields, "required": required});
    match random.below(4) {
        0 => object["additionalProperties"] = json!(false),
        1 => object["additionalProperties"] = schema(random, depth - 1),
        2 => object["additionalProperties"] = json!(true),
        _ => {}
    }
    object
}

/// Definitions that refer to themselves.
fn definitions() -> Value {
    json!({
        "tree": {
            "type": "object",
            "properties": {
                "value": {"type": "integer"},
                "next": {"anyOf": [{"$ref": "#/$defs/tree"}, {"type": "null"}]},
                "tags": {"type": "array", "items": {"$ref": "#/$defs/tree"}},
            },
            "required": ["value", "next"],
            "additionalProperties": false,
        }
    })
}

#[test]
fn answers_to_500_schemas_parse_and_validate() {
    let vocabulary = vocabulary(6000);
    let pieces = Arc::new(Pieces::new(vocabulary.clone()));
    let (mut whole, mut impossible) = (0, 0);
    for seed in 0..500 {
        let mut random = Random(seed);
        let mut schema = schema(&mut random, 3);
        schema["$defs"] = definitions();
        let grammar = match Grammar::schema(&Document::from(&schema)) {
            Ok(grammar) => Arc::new(grammar),
            // Two objects that forbid each other's fields, for example.
            Err(kos_infer::constrain::Error::Impossible) => {
                impossible += 1;
                continue;
            }
            Err(error) => panic!("seed {seed}: {error}\n{schema}"),
        };
        let mut compiler = boon::Compiler::new();
        compiler.enable_format_assertions();
        let mut schemas = boon::Schemas::new();
        compiler
            .add_resource("http://kos/schema", schema.clone())
            .unwrap();
        let index = compiler.compile("http://kos/schema", &mut schemas).unwrap();
        for (number, mood) in [Mood::Neutral, Mood::Closing, Mood::Opening]
            .into_iter()
            .enumerate()
        {
            let mut constraint = Constraint::new(grammar.clone(), pieces.clone());
            let most = 20 + 40 * number;
            let text = answer(&mut constraint, &vocabulary, seed, mood, most);
            let value: Value = serde_json::from_str(&text)
                .unwrap_or_else(|error| panic!("seed {seed}: {error}\n{schema}\n{text}"));
            if let Err(error) = schemas.validate(&value, index) {
                panic!("seed {seed}: {error:#}\n{schema}\n{text}");
            }
            whole += 1;
        }
    }
    assert!(
        whole >= 1350 && impossible < 50,
        "{whole} answers, {impossible} impossible schemas"
    );
}

#[test]
fn json_is_an_object_however_mad_the_model() {
    let vocabulary = vocabulary(3000);
    let pieces = Arc::new(Pieces::new(vocabulary.clone()));
    let grammar = Arc::new(Grammar::json().unwrap());
    for seed in 0..60 {
        let mood = [Mood::Neutral, Mood::Closing, Mood::Opening][seed as usize % 3];
        let mut constraint = Constraint::new(grammar.clone(), pieces.clone());
        let text = answer(&mut constraint, &vocabulary, seed, mood, 600);
        let value: Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"));
        assert!(value.is_object(), "{text}");
    }
}

#[test]
fn what_is_not_enforced_is_refused_by_name() {
    for (schema, text) in [
        (
            json!({"not": {}}),
            "schema #: the keyword \"not\" is not supported",
        ),
        (
            json!({"properties": {"a/b": {"items": {"uniqueItems": true}}}}),
            "schema #/properties/a~1b/items: the keyword \"uniqueItems\"",
        ),
        (json!({"type": "string", "pattern": "(?=a)"}), "look-around"),
        (
            json!({"pattern": "^(a|b)*a(a|b){14}$"}),
            "needs more than 20000 states",
        ),
        (
            json!({"format": "ssn"}),
            "format is \"ssn\", allowed: date, time",
        ),
        (
            json!({"$ref": "http://elsewhere/"}),
            "allowed: a pointer into this schema",
        ),
        (json!({"$ref": "#"}), "it refers to itself"),
        (
            json!({"type": "text"}),
            "type is \"text\", allowed: one or several of null",
        ),
        (json!({"minLength": -1}), "minLength is -1"),
        (
            json!({"type": "integer", "minimum": 5, "maximum": 4}),
            "no value can satisfy it",
        ),
        (
            json!({"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]}),
            "no value can satisfy it",
        ),
        (json!(7), "the schema is 7"),
    ] {
        let error = Grammar::schema(&Document::from(&schema)).unwrap_err();
        assert!(error.to_string().contains(text), "{schema}: {error}");
    }
}

#[test]
fn fields_come_in_the_order_of_the_schema() {
    let schema = r#"{"type": "object", "properties": {"zeta": {"const": 1}, "alpha": {"const": 2.0}},
        "required": ["alpha", "zeta"]}"#;
    let schema: Document = serde_json::from_str(schema).unwrap();
    let grammar = Arc::new(Grammar::schema(&schema).unwrap());
    let mut constraint = Constraint::new(grammar, Arc::new(Pieces::new(vocabulary(500))));
    assert_eq!(
        show(&constraint.close().unwrap()),
        r#"{"zeta":1,"alpha":2}"#
    );
    assert!(!constraint.accept(u32::from(b'[')));
    assert!(constraint.accept(u32::from(b'{')));
    assert_eq!(show(&constraint.close().unwrap()), r#""zeta":1,"alpha":2}"#);
}

#[test]
fn tool_calls_come_within_free_text() {
    let vocabulary = vocabulary(3000);
    let pieces = Arc::new(Pieces::new(vocabulary.clone()));
    let call = json!({"type": "object", "properties": {"name": {"enum": ["restart"]}}, "required": ["name"]});
    let grammar = Grammar::within_text(MARK, &Document::from(&call), "</tool_call>").unwrap();
    let mut constraint = Constraint::new(Arc::new(grammar), pieces);
    let mark = vocabulary
        .iter()
        .position(|p| matches!(p, Piece::Mark(_)))
        .unwrap() as u32;
    let mut logits = vec![0.0; vocabulary.len()];
    assert!(constraint.mask(&mut logits));
    let refused = logits.iter().filter(|logit| **logit < 0.0).count();
    assert_eq!(refused, 1, "all but the unused token may come in free text");
    for byte in *b"I will. " {
        assert!(constraint.accept(byte.into()));
    }
    assert!(constraint.may_end());
    assert!(constraint.accept(mark));
    assert!(!constraint.may_end());
    assert!(
        !constraint.accept(u32::from(b'x')),
        "only a call may come now"
    );
    assert!(!constraint.accept(mark));
    let rest = constraint.close().unwrap();
    assert_eq!(show(&rest), r#"{"name":"restart"}</tool_call>"#);
    for &byte in &rest {
        assert!(constraint.accept(byte.into()));
    }
    assert!(constraint.accept(u32::from(b'!')) && constraint.may_end() && !constraint.finished());
}

#[test]
fn one_of_some_texts() {
    let vocabulary = vocabulary(3000);
    let pieces = Arc::new(Pieces::new(vocabulary.clone()));
    let grammar = Arc::new(Grammar::literals(&["yes", "no", "not now"]).unwrap());
    for seed in 0..20 {
        let mut constraint = Constraint::new(grammar.clone(), pieces.clone());
        let text = answer(&mut constraint, &vocabulary, seed, Mood::Neutral, 20);
        assert!(["yes", "no", "not now"].contains(&text.as_str()), "{text}");
    }
}

/// The mask says of each token exactly what trying it says.
#[test]
fn masks_are_what_the_grammar_accepts() {
    let vocabulary = vocabulary(2000);
    let pieces = Arc::new(Pieces::new(vocabulary.clone()));
    let schema = json!({"type": "object", "properties": {
        "name": {"type": "string", "maxLength": 4},
        "tags": {"type": "array", "items": {"anyOf": [{"type": "string", "pattern": "^[a-f]*$"}, {"type": "string"}, {"type": "number"}]}},
    }, "required": ["name", "tags"], "additionalProperties": {"type": "integer", "minimum": 17}});
    let grammar = Arc::new(Grammar::schema(&Document::from(&schema)).unwrap());
    let mut random = Random(5);
    for _ in 0..6 {
        let mut constraint = Constraint::new(grammar.clone(), pieces.clone());
        for _ in 0..60 {
            let mut logits = vec![0.0; vocabulary.len()];
            assert!(constraint.mask(&mut logits));
            let mut allowed = Vec::new();
            for (token, logit) in logits.iter().enumerate() {
                let mut tried = constraint.clone();
                assert_eq!(
                    tried.accept(token as u32),
                    *logit == 0.0,
                    "{:?}",
                    vocabulary[token]
                );
                if *logit == 0.0 && vocabulary[token] != Piece::End {
                    allowed.push(token as u32);
                }
            }
            if allowed.is_empty() {
                break;
            }
            assert!(constraint.accept(allowed[random.below(allowed.len())]));
        }
    }
}
