//! Calls of tools that have to come, written in the way that the model was taught.

use super::document::Document;
use super::grammar::{Builder, Field, Grammar, Node, Number, Object};
use super::{Error, schema};

/// How a model writes calls, which its chat template tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// `<tool_call>{"name": …, "arguments": …}</tool_call>`, one after the other: Hermes, Qwen.
    Marked,
    /// `[TOOL_CALLS][{"name": …, "arguments": …}, …]`: Mistral.
    List,
    /// `[TOOL_CALLS]name[ARGS]{…}`, one after the other: Mistral, later.
    Named,
    /// `{"name": …, "parameters": …}`: Llama 3.
    Parameters,
    /// `{"name": …, "arguments": …}`, and nothing else.
    Bare,
}

impl Manner {
    /// By the chat template.
    #[must_use]
    pub fn of(template: &str) -> Self {
        let says = |text| template.contains(text);
        if says("<tool_call>") {
            Self::Marked
        } else if says("[TOOL_CALLS]") && says("[ARGS]") {
            Self::Named
        } else if says("[TOOL_CALLS]") {
            Self::List
        } else if says("\"parameters\": dictionary") {
            Self::Parameters
        } else {
            Self::Bare
        }
    }

    /// What stands before the first call, between two, and behind the last. Marks stand alone:
    /// they may be one token.
    fn around(self) -> [&'static [&'static str]; 3] {
        match self {
            Self::Marked => [
                &["<tool_call>", "\n"],
                &["\n", "</tool_call>", "\n", "<tool_call>", "\n"],
                &["\n", "</tool_call>"],
            ],
            Self::List => [&["[TOOL_CALLS]", "["], &[", "], &["]"]],
            Self::Named => [&["[TOOL_CALLS]"], &["[TOOL_CALLS]"], &[]],
            Self::Parameters | Self::Bare => [&[], &["; "], &[]],
        }
    }
}

impl Grammar {
    /// One call of these tools, or several up to `most`. A tool is its name and the schema of its
    /// arguments; without one it takes none.
    ///
    /// # Errors
    /// As [`Self::schema`]; the path begins with the tool's name.
    pub fn calls(
        manner: Manner,
        tools: &[(String, Option<Document>)],
        most: usize,
    ) -> Result<Self, Error> {
        let mut builder = Builder::new()?;
        let mut choices = Vec::new();
        for (name, parameters) in tools {
            choices.push(call(&mut builder, manner, name, parameters.as_ref())?);
        }
        let call = builder.add(Node::Choice(choices.into()))?;
        let [before, between, behind] = manner.around();
        let mut texts = |texts: &[&str]| -> Result<Vec<Number>, Error> {
            texts.iter().map(|text| builder.bytes(text)).collect()
        };
        let (mut all, between, behind) = (texts(before)?, texts(between)?, texts(behind)?);
        // From the last call to the first: each but the first may come or not.
        let mut rest: Option<Number> = None;
        for _ in 1..most {
            let mut further = between.clone();
            further.push(call);
            further.extend(rest);
            let further = builder.add(Node::Sequence(further.into()))?;
            let none = builder.bytes("")?;
            rest = Some(builder.add(Node::Choice([further, none].into()))?);
        }
        all.push(call);
        all.extend(rest);
        all.extend(behind);
        let root = builder.add(Node::Sequence(all.into()))?;
        builder.finish(root)
    }
}

fn call(
    builder: &mut Builder,
    manner: Manner,
    name: &str,
    parameters: Option<&Document>,
) -> Result<Number, Error> {
    let arguments = match parameters {
        None | Some(Document::Null) => builder.add(Node::Object(Object {
            fields: Box::default(),
            others: None,
        }))?,
        Some(parameters) => {
            schema::compile(builder, &as_object(parameters)).map_err(|error| error.within(name))?
        }
    };
    if manner == Manner::Named {
        let name = builder.bytes(name)?;
        let mark = builder.bytes("[ARGS]")?;
        return builder.add(Node::Sequence([name, mark, arguments].into()));
    }
    let key = match manner {
        Manner::Parameters => "\"parameters\":",
        _ => "\"arguments\":",
    };
    let text = Document::String(name.to_owned()).to_string();
    let fields = [
        Field {
            key: builder.bytes("\"name\":")?,
            value: builder.bytes(&text)?,
            required: true,
        },
        Field {
            key: builder.bytes(key)?,
            value: arguments,
            required: true,
        },
    ];
    builder.add(Node::Object(Object {
        fields: fields.into(),
        others: None,
    }))
}

