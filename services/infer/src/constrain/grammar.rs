//! What may be written, as nodes that refer to each other: regular parts are automata, arrays and
//! objects count their own way. A stack of nodes makes a pushdown automaton of them (see `stack`).
//!
//! Invariant: from every position that can be reached there is a way to an end. Nodes without one
//! cost [`NEVER`] and are not entered.

use std::fmt;
use std::sync::Arc;

use super::automaton::{Dfa, Machine};
use super::document::Document;
use super::text::Text;
use super::{Error, pattern, schema};

/// Most nodes, and most states of all automata together, of one grammar.
const MAX_NODES: usize = 20_000;
const MAX_STATES: usize = 200_000;

/// The cost of what cannot be completed.
pub(super) const NEVER: u32 = u32::MAX;

/// A node's number.
pub(super) type Number = u32;

#[derive(Debug)]
pub(super) enum Node {
    /// These bytes.
    Bytes(Box<[u8]>),
    /// What an automaton accepts.
    Regular(Dfa),
    /// A JSON text.
    Text(Text),
    /// Anything up to and with a trigger. An answer may end within it.
    Until(Trigger),
    /// One after the other.
    Sequence(Box<[Number]>),
    /// One of them.
    Choice(Box<[Number]>),
    Array(Array),
    Object(Object),
}

#[derive(Debug)]
pub(super) struct Array {
    pub(super) first: Box<[Number]>,
    pub(super) rest: Option<Number>,
    pub(super) least: u32,
    pub(super) most: u32,
}

impl Array {
    pub(super) fn item(&self, place: u32) -> Option<Number> {
        let within = place < self.most;
        let item = self.first.get(place as usize).copied().or(self.rest);
        item.filter(|_| within)
    }
}

/// Fields come in the order of the schema, as models are used to.
#[derive(Debug)]
pub(super) struct Object {
    pub(super) fields: Box<[Field]>,
    /// Keys and values of others.
    pub(super) others: Option<(Number, Number)>,
}

#[derive(Debug)]
pub(super) struct Field {
    /// The name, its quotes and the colon.
    pub(super) key: Number,
    pub(super) value: Number,
    pub(super) required: bool,
}

/// Finds a text in a stream of bytes (Knuth, Morris, Pratt).
#[derive(Debug)]
pub(super) struct Trigger {
    bytes: Box<[u8]>,
    back: Box<[u32]>,
}

impl Trigger {
    fn new(text: &str) -> Self {
        let bytes: Box<[u8]> = text.bytes().collect();
        let mut back = vec![0_u32; bytes.len()];
        for place in 1..bytes.len() {
            let mut length = back[place - 1];
            while length > 0 && bytes[length as usize] != bytes[place] {
                length = back[length as usize - 1];
            }
            back[place] = length + u32::from(bytes[length as usize] == bytes[place]);
        }
        let back = back.into();
        Self { bytes, back }
    }

    /// The bytes of the trigger seen after one more; None when that completes it.
    pub(super) fn next(&self, mut seen: u32, byte: u8) -> Option<u32> {
        while seen > 0 && self.bytes[seen as usize] != byte {
            seen = self.back[seen as usize - 1];
        }
        seen += u32::from(self.bytes[seen as usize] == byte);
        (seen as usize != self.bytes.len()).then_some(seen)
    }
}

/// The nodes that every grammar has, at fixed places.
pub(super) const SPACE: Number = 0;
pub(super) const COMMA: Number = 1;
pub(super) const COLON: Number = 2;
pub(super) const OPEN_ARRAY: Number = 3;
pub(super) const CLOSE_ARRAY: Number = 4;
pub(super) const OPEN_OBJECT: Number = 5;
pub(super) const CLOSE_OBJECT: Number = 6;

/// What answers may be. Made once for a request, shared by those who use it.
pub struct Grammar {
    pub(super) nodes: Box<[Node]>,
    /// Bytes of the shortest text of each node.
    pub(super) costs: Box<[u32]>,
    pub(super) root: Number,
}

impl PartialEq for Grammar {
    /// Only itself: telling whether two allow the same would take a proof.
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self, other)
    }
}

impl fmt::Debug for Grammar {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Grammar of {} nodes", self.nodes.len())
    }
}

