//! Requests as people type them: what the grammar says, with courtesy, haste and slips around it.

use kos_infer::operator::call::Kind;
use kos_infer::operator::labels::Label;
use kos_infer::operator::words::{self, MAX_WORDS};

use crate::chance::Chance;
use crate::grammar::{Chunk, Grammar};

/// How often each kind is asked for. None is many things; logs have many arguments.
const SHARES: [(Kind, usize); 25] = [
    (Kind::None, 260),
    (Kind::Services, 60),
    (Kind::Service, 100),
    (Kind::Manifest, 40),
    (Kind::Logs, 170),
    (Kind::Memory, 30),
    (Kind::Disk, 30),
    (Kind::Uptime, 25),
    (Kind::Network, 40),
    (Kind::Version, 25),
    (Kind::System, 40),
    (Kind::Boots, 40),
    (Kind::Models, 35),
    (Kind::Loaded, 25),
    (Kind::Sessions, 25),
    (Kind::Start, 45),
    (Kind::Stop, 45),
    (Kind::Restart, 55),
    (Kind::Freeze, 30),
    (Kind::Thaw, 30),
    (Kind::Quarantine, 30),
    (Kind::Release, 30),
    (Kind::Reload, 25),
    (Kind::Reboot, 30),
    (Kind::Poweroff, 30),
];

/// Words that a hasty person leaves out without loss.
const SMALL: [&str; 32] = [
    "the", "a", "an", "of", "is", "are", "to", "in", "on", "for", "my", "do", "does", "did", "it",
    "me", "please", "you", "i", "there", "from", "with", "was", "has", "have", "at", "by", "so",
    "that", "be", ",", "our",
];

/// A request and what it means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sentence {
    /// Its words.
    pub words: Vec<String>,
    /// What each is for.
    pub labels: Vec<Label>,
    /// Which call it asks for.
    pub kind: Kind,
}

/// A request of any kind.
pub fn make(grammar: &Grammar, chance: &mut Chance) -> Sentence {
    let total = SHARES.iter().map(|(_, share)| share).sum();
    let mut place = chance.below(total);
    let mut kind = Kind::None;
    for (of, share) in SHARES {
        if place < share {
            kind = of;
            break;
        }
        place -= share;
    }
    of_kind(kind, grammar, chance)
}

/// A request of that kind.
pub fn of_kind(kind: Kind, grammar: &Grammar, chance: &mut Chance) -> Sentence {
    let mut chunks = surrounded(grammar.ask(kind, chance), grammar, chance);
    hurried(&mut chunks, chance);
    let mut words = Vec::new();
    let mut labels = Vec::new();
    for (chunk, label) in chunks {
        // The rest of an owner; as a request's chunk of its own it would be a mark and a letter.
        let parts = match chunk.as_str() {
            "'s" => vec![chunk],
            _ => words::split(&chunk),
        };
        labels.extend(parts.iter().map(|_| label));
        words.extend(parts);
    }
    words.truncate(MAX_WORDS);
    labels.truncate(MAX_WORDS);
    if kind == Kind::None {
        // There is nothing to fill in; a name that must not be acted on is no argument.
        labels.fill(Label::Plain);
    }
    Sentence {
        words,
        labels,
        kind,
    }
}

fn surrounded(body: Vec<Chunk>, grammar: &Grammar, chance: &mut Chance) -> Vec<Chunk> {
    let plain = |text: &str| vec![(text.to_owned(), Label::Plain)];
    let mut chunks = Vec::new();
    if chance.happens(0.1) {
        chunks.extend(grammar.line("preamble", chance));
        let between = chance.text(&[",", ",", ".", "and", "so", "", "-", ":", "?", "but", "..."]);
        chunks.extend(plain(between));
    }
    if chance.happens(0.3) {
        let list = if chance.happens(0.3) {
            "please"
        } else {
            "can-you"
        };
        chunks.extend(grammar.line(list, chance));
    }
    chunks.extend(body);
    if chance.happens(0.2) {
        if chance.happens(0.2) {
            chunks.extend(plain(","));
        }
        chunks.extend(grammar.line("thanks", chance));
    }
    if chance.happens(0.04) {
        chunks.extend(plain(
            chance.text(&[",", ".", "because", "since", "-", "as"]),
        ));
        chunks.extend(grammar.line("preamble", chance));
    }
    if chance.happens(0.25) {
        chunks.extend(plain(chance.text(&["?", "?", ".", "!"])));
    }
    chunks.retain(|(chunk, _)| !chunk.is_empty());
    chunks
}

