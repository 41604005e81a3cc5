//! Which requests written by hand the grammar can make: those judge memory and not understanding, and
//! belong in the plain set.

use std::collections::{BTreeSet, HashMap};

use kos_infer::operator::labels::{Label, OWN};
use kos_infer::operator::words;

use crate::chance::Chance;
use crate::grammar::Grammar;
use crate::score::Example;
use crate::sentence;

/// Where chance begins: the test's requests are the first of those by which the sets were parted.
pub const SEED: u64 = 20_261_128;

/// The places of those among `examples` that are one of `count` requests of the grammar, when names
/// are masked, and marks, "please" and "the" left out.
#[must_use]
pub fn made(grammar: &Grammar, examples: &[Example], count: usize) -> BTreeSet<usize> {
    let mut places: HashMap<String, Vec<usize>> = HashMap::new();
    for (place, example) in examples.iter().enumerate() {
        places
            .entry(normal_of_example(example))
            .or_default()
            .push(place);
    }
    let mut chance = Chance::new(SEED);
    let mut made = BTreeSet::new();
    for _ in 0..count {
        let sentence = sentence::make(grammar, &mut chance);
        let normal = normal(&sentence.words, |place| {
            matches!(sentence.labels[place], Label::Name | Label::Own(_))
        });
        made.extend(places.get(&normal).into_iter().flatten());
    }
    made
}

fn normal_of_example(example: &Example) -> String {
    let service = example.call.get("service").and_then(|name| name.as_str());
    let parts: Vec<&str> = match service {
        // Who says "infer" names it, like any other.
        Some(name) if OWN.contains(&name) => vec![name],
        Some(name) => std::iter::once(name).chain(name.split('-')).collect(),
        None => Vec::new(),
    };
    let words = words::split(&example.say);
    normal(&words, |place| parts.contains(&words[place].as_str()))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn courtesy_and_names_make_no_difference() {
        let example = |say: &str, service: Option<&str>| {
            let mut call = serde_json::Map::new();
            call.insert("call".to_owned(), "restart".into());
            if let Some(service) = service {
                call.insert("service".to_owned(), service.into());
            }
            Example {
                say: say.to_owned(),
                call,
            }
        };
        let one = normal_of_example(&example("please restart the door cam!", Some("door-cam")));
        assert_eq!(one, "restart _");
        let other = normal_of_example(&example("restart infer", Some("infer")));
        assert_eq!(one, other);
        assert_ne!(one, normal_of_example(&example("restart it", None)));
    }

    #[test]
    fn what_every_grammar_makes_is_found() {
        let grammar = Grammar::read().unwrap();
        let example = |say: &str| Example {
            say: say.to_owned(),
            call: serde_json::Map::from_iter([("call".to_owned(), "uptime".into())]),
        };
        let examples = [example("uptime"), example("xyzzy of the seven plughs")];
        assert_eq!(made(&grammar, &examples, 20_000), BTreeSet::from([0]));
    }
}
