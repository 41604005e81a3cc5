//! Runs a grammar byte by byte. As long as several readings are possible, each is a head on a stack
//! of its own; what stacks have in common is kept once.

use std::collections::HashMap;

use super::grammar::{
    CLOSE_ARRAY, CLOSE_OBJECT, COMMA, Grammar, NEVER, Node, Number, OPEN_ARRAY, OPEN_OBJECT, Place,
    SPACE,
};
use super::text::Step;

/// Arrays and objects within each other; beyond, only the shortest way on is left. JSON parsers
/// stop at 128 and less.
const MAX_DEPTH: u32 = 64;
/// Most readings at one time. What is beyond them is not offered; what is offered stays possible.
const MAX_HEADS: usize = 512;
/// Links after which unused ones are thrown away.
const MANY_LINKS: usize = 100_000;

/// One reading: a position in a node that reads bytes, and what comes after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Head {
    node: Number,
    position: u32,
    then: u32,
}

/// The node of a head behind the end.
const DONE: Number = u32::MAX;
/// The link that nothing comes after.
const END: u32 = 0;

/// A node to go on with at a position.
#[derive(Debug, Clone, Copy)]
struct Link {
    node: Number,
    position: u32,
    then: u32,
    depth: u32,
    /// Bytes of the shortest way to the end of everything.
    cost: u32,
}

/// All stacks of one sequence.
#[derive(Clone)]
pub(super) struct Stacks {
    links: Vec<Link>,
    numbers: HashMap<(Number, u32, u32), u32>,
}

/// What may be read next.
pub(super) struct Run<'a> {
    pub(super) grammar: &'a Grammar,
    pub(super) stacks: &'a mut Stacks,
}

impl Stacks {
    pub(super) fn new() -> Self {
        let end = Link {
            node: DONE,
            position: 0,
            then: END,
            depth: 0,
            cost: 0,
        };
        Self {
            links: vec![end],
            numbers: HashMap::new(),
        }
    }

    pub(super) fn many(&self) -> bool {
        self.links.len() > MANY_LINKS
    }
}