/// What haste makes of a request. What is copied stays as it is.
fn hurried(chunks: &mut Vec<Chunk>, chance: &mut Chance) {
    if chance.happens(0.25) {
        for _ in 0..=chance.below(2) {
            let small: Vec<usize> = (0..chunks.len())
                .filter(|&at| {
                    chunks[at].1 == Label::Plain && SMALL.contains(&chunks[at].0.as_str())
                })
                .collect();
            if small.is_empty() || chunks.len() < 3 {
                break;
            }
            chunks.remove(*chance.pick(&small));
        }
    }
    for (chunk, _) in chunks.iter_mut() {
        let short = match chunk.as_str() {
            "you" if chance.happens(0.05) => Some("u"),
            "are" if chance.happens(0.04) => Some("r"),
            "your" if chance.happens(0.04) => Some("ur"),
            "please" if chance.happens(0.1) => Some("pls"),
            "the" if chance.happens(0.02) => Some("teh"),
            _ => None,
        };
        if let Some(short) = short {
            *chunk = short.to_owned();
        } else if chunk.len() > 3 && chunk.contains('\'') && chance.happens(0.35) {
            chunk.retain(|letter| letter != '\'');
        }
    }
    if chance.happens(0.22) {
        for _ in 0..=chance.below(2) {
            let long: Vec<usize> = (0..chunks.len())
                .filter(|&at| may_slip(&chunks[at]))
                .collect();
            if long.is_empty() {
                break;
            }
            let at = *chance.pick(&long);
            chunks[at].0 = slip(&chunks[at].0, chance);
        }
    }
}

fn may_slip((chunk, label): &Chunk) -> bool {
    let copied = matches!(
        label,
        Label::Name | Label::Search | Label::Amount | Label::Unit | Label::Limit
    );
    !copied && chunk.len() >= 4 && chunk.bytes().all(|byte| byte.is_ascii_lowercase())
}

/// A word as a quick finger types it.
fn slip(word: &str, chance: &mut Chance) -> String {
    const NEAR: [&str; 26] = [
        "sqzw", "vnhg", "xvdf", "sfecx", "wrd", "dgrcv", "fhtvb", "gjybn", "uok", "hkunm", "jlim",
        "kop", "njk", "bmhj", "ipl", "ol", "wa", "etdf", "adwzx", "ryfg", "yij", "cbfg", "qesa",
        "zcsd", "tugh", "xas",
    ];
    let mut letters: Vec<u8> = word.bytes().collect();
    let at = chance.below(letters.len() - 1);
    match chance.below(5) {
        0 => letters.swap(at, at + 1),
        1 => {
            letters.remove(at + usize::from(at == 0));
        }
        2 => letters.insert(at, letters[at]),
        3 => {
            let near = NEAR[usize::from(letters[at] - b'a')].as_bytes();
            letters[at] = *chance.pick(near);
        }
        _ => letters.swap(at, at + 1),
    }
    letters.into_iter().map(char::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_says_the_same() {
        let grammar = Grammar::read().unwrap();
        let say = |seed| {
            let mut chance = Chance::new(seed);
            (0..200)
                .map(|_| make(&grammar, &mut chance))
                .collect::<Vec<_>>()
        };
        assert_eq!(say(7), say(7));
        assert_ne!(say(7), say(8));
    }

    #[test]
    fn what_is_said_is_what_would_be_read() {
        let grammar = Grammar::read().unwrap();
        let mut chance = Chance::new(3);
        let mut kinds = std::collections::HashSet::new();
        for _ in 0..20_000 {
            let sentence = make(&grammar, &mut chance);
            assert_eq!(sentence.words.len(), sentence.labels.len());
            assert!(!sentence.words.is_empty());
            kinds.insert(sentence.kind);
            for word in sentence.words.iter().filter(|word| *word != "'s") {
                assert_eq!(words::split(word), [word.as_str()], "{sentence:?}");
            }
        }
        assert_eq!(kinds.len(), Kind::ALL.len());
    }
}