/// Arguments are an object, whether their schema says so or not.
fn as_object(parameters: &Document) -> Document {
    match parameters {
        Document::Object(fields) if !fields.iter().any(|(name, _)| name == "type") => {
            let kind = ("type".to_owned(), Document::String("object".to_owned()));
            Document::Object([kind].into_iter().chain(fields.clone()).collect())
        }
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::{Value, json};

    use super::*;
    use crate::constrain::{Constraint, Piece, Pieces};
    use crate::reading::{Part, Reader};

    /// A vocabulary of bytes, and an end.
    fn pieces() -> Arc<Pieces> {
        let bytes = (0..=255_u8).map(|byte| Piece::Text(vec![byte]));
        Arc::new(Pieces::new(bytes.chain([Piece::End])))
    }

    fn tools() -> Vec<(String, Option<Document>)> {
        let schema = json!({
            "properties": {"on": {"$ref": "#/$defs/on"}},
            "required": ["on"],
            "$defs": {"on": {"type": "boolean"}},
        });
        let document = Document::from(&schema);
        vec![
            ("light".to_owned(), Some(document)),
            ("bell".to_owned(), None),
        ]
    }

    /// Whether a text is allowed as the whole answer.
    fn allows(grammar: &Arc<Grammar>, text: &str) -> bool {
        let mut constraint = Constraint::new(grammar.clone(), pieces());
        let whole = text.bytes().all(|byte| constraint.accept(byte.into()));
        whole && constraint.may_end()
    }

    #[test]
    fn calls_in_every_manner_are_read_again() {
        let one = json!({"name": "light", "arguments": {"on": true}});
        for (manner, text) in [
            (
                Manner::Marked,
                "<tool_call>\n{\"name\":\"light\",\"arguments\":{\"on\":true}}\n</tool_call>",
            ),
            (
                Manner::List,
                "[TOOL_CALLS][{\"name\":\"light\",\"arguments\":{\"on\":true}}]",
            ),
            (Manner::Named, "[TOOL_CALLS]light[ARGS]{\"on\":true}"),
            (
                Manner::Parameters,
                "{\"name\":\"light\",\"parameters\":{\"on\":true}}",
            ),
            (
                Manner::Bare,
                "{\"name\":\"light\",\"arguments\":{\"on\":true}}",
            ),
        ] {
            let grammar = Arc::new(Grammar::calls(manner, &tools(), 2).unwrap());
            assert!(allows(&grammar, text), "{manner:?}");
            assert!(!allows(&grammar, &text.replace("true", "1")), "{manner:?}");
            assert!(!allows(&grammar, "no"), "{manner:?}");
            assert!(!allows(&grammar, ""), "{manner:?}");
            let names = tools().into_iter().map(|(name, _)| name).collect();
            let mut reader = Reader::new(Some(names), false);
            let mut parts = reader.push(text);
            parts.extend(reader.finish());
            let calls: Vec<Value> = parts
                .into_iter()
                .map(|part| match part {
                    Part::Call(call) => json!({"name": call.name, "arguments": call.arguments}),
                    other => panic!("{manner:?}: {other:?}"),
                })
                .collect();
            assert_eq!(calls, std::slice::from_ref(&one), "{manner:?}");
        }
    }

    #[test]
    fn there_are_no_more_calls_than_allowed() {
        let bell = "{\"name\":\"bell\",\"arguments\":{}}";
        for (most, allowed) in [(1, 1), (3, 3)] {
            let grammar = Arc::new(Grammar::calls(Manner::Bare, &tools(), most).unwrap());
            for count in 1..5 {
                let text = vec![bell; count].join("; ");
                assert_eq!(allows(&grammar, &text), count <= allowed, "{most} {count}");
            }
        }
    }

    #[test]
    fn an_error_names_the_tool() {
        let wrong =
            Document::from(&json!({"properties": {"a": {"type": "number", "multipleOf": 3}}}));
        let error = Grammar::calls(Manner::Bare, &[("sum".to_owned(), Some(wrong))], 1);
        let text = error.unwrap_err().to_string();
        assert!(text.contains("sum#/properties/a"), "{text}");
    }

    #[test]
    fn templates_tell_the_manner() {
        for (text, manner) in [
            ("{{ '<tool_call>' }}", Manner::Marked),
            ("[TOOL_CALLS] [", Manner::List),
            ("[TOOL_CALLS]x[ARGS]", Manner::Named),
            (
                "{\"name\": function name, \"parameters\": dictionary of …}",
                Manner::Parameters,
            ),
            ("{{ tools }}", Manner::Bare),
        ] {
            assert_eq!(Manner::of(text), manner);
        }
    }
}