impl Run<'_> {
    /// The heads before the first byte.
    pub(super) fn start(&mut self) -> Vec<Head> {
        let mut heads = Vec::new();
        self.enter(self.grammar.root, 0, END, &mut heads);
        tidy(&mut heads);
        heads
    }

    /// The heads after one more byte; none when it is not allowed.
    pub(super) fn step(&mut self, heads: &[Head], byte: u8, next: &mut Vec<Head>) {
        next.clear();
        for &head in heads {
            self.step_one(head, byte, next);
            if next.len() > MAX_HEADS {
                break;
            }
        }
        tidy(next);
    }

    fn step_one(&mut self, head: Head, byte: u8, next: &mut Vec<Head>) {
        if head.node == DONE {
            return;
        }
        let at = |position| Head { position, ..head };
        match self.grammar.node(head.node) {
            Node::Bytes(bytes) => {
                let place = head.position as usize;
                match bytes.get(place) {
                    Some(&wanted) if wanted == byte && place + 1 == bytes.len() => {
                        self.resume(head.then, next);
                    }
                    Some(&wanted) if wanted == byte => next.push(at(head.position + 1)),
                    _ => {}
                }
            }
            Node::Regular(dfa) => {
                if let Some(state) = dfa.next(head.position, byte) {
                    if dfa.goes_on(state) {
                        next.push(at(state));
                    }
                    if dfa.accepting(state) {
                        self.resume(head.then, next);
                    }
                }
            }
            Node::Text(text) => match text.step(head.position, byte) {
                Step::To(position) => next.push(at(position)),
                Step::End => self.resume(head.then, next),
                Step::No => {}
            },
            Node::Until(trigger) => match trigger.next(head.position, byte) {
                Some(seen) => next.push(at(seen)),
                None => self.resume(head.then, next),
            },
            Node::Sequence(_) | Node::Choice(_) | Node::Array(_) | Node::Object(_) => {}
        }
    }

    /// Goes on after a node has ended.
    fn resume(&mut self, link: u32, heads: &mut Vec<Head>) {
        if link == END {
            heads.push(Head {
                node: DONE,
                position: 0,
                then: END,
            });
            return;
        }
        let Link {
            node,
            position,
            then,
            ..
        } = self.stacks.links[link as usize];
        self.enter(node, position, then, heads);
    }

    fn link(&mut self, node: Number, position: u32, then: u32) -> u32 {
        let key = (node, position, then);
        if let Some(&link) = self.stacks.numbers.get(&key) {
            return link;
        }
        let below = self.stacks.links[then as usize];
        let nests = matches!(self.grammar.node(node), Node::Array(_) | Node::Object(_));
        let link = Link {
            node,
            position,
            then,
            depth: below.depth + u32::from(nests),
            cost: self.grammar.left(node, position).saturating_add(below.cost),
        };
        self.stacks.links.push(link);
        let number = self.stacks.links.len() as u32 - 1;
        self.stacks.numbers.insert(key, number);
        number
    }

    /// Enters `nodes` one after the other, then what comes after them.
    fn chain(&mut self, nodes: &[Number], then: u32, heads: &mut Vec<Head>) {
        if nodes.iter().any(|&node| self.grammar.cost(node) == NEVER) {
            return;
        }
        let Some((&first, rest)) = nodes.split_first() else {
            return self.resume(then, heads);
        };
        let then = rest
            .iter()
            .rev()
            .fold(then, |then, &node| self.link(node, 0, then));
        self.enter(first, 0, then, heads);
    }

    /// Adds the heads that read the first bytes from a position on.
    fn enter(&mut self, number: Number, position: u32, then: u32, heads: &mut Vec<Head>) {
        if heads.len() > MAX_HEADS {
            return;
        }
        let grammar = self.grammar;
        let deep = self.stacks.links[then as usize].depth >= MAX_DEPTH;
        match grammar.node(number) {
            Node::Bytes(bytes) if bytes.is_empty() => self.resume(then, heads),
            Node::Bytes(_) | Node::Text(_) | Node::Until(_) => heads.push(Head {
                node: number,
                position,
                then,
            }),
            Node::Regular(dfa) => {
                if dfa.goes_on(position) {
                    heads.push(Head {
                        node: number,
                        position,
                        then,
                    });
                }
                if dfa.accepting(position) {
                    self.resume(then, heads);
                }
            }
            Node::Sequence(parts) => {
                let place = position as usize;
                let then = match place + 1 < parts.len() {
                    true => self.link(number, position + 1, then),
                    false => then,
                };
                match parts.get(place) {
                    Some(&part) => self.enter(part, 0, then, heads),
                    None => self.resume(then, heads),
                }
            }
            Node::Choice(choices) => {
                let least = grammar.cost(number);
                for &choice in choices {
                    let cost = grammar.cost(choice);
                    if cost != NEVER && (!deep || cost == least) {
                        self.enter(choice, 0, then, heads);
                    }
                }
            }
            Node::Array(_) if position == 0 => {
                let behind = self.link(number, 1, then);
                self.chain(&[OPEN_ARRAY, SPACE], behind, heads);
            }
            Node::Array(array) => {
                let done = position - 1;
                if done >= array.least {
                    let close = [SPACE, CLOSE_ARRAY];
                    // Behind the bracket, blanks were read already.
                    self.chain(&close[usize::from(done == 0)..], then, heads);
                }
                if let Some(item) = array.item(done)
                    && grammar.cost(item) != NEVER
                    && (!deep || done < array.least)
                {
                    // Counting beyond both bounds would only make more stacks.
                    let counts = done < array.least
                        || array.most != u32::MAX
                        || done < array.first.len() as u32
                        || done == 0;
                    let behind = self.link(number, position + u32::from(counts), then);
                    let parts = [COMMA, SPACE, item];
                    self.chain(&parts[if done == 0 { 2 } else { 0 }..], behind, heads);
                }
            }
            Node::Object(_) if position == 0 => {
                let behind = self.link(number, Place::position(0, false), then);
                self.chain(&[OPEN_OBJECT, SPACE], behind, heads);
            }
            Node::Object(object) => {
                let place = Place::of(position);
                let skip = if place.written { 0 } else { 2 };
                for (number_of, field) in object.fields.iter().enumerate().skip(place.field) {
                    let possible = grammar.cost(field.value) != NEVER;
                    if possible && (!deep || field.required) {
                        let behind = self.link(number, Place::position(number_of + 1, true), then);
                        let parts = [COMMA, SPACE, field.key, SPACE, field.value];
                        self.chain(&parts[skip..], behind, heads);
                    }
                    if field.required {
                        return;
                    }
                }
                if let Some((key, value)) = object.others
                    && !deep
                {
                    let all = Place::position(object.fields.len(), true);
                    let behind = self.link(number, all, then);
                    let parts = [COMMA, SPACE, key, SPACE, value];
                    self.chain(&parts[skip..], behind, heads);
                }
                let close = [SPACE, CLOSE_OBJECT];
                self.chain(&close[usize::from(!place.written)..], then, heads);
            }
        }
    }

    /// The bytes of a shortest way to the end; none where the answer may end.
    pub(super) fn close(&mut self, heads: &[Head]) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        let mut heads = heads.to_vec();
        let mut next = Vec::new();
        while !self.grammar.may_end(&heads) {
            let head = heads.iter().copied().min_by_key(|head| self.cost(*head))?;
            let byte = match self.grammar.node(head.node) {
                Node::Bytes(text) => *text.get(head.position as usize)?,
                Node::Regular(dfa) => dfa.towards_end(head.position)?,
                Node::Text(text) => text.towards_end(head.position),
                _ => return None,
            };
            // Every step is one byte nearer; the bound guards against a mistake here.
            if bytes.len() >= MAX_CLOSING {
                return None;
            }
            bytes.push(byte);
            self.step(&[head], byte, &mut next);
            std::mem::swap(&mut heads, &mut next);
        }
        Some(bytes)
    }

    fn cost(&self, head: Head) -> u32 {
        // Where an automaton accepts, what comes after it has a head of its own.
        if let Node::Regular(dfa) = self.grammar.node(head.node)
            && dfa.accepting(head.position)
        {
            return NEVER;
        }
        let below = self.stacks.links[head.then as usize].cost;
        self.grammar
            .left(head.node, head.position)
            .saturating_add(below)
    }

    /// Throws away all links that these heads do not need.
    pub(super) fn compact(&mut self, heads: &mut [Head]) {
        let old = std::mem::replace(self.stacks, Stacks::new());
        for head in heads {
            let mut above = Vec::new();
            let mut link = head.then;
            while link != END {
                above.push(old.links[link as usize]);
                link = old.links[link as usize].then;
            }
            head.then = above
                .into_iter()
                .rev()
                .fold(END, |then, link| self.link(link.node, link.position, then));
        }
    }
}

