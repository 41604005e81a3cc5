//! The reference as data: tables, keys and words, read from the sources with their doc comments.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};
use syn::{Attribute, Expr, Fields, GenericArgument, Item, Lit, Meta, PathArguments, Type};

/// All that the sources say about manifests.
pub struct Reference {
    /// The table of a whole manifest.
    pub root: Table,
    /// All other tables by the names of their types.
    pub tables: BTreeMap<String, Table>,
    /// Keys that take one of a few words, by the names of their types.
    pub choices: BTreeMap<String, Vec<Choice>>,
    /// Kinds of text and number, by name.
    pub kinds: BTreeMap<String, Kind>,
}

/// A table of the manifest.
pub struct Table {
    /// What it is for.
    pub doc: Doc,
    /// Its keys in the order of the source.
    pub keys: Vec<Key>,
}

/// One key.
pub struct Key {
    /// As it is written.
    pub name: String,
    /// What it means.
    pub doc: Doc,
    /// Whether a manifest without it is refused.
    pub required: bool,
    /// What it takes.
    pub value: Value,
}

/// What a key takes.
pub enum Value {
    Bool,
    Integer,
    Float,
    /// A text or number of a kind that has a name.
    Kind(String),
    /// One of a few words.
    Choice(String),
    Table(String),
    List(Box<Value>),
    /// Names that the manifest's author chooses, each with a value.
    Map(Box<Value>),
}

/// One word of a choice.
pub struct Choice {
    pub word: String,
    pub doc: Doc,
}

/// A kind of text or number.
pub struct Kind {
    pub doc: Doc,
    /// Whether it is written as a number.
    pub number: bool,
}

/// A doc comment taken apart by its conventions.
#[derive(Default)]
pub struct Doc {
    /// The sentences.
    pub text: String,
    /// What stands for a key that is not given.
    pub default: Option<String>,
    /// What is taken.
    pub allowed: Option<String>,
    /// A regular expression of what is taken.
    pub pattern: Option<String>,
    /// TOML.
    pub example: Option<String>,
}

impl Reference {
    /// Reads the sources.
    pub fn read(root: &Path, sources: &[&str], top: &str) -> Result<Reference> {
        let mut items = Vec::new();
        for source in sources {
            let text = std::fs::read_to_string(root.join(source))
                .with_context(|| format!("read {source}"))?;
            let file = syn::parse_file(&text).with_context(|| format!("read {source} as Rust"))?;
            items.extend(file.items);
        }
        let mut kinds = BTreeMap::new();
        let mut choices = BTreeMap::new();
        for item in &items {
            match item {
                Item::Type(alias) => {
                    let number = matches!(value(&alias.ty, &[], &[])?, Value::Integer);
                    let doc = Doc::read(&alias.attrs)?;
                    kinds.insert(alias.ident.to_string(), Kind { doc, number });
                }
                Item::Enum(choice) => {
                    let words = choice.variants.iter().map(|variant| {
                        Ok(Choice {
                            word: kebab(&variant.ident.to_string()),
                            doc: Doc::read(&variant.attrs)?,
                        })
                    });
                    choices.insert(choice.ident.to_string(), words.collect::<Result<_>>()?);
                }
                _ => {}
            }
        }
        let kind_names: Vec<&str> = kinds.keys().map(String::as_str).collect();
        let choice_names: Vec<&str> = choices.keys().map(String::as_str).collect();
        let mut tables = BTreeMap::new();
        for item in &items {
            if let Item::Struct(table) = item {
                let keys = keys(&table.fields, &kind_names, &choice_names)
                    .with_context(|| format!("read {}", table.ident))?;
                let doc = Doc::read(&table.attrs)?;
                tables.insert(table.ident.to_string(), Table { doc, keys });
            }
        }
        let root = tables
            .remove(top)
            .ok_or_else(|| anyhow!("no {top} in {}", sources.join(", ")))?;
        Ok(Reference {
            root,
            tables,
            choices,
            kinds,
        })
    }

    /// A table by the name of its type.
    pub fn table(&self, name: &str) -> Result<&Table> {
        self.tables
            .get(name)
            .ok_or_else(|| anyhow!("no table {name} in the sources"))
    }
}

fn keys(fields: &Fields, kinds: &[&str], choices: &[&str]) -> Result<Vec<Key>> {
    let mut keys = Vec::new();
    for field in fields {
        let name = field.ident.as_ref().context("a field without a name")?;
        let value = value(&field.ty, kinds, choices).with_context(|| format!("the key {name}"))?;
        let doc = Doc::read(&field.attrs)?;
        if doc.text.is_empty() {
            bail!("the key {name} is not documented");
        }
        keys.push(Key {
            name: name.to_string().replace('_', "-"),
            doc,
            required: outer(&field.ty)? != "Option" && !has_default(&field.attrs),
            value,
        });
    }
    Ok(keys)
}

