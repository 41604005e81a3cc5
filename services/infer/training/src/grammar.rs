//! What can be said, as `grammar/` says it: lists, and ways to ask for each kind of call.

use std::collections::HashMap;

use anyhow::{Context, Result, bail, ensure};
use kos_infer::operator::call::Kind;
use kos_infer::operator::labels::{DAYS, Label, OWN};

use crate::chance::Chance;
use crate::names::{Names, Special};

/// The files, in the order in which they are read.
const FILES: [(&str, &str); 12] = [
    ("lists.txt", include_str!("../grammar/lists.txt")),
    ("names.txt", include_str!("../grammar/names.txt")),
    ("none.txt", include_str!("../grammar/none.txt")),
    ("acts.txt", include_str!("../grammar/acts.txt")),
    ("services.txt", include_str!("../grammar/services.txt")),
    ("logs.txt", include_str!("../grammar/logs.txt")),
    ("machine.txt", include_str!("../grammar/machine.txt")),
    ("models.txt", include_str!("../grammar/models.txt")),
    (
        "more-services.txt",
        include_str!("../grammar/more-services.txt"),
    ),
    ("more-acts.txt", include_str!("../grammar/more-acts.txt")),
    (
        "more-machine.txt",
        include_str!("../grammar/more-machine.txt"),
    ),
    ("more-none.txt", include_str!("../grammar/more-none.txt")),
];

/// Deepest nesting while a line is put into words: a list that holds itself would never end.
const MAX_DEPTH: usize = 32;

/// One piece of a request: words without a space in them, and what they are for.
pub type Chunk = (String, Label);

/// All of it.
#[derive(Debug)]
pub struct Grammar {
    lists: Vec<Vec<Node>>,
    numbers: HashMap<String, usize>,
    asks: HashMap<Kind, Vec<Node>>,
    names: Names,
}

/// A part of a line.
#[derive(Debug, Clone, PartialEq)]
enum Node {
    Text(String),
    Sequence(Vec<Node>),
    Choice(Vec<Node>),
    List(usize),
    Labelled(Label, Box<Node>),
    Special(Special),
}

impl Grammar {
    /// Reads the files that are compiled in.
    ///
    /// # Errors
    /// When a line cannot be understood; it says which.
    pub fn read() -> Result<Self> {
        let mut grammar = Grammar {
            lists: Vec::new(),
            numbers: HashMap::new(),
            asks: HashMap::new(),
            names: Names::default(),
        };
        for (_, text) in FILES {
            for name in text.lines().filter_map(|line| line.strip_prefix("= ")) {
                let number = grammar.numbers.len();
                let twice = grammar.numbers.insert(name.to_owned(), number);
                ensure!(twice.is_none(), "there are two lists '{name}'");
            }
        }
        grammar.lists = vec![Vec::new(); grammar.numbers.len()];
        for (file, text) in FILES {
            grammar.read_file(text).with_context(|| file)?;
        }
        for (name, &number) in &grammar.numbers {
            ensure!(!grammar.lists[number].is_empty(), "list '{name}' is empty");
        }
        for kind in Kind::ALL {
            ensure!(
                grammar.asks.contains_key(&kind),
                "nothing asks for '{}'",
                kind.name()
            );
        }
        grammar.names = Names::new(
            grammar.texts("name-noun")?,
            grammar.texts("noun")?,
            grammar.texts("search-text")?,
        );
        Ok(grammar)
    }

    fn read_file(&mut self, text: &str) -> Result<()> {
        enum Into {
            Nothing,
            List(usize),
            Ask(Kind),
        }
        let mut into = Into::Nothing;
        for (index, line) in text.lines().enumerate() {
            let at = || format!("line {}", index + 1);
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            if let Some(name) = line.strip_prefix("= ") {
                into = Into::List(self.numbers[name]);
            } else if let Some(name) = line.strip_prefix("> ") {
                into = Into::Ask(Kind::parse(name).with_context(|| format!("no call '{name}'"))?);
            } else {
                let node = Parser::new(line, &self.numbers).whole().with_context(at)?;
                match into {
                    Into::Nothing => bail!("line {}: belongs to no list", index + 1),
                    Into::List(number) => self.lists[number].push(node),
                    Into::Ask(kind) => self.asks.entry(kind).or_default().push(node),
                }
            }
        }
        Ok(())
    }