impl Grammar {
    /// Any JSON object: Ollama's `format: "json"`, OpenAI's `json_object`.
    ///
    /// # Errors
    /// Never, but a bound could be set too low.
    pub fn json() -> Result<Self, Error> {
        let kind = Document::String("object".to_owned());
        Self::schema(&Document::Object(vec![("type".to_owned(), kind)]))
    }

    /// Values that satisfy a JSON Schema.
    ///
    /// # Errors
    /// When the schema is wrong, asks for what is not enforced, or is too large.
    pub fn schema(value: &Document) -> Result<Self, Error> {
        let mut builder = Builder::new()?;
        let root = schema::compile(&mut builder, value)?;
        builder.finish(root)
    }

    /// Ollama's `format`: nothing, `"json"`, or a schema.
    ///
    /// # Errors
    /// As [`Self::schema`], and for any other value.
    pub fn format(value: &Document) -> Result<Option<Arc<Self>>, Error> {
        match value {
            Document::Null => Ok(None),
            Document::String(text) if text.is_empty() => Ok(None),
            Document::String(text) if text == "json" => Self::json().map(Arc::new).map(Some),
            Document::Object(_) => Self::schema(value).map(Arc::new).map(Some),
            other => Err(Error::Value {
                path: "#".to_owned(),
                keyword: "format".to_owned(),
                found: shorten(other),
                allowed: "\"json\" or a JSON Schema".to_owned(),
            }),
        }
    }

    /// One of these texts, as they are.
    ///
    /// # Errors
    /// When there are none, or too many.
    pub fn literals(texts: &[&str]) -> Result<Self, Error> {
        let mut builder = Builder::new()?;
        let choices = texts.iter().map(|text| builder.bytes(text));
        let choices = choices.collect::<Result<_, _>>()?;
        let root = builder.add(Node::Choice(choices))?;
        builder.finish(root)
    }

    /// Free text; after each `begin` comes a value of the schema, then `end`, then free text again.
    /// Tool calls are written so.
    ///
    /// # Errors
    /// As [`Self::schema`], and when `begin` is empty.
    pub fn within_text(begin: &str, value: &Document, end: &str) -> Result<Self, Error> {
        if begin.is_empty() {
            return Err(Error::Value {
                path: "#".to_owned(),
                keyword: "the trigger".to_owned(),
                found: "empty".to_owned(),
                allowed: "a text".to_owned(),
            });
        }
        let mut builder = Builder::new()?;
        let root = builder.reserve()?;
        let until = builder.add(Node::Until(Trigger::new(begin)))?;
        let value = schema::compile(&mut builder, value)?;
        let end = builder.bytes(end)?;
        let parts = [until, SPACE, value, SPACE, end, root];
        builder.fill(root, Node::Sequence(parts.into()));
        builder.finish(root)
    }
}

/// A value in an error, not longer than a line.
pub(super) fn shorten(value: &Document) -> String {
    let text = value.to_string();
    match text.char_indices().nth(60) {
        Some((place, _)) => format!("{}…", &text[..place]),
        None => text,
    }
}

/// Collects nodes.
pub(super) struct Builder {
    nodes: Vec<Option<Node>>,
    states: usize,
}

impl Builder {
    pub(super) fn new() -> Result<Self, Error> {
        let mut builder = Self {
            nodes: Vec::new(),
            states: 0,
        };
        // None; one blank; or a line break with an indentation. A model that is fond of blanks
        // cannot go on with them for ever.
        let space = pattern::read("^( |\n[ \t]{0,24})?$").unwrap_or_default();
        builder.regular("#", &space)?;
        builder.bytes(",")?;
        builder.bytes(":")?;
        builder.bytes("[")?;
        builder.bytes("]")?;
        builder.bytes("{")?;
        builder.bytes("}")?;
        Ok(builder)
    }

    pub(super) fn reserve(&mut self) -> Result<Number, Error> {
        if self.nodes.len() >= MAX_NODES {
            return Err(too_large("parts", MAX_NODES));
        }
        self.nodes.push(None);
        Ok(self.nodes.len() as Number - 1)
    }

    pub(super) fn fill(&mut self, number: Number, node: Node) {
        self.nodes[number as usize] = Some(node);
    }

    pub(super) fn add(&mut self, node: Node) -> Result<Number, Error> {
        let number = self.reserve()?;
        self.fill(number, node);
        Ok(number)
    }

