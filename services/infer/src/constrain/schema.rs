//! From a JSON Schema to the nodes of a grammar.

use std::collections::HashMap;

use serde_json::Value;

use super::automaton::{Machine, TooLarge};
use super::document::Document;
use super::flat::{
    ARRAY, All, BOOLEAN, FRACTION, Flat, INTEGER, NULL, OBJECT, Part, Reader, STRING,
};
use super::grammar::{Array, Builder, COLON, Field, Node, Number, Object};
use super::number::{self, Decimal};
use super::text::{MOST, Text};
use super::{Error, format, pattern};

/// The most a schema may take, as JSON: what is larger is data, not a schema.
const MAX_BYTES: usize = 256 * 1024;

/// Adds the nodes of a schema; returns that of its values.
pub(super) fn compile(builder: &mut Builder, schema: &Document) -> Result<Number, Error> {
    let bytes = schema.to_string().len();
    if bytes > MAX_BYTES {
        return Err(Error::TooLarge {
            path: "#".to_owned(),
            what: "bytes",
            allowed: MAX_BYTES,
        });
    }
    let mut compiler = Compiler {
        builder,
        reader: Reader { document: schema },
        known: HashMap::new(),
        open: Vec::new(),
        patterns: HashMap::new(),
    };
    let root = compiler.number(vec![Part {
        value: schema,
        path: "#".to_owned(),
    }])?;
    // A list instead of calls: schemas may be nested as deeply as they like.
    while let Some((number, all)) = compiler.open.pop() {
        let mut choices = Vec::new();
        for flat in compiler.reader.alternatives(&all)? {
            compiler.choices(&flat, &mut choices)?;
        }
        compiler.builder.fill(number, Node::Choice(choices.into()));
    }
    Ok(root)
}

struct Compiler<'a, 'b> {
    builder: &'b mut Builder,
    reader: Reader<'a>,
    /// The node of each set of schemas, by where these are in memory: so recursion ends.
    known: HashMap<Vec<*const Document>, Number>,
    open: Vec<(Number, All<'a>)>,
    patterns: HashMap<&'a str, Machine>,
}

impl<'a> Compiler<'a, '_> {
    /// The node of what satisfies all of these, to be filled later.
    fn number(&mut self, mut all: All<'a>) -> Result<Number, Error> {
        let mut key: Vec<*const Document> = Vec::new();
        all.retain(|part| {
            let place = std::ptr::from_ref(part.value);
            let first = !key.contains(&place);
            key.push(place);
            first
        });
        key.sort_unstable();
        key.dedup();
        if let Some(&number) = self.known.get(&key) {
            return Ok(number);
        }
        let number = self.builder.reserve()?;
        self.known.insert(key, number);
        self.open.push((number, all));
        Ok(number)
    }

    fn choices(&mut self, flat: &Flat<'a>, choices: &mut Vec<Number>) -> Result<(), Error> {
        if let Some(values) = &flat.values {
            for value in values {
                if self.admits(flat, value)? {
                    choices.push(self.builder.bytes(&written(value))?);
                }
            }
            return Ok(());
        }
        let types = flat.meant();
        if types & NULL != 0 {
            choices.push(self.builder.bytes("null")?);
        }
        if types & BOOLEAN != 0 {
            choices.push(self.builder.bytes("true")?);
            choices.push(self.builder.bytes("false")?);
        }
        if types & (INTEGER | FRACTION) != 0 {
            let machine = number::machine(&flat.range, types & FRACTION == 0);
            let machine = machine.map_err(|error| too_large(flat, error))?;
            choices.push(self.builder.regular(&flat.path, &machine)?);
        }
        if types & STRING != 0 {
            choices.push(self.string(flat)?);
        }
        if types & ARRAY != 0 {
            choices.push(self.array(flat)?);
        }
        if types & OBJECT != 0 {
            choices.push(self.object(flat)?);
        }
        Ok(())
    }

    fn string(&mut self, flat: &Flat<'a>) -> Result<Number, Error> {
        let (least, most) = (flat.least_length, flat.most_length);
        match self.machine(flat)? {
            None if least > most => self.builder.add(Node::Choice(Box::default())),
            None => self.builder.add(Node::Text(Text { least, most })),
            Some(machine) => {
                let most = if most == MOST { u32::MAX } else { most };
                let json = machine.within(least, most).and_then(|m| m.in_json());
                let json = json.map_err(|error| too_large(flat, error))?;
                self.builder.regular(&flat.path, &json)
            }
        }
    }