    /// The lines of a list that are plain text.
    fn texts(&self, name: &str) -> Result<Vec<String>> {
        let number = self
            .numbers
            .get(name)
            .with_context(|| format!("no list '{name}'"))?;
        let texts = self.lists[*number].iter().filter_map(|node| match node {
            Node::Text(text) => Some(text.clone()),
            _ => None,
        });
        Ok(texts.collect())
    }

    /// A way to ask for that kind of call.
    pub fn ask(&self, kind: Kind, chance: &mut Chance) -> Vec<Chunk> {
        let mut chunks = Vec::new();
        let line = chance.pick(&self.asks[&kind]);
        self.say(line, Label::Plain, chance, &mut chunks, 0);
        chunks
    }

    /// A line of a list.
    pub fn line(&self, list: &str, chance: &mut Chance) -> Vec<Chunk> {
        let mut chunks = Vec::new();
        let line = Node::List(self.numbers[list]);
        self.say(&line, Label::Plain, chance, &mut chunks, 0);
        chunks
    }

    fn say(
        &self,
        node: &Node,
        label: Label,
        chance: &mut Chance,
        chunks: &mut Vec<Chunk>,
        depth: usize,
    ) {
        assert!(depth < MAX_DEPTH, "a list holds itself");
        let mut words = |text: &str| {
            chunks.extend(text.split_whitespace().map(|word| (word.to_owned(), label)));
        };
        match node {
            Node::Text(text) => words(text),
            Node::Special(special) => words(&self.names.make(*special, chance)),
            Node::Sequence(parts) => {
                for part in parts {
                    self.say(part, label, chance, chunks, depth + 1);
                }
            }
            Node::Choice(parts) => {
                let part = chance.below(parts.len());
                self.say(&parts[part], label, chance, chunks, depth + 1);
            }
            Node::List(number) => {
                let lines = &self.lists[*number];
                let line = chance.below(lines.len());
                self.say(&lines[line], label, chance, chunks, depth + 1);
            }
            Node::Labelled(label, inner) => self.say(inner, *label, chance, chunks, depth + 1),
        }
    }
}

/// The label of a `{LABEL:…}`.
fn label(name: &str) -> Option<Label> {
    if let Some(level) = name.strip_prefix("LEVEL") {
        return level.parse().ok().map(Label::Level);
    }
    let day = |name: &str| DAYS.iter().position(|day| *day == name);
    let own = OWN.iter().position(|own| own.to_uppercase() == name);
    if let Some(own) = own {
        return u8::try_from(own).ok().map(Label::Own);
    }
    let day = match name {
        "TODAY" => day("today"),
        "YESTERDAY" => day("yesterday"),
        "NIGHT" => day("last-night"),
        "MORNING" => day("this-morning"),
        _ => None,
    };
    if let Some(day) = day {
        return u8::try_from(day).ok().map(Label::Day);
    }
    match name {
        "NAME" => Some(Label::Name),
        "AMOUNT" => Some(Label::Amount),
        "UNIT" => Some(Label::Unit),
        "LIMIT" => Some(Label::Limit),
        "SEARCH" => Some(Label::Search),
        _ => None,
    }
}

/// Reads one line.
struct Parser<'a> {
    rest: &'a str,
    lists: &'a HashMap<String, usize>,
}

impl<'a> Parser<'a> {
    fn new(line: &'a str, lists: &'a HashMap<String, usize>) -> Self {
        Parser { rest: line, lists }
    }

    fn whole(mut self) -> Result<Node> {
        let node = self.choice()?;
        ensure!(self.rest.is_empty(), "'{}' closes nothing", self.rest);
        Ok(node)
    }