    pub(super) fn bytes(&mut self, text: &str) -> Result<Number, Error> {
        self.add(Node::Bytes(text.as_bytes().into()))
    }

    pub(super) fn regular(&mut self, path: &str, machine: &Machine) -> Result<Number, Error> {
        let dfa = Dfa::new(machine);
        self.states += dfa.len();
        match self.states > MAX_STATES {
            true => Err(Error::TooLarge {
                path: path.to_owned(),
                what: "states",
                allowed: MAX_STATES,
            }),
            false => self.add(Node::Regular(dfa)),
        }
    }

    pub(super) fn finish(self, root: Number) -> Result<Grammar, Error> {
        // What was reserved and not filled can never be.
        let empty = || Node::Choice(Box::default());
        let nodes = self
            .nodes
            .into_iter()
            .map(|node| node.unwrap_or_else(empty));
        let mut grammar = Grammar {
            nodes: nodes.collect(),
            costs: Box::default(),
            root,
        };
        grammar.costs = vec![NEVER; grammar.nodes.len()].into();
        // Costs only fall, so this ends; children come after their parents, so it ends soon.
        loop {
            let mut changed = false;
            for number in (0..grammar.nodes.len()).rev() {
                let cost = grammar.left(number as Number, 0);
                changed |= cost < grammar.costs[number];
                grammar.costs[number] = grammar.costs[number].min(cost);
            }
            if !changed {
                break;
            }
        }
        match grammar.costs[root as usize] {
            NEVER => Err(Error::Impossible),
            _ => Ok(grammar),
        }
    }
}

fn too_large(what: &'static str, allowed: usize) -> Error {
    Error::TooLarge {
        path: "#".to_owned(),
        what,
        allowed,
    }
}

impl Grammar {
    pub(super) fn node(&self, number: Number) -> &Node {
        &self.nodes[number as usize]
    }

    pub(super) fn cost(&self, number: Number) -> u32 {
        self.costs[number as usize]
    }

    /// Bytes of the shortest way from a position in a node to the node's end.
    pub(super) fn left(&self, number: Number, position: u32) -> u32 {
        match self.node(number) {
            Node::Bytes(bytes) => bytes.len() as u32 - position,
            Node::Regular(dfa) => dfa.distance(position),
            Node::Text(text) => text.distance(position),
            // Nothing has to follow.
            Node::Until(_) => 0,
            Node::Sequence(parts) => {
                let parts = &parts[position as usize..];
                // What comes after free text need not come.
                let free = |part: &Number| matches!(self.node(*part), Node::Until(_));
                let until = parts.iter().position(free).unwrap_or(parts.len());
                sum(parts[..until].iter().map(|&part| self.cost(part)))
            }
            Node::Choice(choices) => {
                let costs = choices.iter().map(|&choice| self.cost(choice));
                costs.min().unwrap_or(NEVER)
            }
            Node::Array(array) => {
                let done = position.saturating_sub(1);
                let costs = (done..array.least).map(|place| {
                    let comma = u32::from(place > 0);
                    array
                        .item(place)
                        .map_or(NEVER, |item| sum([comma, self.cost(item)]))
                });
                // Thousands of equal items are looked at once.
                let brackets = if position == 0 { 2 } else { 1 };
                sum(costs.chain([brackets]))
            }
            Node::Object(object) => {
                let place = Place::of(position);
                let fields = object.fields.iter().skip(place.field);
                let mut commas = u32::from(place.written);
                let mut costs = vec![if position == 0 { 2 } else { 1 }];
                for field in fields.filter(|field| field.required) {
                    costs.push(sum([self.cost(field.key), self.cost(field.value), commas]));
                    commas = 1;
                }
                sum(costs)
            }
        }
    }
}

fn sum(costs: impl IntoIterator<Item = u32>) -> u32 {
    costs.into_iter().fold(0, u32::saturating_add)
}

/// A position in an object, behind its brace.
pub(super) struct Place {
    /// The first field that may come.
    pub(super) field: usize,
    /// Whether any has come.
    pub(super) written: bool,
}

impl Place {
    pub(super) fn of(position: u32) -> Self {
        let position = position.saturating_sub(1);
        Self {
            field: position as usize / 2,
            written: position % 2 == 1,
        }
    }

    pub(super) fn position(field: usize, written: bool) -> u32 {
        1 + 2 * field as u32 + u32::from(written)
    }
}