fn value(ty: &Type, kinds: &[&str], choices: &[&str]) -> Result<Value> {
    let name = outer(ty)?;
    let inner = |index| argument(ty, index).and_then(|ty| value(ty, kinds, choices));
    Ok(match name.as_str() {
        "Option" | "Spanned" => inner(0)?,
        "Vec" => Value::List(Box::new(inner(0)?)),
        "BTreeMap" => Value::Map(Box::new(inner(1)?)),
        "bool" => Value::Bool,
        "u16" | "u32" | "u64" => Value::Integer,
        "f64" => Value::Float,
        "String" => Value::Kind("String".to_owned()),
        _ if kinds.contains(&name.as_str()) => Value::Kind(name),
        _ if choices.contains(&name.as_str()) => Value::Choice(name),
        _ => Value::Table(name),
    })
}

fn outer(ty: &Type) -> Result<String> {
    let Type::Path(path) = ty else {
        bail!("a type that is no path");
    };
    let last = path.path.segments.last().context("a type with no name")?;
    Ok(last.ident.to_string())
}

fn argument(ty: &Type, index: usize) -> Result<&Type> {
    let Type::Path(path) = ty else {
        bail!("a type that is no path");
    };
    let last = path.path.segments.last().context("a type with no name")?;
    let PathArguments::AngleBracketed(arguments) = &last.arguments else {
        bail!("{} has no argument", last.ident);
    };
    match arguments.args.iter().nth(index) {
        Some(GenericArgument::Type(ty)) => Ok(ty),
        _ => bail!("{} has no argument {index}", last.ident),
    }
}

/// Whether serde fills in what is not given.
fn has_default(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let mut found = false;
        if attribute.path().is_ident("serde") {
            // What does not parse here would not have compiled there.
            let _ = attribute.parse_nested_meta(|meta| {
                found |= meta.path.is_ident("default");
                if let Ok(value) = meta.value() {
                    value.parse::<Lit>()?;
                }
                Ok(())
            });
        }
        found
    })
}

fn kebab(camel: &str) -> String {
    let mut kebab = String::new();
    for letter in camel.chars() {
        if letter.is_ascii_uppercase() && !kebab.is_empty() {
            kebab.push('-');
        }
        kebab.push(letter.to_ascii_lowercase());
    }
    kebab
}

impl Doc {
    fn read(attributes: &[Attribute]) -> Result<Doc> {
        let mut lines = Vec::new();
        for attribute in attributes {
            if let Meta::NameValue(meta) = &attribute.meta
                && meta.path.is_ident("doc")
                && let Expr::Lit(literal) = &meta.value
                && let Lit::Str(text) = &literal.lit
            {
                let text = text.value();
                lines.push(text.strip_prefix(' ').unwrap_or(&text).to_owned());
            }
        }
        Doc::parse(&lines.join("\n"))
    }

    /// Paragraphs of sentences, then those that begin with `Default:`, `Allowed:` or `Pattern:`, and
    /// a block of TOML.
    pub fn parse(text: &str) -> Result<Doc> {
        let mut doc = Doc::default();
        let (text, example) = match text.split_once("```toml\n") {
            None => (text.to_owned(), None),
            Some((before, rest)) => {
                let (example, after) = rest.split_once("```").context("a block without an end")?;
                (format!("{before}{after}"), Some(example.to_owned()))
            }
        };
        doc.example = example;
        let mut sentences = Vec::new();
        for paragraph in text.split("\n\n") {
            let paragraph = paragraph.trim().replace('\n', " ");
            if let Some(pattern) = paragraph.strip_prefix("Pattern: ") {
                doc.pattern = Some(pattern.trim_matches('`').to_owned());
            } else if let Some(allowed) = paragraph.strip_prefix("Allowed: ") {
                doc.allowed = Some(end(allowed));
            } else if let Some(default) = paragraph.strip_prefix("Default: ") {
                let (default, allowed) = match default.split_once(". Allowed: ") {
                    None => (default, None),
                    Some((default, allowed)) => (default, Some(end(allowed))),
                };
                doc.default = Some(end(default));
                doc.allowed = allowed;
            } else if !paragraph.is_empty() {
                sentences.push(paragraph);
            }
        }
        doc.text = sentences.join(" ");
        Ok(doc)
    }

    /// The default as TOML, where it is one value and not a sentence.
    pub fn default_value(&self) -> Option<&str> {
        let text = self.default.as_deref()?;
        let value = text.strip_prefix('`')?.strip_suffix('`')?;
        (!value.contains('`')).then_some(value)
    }

    /// The numbers between which a value lies, where that is all that is said.
    pub fn range(&self) -> Option<(f64, f64)> {
        let (least, most) = self.allowed.as_deref()?.split_once(" to ")?;
        Some((least.parse().ok()?, most.parse().ok()?))
    }
}

/// Without the full stop: it stands in a table.
fn end(text: &str) -> String {
    text.strip_suffix('.').unwrap_or(text).to_owned()
}