    /// Alternatives up to what closes them.
    fn choice(&mut self) -> Result<Node> {
        let mut parts = vec![self.sequence()?];
        while let Some(rest) = self.rest.strip_prefix('|') {
            self.rest = rest;
            parts.push(self.sequence()?);
        }
        Ok(match parts.len() {
            1 => parts.remove(0),
            _ => Node::Choice(parts),
        })
    }

    fn sequence(&mut self) -> Result<Node> {
        let mut parts = Vec::new();
        while let Some(letter) = self.rest.chars().next() {
            match letter {
                '|' | ')' | '}' => break,
                '(' => parts.push(self.closed(1, ')')?),
                '{' => {
                    let end = self.rest.find(':').context("a '{' without a ':'")?;
                    let name = &self.rest[1..end];
                    let label = label(name).with_context(|| format!("no label '{name}'"))?;
                    let inner = self.closed(end + 1, '}')?;
                    parts.push(Node::Labelled(label, Box::new(inner)));
                }
                '$' => {
                    let name = self.name();
                    let number = self.lists.get(name);
                    parts.push(Node::List(
                        *number.with_context(|| format!("no list '{name}'"))?,
                    ));
                }
                '%' => {
                    let name = self.name();
                    let special = Special::parse(name);
                    parts.push(Node::Special(
                        special.with_context(|| format!("nothing makes '%{name}'"))?,
                    ));
                }
                _ => {
                    let end = self
                        .rest
                        .find(['(', ')', '|', '{', '}', '$', '%'])
                        .unwrap_or(self.rest.len());
                    let (text, rest) = self.rest.split_at(end);
                    self.rest = rest;
                    if !text.trim().is_empty() {
                        parts.push(Node::Text(text.trim().to_owned()));
                    }
                }
            }
        }
        Ok(match parts.len() {
            1 => parts.remove(0),
            _ => Node::Sequence(parts),
        })
    }

    fn closed(&mut self, skip: usize, mark: char) -> Result<Node> {
        self.rest = &self.rest[skip..];
        let node = self.choice()?;
        self.rest = self
            .rest
            .strip_prefix(mark)
            .with_context(|| format!("no '{mark}' closes it"))?;
        Ok(node)
    }

    /// The name behind the mark that stands here.
    fn name(&mut self) -> &'a str {
        let rest = &self.rest[1..];
        let end = rest
            .find(|letter: char| !letter.is_ascii_alphanumeric() && letter != '-')
            .unwrap_or(rest.len());
        self.rest = &rest[end..];
        &rest[..end]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_can_be_read() {
        let grammar = Grammar::read().unwrap();
        let mut chance = Chance::new(1);
        for kind in Kind::ALL {
            for _ in 0..300 {
                let chunks = grammar.ask(kind, &mut chance);
                let named = chunks
                    .iter()
                    .any(|(_, label)| matches!(label, Label::Name | Label::Own(_)));
                assert!(
                    !chunks.is_empty() && (named || !kind.needs_service()),
                    "{chunks:?}"
                );
                // None has no arguments; a name in it is one that must not be acted on.
                if !kind.needs_service() && kind != Kind::Logs && kind != Kind::None {
                    assert!(!named, "{chunks:?}");
                }
            }
        }
    }

    #[test]
    fn a_line_that_is_wrong_is_told() {
        let lists = HashMap::from([("a".to_owned(), 0)]);
        for line in [
            "(x", "x)", "$b", "%b", "{NAME", "{X:y}", "{NAME:y", "a (b|c",
        ] {
            assert!(Parser::new(line, &lists).whole().is_err(), "{line}");
        }
        let node = Parser::new("x ($a|) {NAME:%name} y", &lists)
            .whole()
            .unwrap();
        let Node::Sequence(parts) = node else {
            panic!("{node:?}")
        };
        assert_eq!(parts.len(), 4);
        assert_eq!(
            parts[1],
            Node::Choice(vec![Node::List(0), Node::Sequence(vec![])])
        );
    }
}