/// Longest completion that is written: a schema that needs more is better left open.
const MAX_CLOSING: usize = 65_536;

fn tidy(heads: &mut Vec<Head>) {
    if heads.len() > 1 {
        heads.sort_unstable();
        heads.dedup();
        heads.truncate(MAX_HEADS);
    }
}

impl Grammar {
    /// Whether the answer may end here.
    pub(super) fn may_end(&self, heads: &[Head]) -> bool {
        heads
            .iter()
            .any(|head| head.node == DONE || self.is_free(*head))
    }

    /// Whether a head reads free text.
    pub(super) fn is_free(&self, head: Head) -> bool {
        head.node != DONE && matches!(self.node(head.node), Node::Until(_))
    }

    /// Whether a head is before bytes that are given, such as the mark behind a tool call.
    pub(super) fn is_given(&self, head: Head) -> bool {
        head.node != DONE && head.position == 0 && matches!(self.node(head.node), Node::Bytes(_))
    }

    /// When all heads are within texts of plain characters: how many of these may follow.
    pub(super) fn plain(&self, heads: &[Head]) -> Option<u32> {
        let plain = heads.iter().map(|head| {
            if head.node == DONE {
                return None;
            }
            match self.node(head.node) {
                Node::Text(text) => text.plain(head.position),
                Node::Regular(dfa) => dfa.plain(head.position).then_some(u32::MAX),
                _ => None,
            }
        });
        plain.collect::<Option<Vec<u32>>>()?.into_iter().max()
    }
}

/// Whether nothing more can come.
pub(super) fn is_done(heads: &[Head]) -> bool {
    heads.iter().all(|head| head.node == DONE)
}