    /// The automaton of all patterns and formats; None when there are none.
    fn machine(&mut self, flat: &Flat<'a>) -> Result<Option<Machine>, Error> {
        let error = |keyword: &str, found: &str, allowed: String| Error::Value {
            path: flat.path.clone(),
            keyword: keyword.to_owned(),
            found: format!("{:?}", found.chars().take(60).collect::<String>()),
            allowed,
        };
        let mut patterns = Vec::new();
        for format in &flat.formats {
            let found = format::pattern(format);
            let found = found.ok_or_else(|| error("format", format, format::names()))?;
            patterns.push(("format", found));
        }
        patterns.extend(flat.patterns.iter().map(|&pattern| ("pattern", pattern)));
        let mut all: Option<Machine> = None;
        for (keyword, text) in patterns {
            let machine = match self.patterns.get(text) {
                Some(machine) => machine.clone(),
                None => {
                    let machine = pattern::read(text).map_err(|reason| {
                        let allowed = format!("a regular expression that is regular (it {reason})");
                        error(keyword, text, allowed)
                    })?;
                    self.patterns.insert(text, machine.clone());
                    machine
                }
            };
            all = Some(match all {
                None => machine,
                Some(all) => all.and(&machine).map_err(|error| too_large(flat, error))?,
            });
        }
        Ok(all)
    }

    fn array(&mut self, flat: &Flat<'a>) -> Result<Number, Error> {
        let first: Vec<Number> = flat
            .first_items
            .iter()
            .map(|all| self.number(all.clone()))
            .collect::<Result<_, _>>()?;
        // Beyond the items that a schema lists none come, unless it says so or wants more.
        let rest = match &flat.items {
            Some(all) => Some(self.number(all.clone())?),
            None if first.is_empty() || flat.least_items as usize > first.len() => {
                Some(self.number(Vec::new())?)
            }
            None => None,
        };
        match flat.least_items > flat.most_items {
            true => self.builder.add(Node::Choice(Box::default())),
            false => self.builder.add(Node::Array(Array {
                first: first.into(),
                rest,
                least: flat.least_items,
                most: flat.most_items,
            })),
        }
    }

    fn object(&mut self, flat: &Flat<'a>) -> Result<Number, Error> {
        let mut named = flat.fields.clone();
        for name in &flat.required {
            if !named.iter().any(|field| field.0 == *name) {
                named.push((*name, flat.others.clone().unwrap_or_default()));
            }
        }
        let mut fields = Vec::new();
        for (name, all) in &named {
            let text = format!("{}:", Value::String((*name).to_owned()));
            fields.push(Field {
                key: self.builder.bytes(&text)?,
                value: self.number(all.clone())?,
                required: flat.required.contains(name),
            });
        }
        // Fields that a schema does not name come only when it says so, or names none at all.
        let others = match &flat.others {
            Some(all) => Some(all.clone()),
            None if named.is_empty() => Some(Vec::new()),
            None => None,
        };
        let others = match others {
            None => None,
            Some(all) => {
                let names: Vec<&str> = named.iter().map(|field| field.0).collect();
                let key = match names.is_empty() {
                    true => self.builder.add(Node::Text(Text {
                        least: 0,
                        most: MOST,
                    }))?,
                    false => {
                        let key = Machine::except(&names).and_then(|m| m.in_json());
                        let key = key.map_err(|error| too_large(flat, error))?;
                        self.builder.regular(&flat.path, &key)?
                    }
                };
                let key = self.builder.add(Node::Sequence([key, COLON].into()))?;
                Some((key, self.number(all)?))
            }
        };
        self.builder.add(Node::Object(Object {
            fields: fields.into(),
            others,
        }))
    }

    /// Whether one value of `enum` or `const` satisfies the conditions beside it.
    fn admits(&mut self, flat: &Flat<'a>, value: &Document) -> Result<bool, Error> {
        let own = match value {
            Document::Null => NULL,
            Document::Bool(_) => BOOLEAN,
            Document::Number(number) if Decimal::new(number).is_whole() => INTEGER,
            Document::Number(_) => FRACTION,
            Document::String(_) => STRING,
            Document::Array(_) => ARRAY,
            Document::Object(_) => OBJECT,
        };
        if flat.types & own == 0 {
            return Ok(false);
        }
        match value {
            Document::Number(number) => Ok(flat.range.contains(&Decimal::new(number))),
            Document::String(text) => {
                let length = text.chars().count();
                let long = length >= flat.least_length as usize;
                let short = flat.most_length == MOST || length <= flat.most_length as usize;
                let machine = self.machine(flat)?;
                let matches = |m: &Machine| m.accepts(text.chars().map(u32::from));
                Ok(long && short && machine.as_ref().is_none_or(matches))
            }
            Document::Array(_) | Document::Object(_) if flat.speaks_of_containers() => {
                Err(Error::Unsupported {
                    path: flat.path.clone(),
                    keyword: "enum of lists or objects beside other conditions".to_owned(),
                })
            }
            _ => Ok(true),
        }
    }
}

fn too_large(flat: &Flat<'_>, _: TooLarge) -> Error {
    Error::TooLarge {
        path: flat.path.clone(),
        what: "states for one text or number",
        allowed: super::automaton::MAX_STATES,
    }
}

/// A value as it is to be written.
fn written(value: &Document) -> String {
    match value {
        // 1.0 is the integer 1.
        Document::Number(number) => match number.as_f64() {
            Some(float) if number.is_f64() && float.fract() == 0.0 && float.abs() < 1e15 => {
                format!("{}", float as i64)
            }
            _ => number.to_string(),
        },
        other => other.to_string(),
    }
}
