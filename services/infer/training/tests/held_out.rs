//! What the operator is judged by is not what it was trained on, and the file in the image is as good
//! as its record says.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on ends; the lint knows only functions marked as tests"
)]

use std::collections::{HashMap, HashSet};
use std::path::Path;

use kos_infer::gguf;
use kos_infer::operator::call::Kind;
use kos_infer::operator::labels::{Label, OWN};
use kos_infer::operator::{Operator, words};
use kos_training::chance::Chance;
use kos_training::grammar::Grammar;
use kos_training::score::{Example, read, score};
use kos_training::sentence;

/// Requests that are made and compared. A grammar that could make one of the held-out sentences would
/// most likely have made it among so many: half of a line's words stand in choices of some ten.
const MADE: usize = 1_000_000;
/// Exactly right of the held-out requests, in percent: what docs/operator.md says, less one for a
/// processor whose last bits differ.
const LEAST_EXACT: f64 = 85.5;

fn examples(name: &str) -> Vec<Example> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/operator");
    read(&root.join(name)).unwrap()
}

/// A request without what courtesy and names add to it: its words in order, names as one mark.
fn normal(words: &[String], is_name: impl Fn(usize) -> bool) -> String {
    const COURTESY: [&str; 3] = ["please", "pls", "the"];
    let mut normal: Vec<&str> = Vec::new();
    for (place, word) in words.iter().enumerate() {
        match is_name(place) {
            true if normal.last() == Some(&"_") => {}
            true => normal.push("_"),
            false if words::is_mark(word) || COURTESY.contains(&word.as_str()) => {}
            false => normal.push(word),
        }
    }
    normal.join(" ")
}

#[test]
fn the_held_out_requests_are_enough_and_of_every_kind() {
    let examples = examples("held-out.jsonl");
    assert!(examples.len() >= 300, "{}", examples.len());
    let mut kinds: HashMap<&str, usize> = HashMap::new();
    for example in &examples {
        *kinds.entry(example.kind()).or_default() += 1;
    }
    for kind in Kind::ALL {
        assert!(
            kinds.get(kind.name()).is_some_and(|count| *count >= 2),
            "{}",
            kind.name()
        );
    }
    assert!(kinds["none"] * 100 >= 15 * examples.len());
    let said: HashSet<&str> = examples
        .iter()
        .map(|example| example.say.as_str())
        .collect();
    assert_eq!(said.len(), examples.len(), "one stands there twice");
    let developed: HashSet<String> = self::examples("development.jsonl")
        .into_iter()
        .map(|example| example.say)
        .collect();
    assert!(said.iter().all(|say| !developed.contains(*say)));
}

#[test]
fn the_grammar_makes_none_of_them() {
    let grammar = Grammar::read().unwrap();
    let mut chance = Chance::new(20_261_128);
    let mut held_out: HashMap<String, String> = HashMap::new();
    for example in examples("held-out.jsonl") {
        let service = example.call.get("service").and_then(|name| name.as_str());
        let parts: Vec<&str> = match service {
            // Who says "infer" names it, like any other.
            Some(name) if OWN.contains(&name) => vec![name],
            Some(name) => std::iter::once(name).chain(name.split('-')).collect(),
            None => Vec::new(),
        };
        let words = words::split(&example.say);
        let normal = normal(&words, |place| parts.contains(&words[place].as_str()));
        held_out.insert(normal, example.say);
    }
    let mut made = HashSet::new();
    for _ in 0..MADE {
        let sentence = sentence::make(&grammar, &mut chance);
        let normal = normal(&sentence.words, |place| {
            matches!(sentence.labels[place], Label::Name | Label::Own(_))
        });
        if let Some(say) = held_out.get(&normal) {
            made.insert(say.clone());
        }
    }
    let mut made: Vec<_> = made.into_iter().collect();
    made.sort();
    assert!(made.is_empty(), "{} of them: {made:#?}", made.len());
}

#[test]
fn the_file_in_the_image_is_as_good_as_its_record_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../image/models/operator.gguf");
    let file = std::fs::File::open(path).unwrap();
    let length = file.metadata().unwrap().len();
    let header = gguf::File::read(std::io::BufReader::new(&file), length).unwrap();
    let operator = Operator::load(&header, &file).unwrap();
    let held_out = score(&operator, &examples("held-out.jsonl")).unwrap();
    let (all, right) = held_out.total();
    assert!(
        100.0 * right as f64 >= LEAST_EXACT * all as f64,
        "{}",
        held_out.show()
    );
    // Long, empty and foreign requests are none, and nothing worse.
    for say in [
        "",
        "   ",
        "?!",
        &"restart ".repeat(500),
        "\u{0}\u{fffd}",
        "перезагрузи",
        "再起動",
    ] {
        let call = operator.read(say).unwrap();
        assert!(
            !call.kind.changes() || call.service.is_some() || !say.is_ascii(),
            "{say:?}"
        );
    }
    assert_eq!(
        operator.read(&"restart ".repeat(500)).unwrap().kind,
        Kind::None
    );
}
