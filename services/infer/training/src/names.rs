//! What a grammar cannot list: names that a service could have, numbers, nonsense.

use crate::chance::Chance;

/// What is made anew each time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Special {
    /// A service's name in one word.
    Name,
    /// A service's name as people say it, in two or three.
    Words,
    /// A word of everyday life.
    Word,
    /// A number.
    Number,
    /// A time with its unit, such as `15m`.
    Span,
    /// What somebody looks for in a log.
    Search,
    /// No word at all.
    Gibberish,
}

impl Special {
    /// The one of that name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "name" => Special::Name,
            "words" => Special::Words,
            "word" => Special::Word,
            "number" => Special::Number,
            "span" => Special::Span,
            "search" => Special::Search,
            "gibberish" => Special::Gibberish,
            _ => return None,
        })
    }
}

/// What they are made of.
#[derive(Debug, Default)]
pub struct Names {
    nouns: Vec<String>,
    everyday: Vec<String>,
    searches: Vec<String>,
}

const BEGINNINGS: [&str; 40] = [
    "b", "br", "c", "ch", "cl", "d", "dr", "f", "fl", "fr", "g", "gl", "gr", "h", "j", "k", "kr",
    "l", "m", "n", "p", "ph", "pl", "pr", "qu", "r", "s", "sc", "sh", "sk", "sl", "sn", "st", "t",
    "th", "tr", "v", "w", "x", "z",
];
const MIDDLES: [&str; 14] = [
    "a", "e", "i", "o", "u", "ai", "ea", "ee", "ia", "io", "oo", "ou", "y", "eo",
];
const ENDS: [&str; 24] = [
    "", "", "", "", "b", "ck", "d", "f", "g", "k", "l", "ll", "m", "n", "nd", "ng", "p", "r", "rd",
    "s", "st", "t", "x", "z",
];
const TAILS: [&str; 26] = [
    "agent",
    "bot",
    "bridge",
    "cam",
    "collector",
    "ctl",
    "d",
    "daemon",
    "exporter",
    "gw",
    "hub",
    "io",
    "job",
    "kit",
    "logger",
    "mon",
    "node",
    "proxy",
    "relay",
    "server",
    "srv",
    "svc",
    "sync",
    "ui",
    "watch",
    "worker",
];

impl Names {
    /// Of the words that names, talk and logs are made of.
    #[must_use]
    pub fn new(nouns: Vec<String>, everyday: Vec<String>, searches: Vec<String>) -> Self {
        Names {
            nouns,
            everyday,
            searches,
        }
    }

    /// Makes one.
    pub fn make(&self, special: Special, chance: &mut Chance) -> String {
        match special {
            Special::Name => self.name(chance),
            Special::Words => self.words(chance),
            Special::Word => chance.pick(&self.everyday).clone(),
            Special::Number => number(chance).to_string(),
            Special::Span => span(chance),
            Special::Search => self.search(chance),
            Special::Gibberish => gibberish(chance),
        }
    }

    fn noun(&self, chance: &mut Chance) -> String {
        match chance.below(5) {
            0 | 1 => invented(chance),
            _ => chance.pick(&self.nouns).clone(),
        }
    }

    fn tail(&self, chance: &mut Chance) -> String {
        match chance.below(2) {
            0 => chance.text(&TAILS).to_owned(),
            _ => self.noun(chance),
        }
    }

    fn name(&self, chance: &mut Chance) -> String {
        let noun = self.noun(chance);
        match chance.below(20) {
            0..6 => noun,
            6..12 => format!("{noun}-{}", self.tail(chance)),
            12 | 13 => format!("{noun}{}", 1 + chance.below(20)),
            14 => format!("{noun}-{}", 1 + chance.below(20)),
            15 => format!("{noun}_{}", self.tail(chance)),
            16 => format!("{noun}-{}-{}", self.tail(chance), 1 + chance.below(9)),
            17 => format!("{noun}-{}-{}", self.noun(chance), self.tail(chance)),
            18 => noun + chance.text(&TAILS),
            _ => format!("{}{}-{noun}", chance.text(&BEGINNINGS), chance.below(100)),
        }
    }

    fn words(&self, chance: &mut Chance) -> String {
        let first = self.noun(chance);
        match chance.below(8) {
            0..3 => first,
            3 => format!("{first} {} {}", self.noun(chance), self.noun(chance)),
            4 => format!("{first} {}", 1 + chance.below(9)),
            _ => format!("{first} {}", self.tail(chance)),
        }
    }

    fn search(&self, chance: &mut Chance) -> String {
        match chance.below(8) {
            0 => invented(chance),
            1 => chance.pick(&self.everyday).clone(),
            2 => format!("{} {}", invented(chance), chance.pick(&self.everyday)),
            3 => number(chance).to_string(),
            _ => chance.pick(&self.searches).clone(),
        }
    }
}

/// A word that could be one.
fn invented(chance: &mut Chance) -> String {
    let syllables = 1 + chance.below(3);
    let mut word = String::new();
    for _ in 0..syllables {
        for part in [chance.text(&BEGINNINGS), chance.text(&MIDDLES)] {
            word.push_str(part);
        }
    }
    word + chance.text(&ENDS)
}

/// Keys that somebody has hit.
fn gibberish(chance: &mut Chance) -> String {
    let letters = 2 + chance.below(8);
    (0..letters)
        .map(|_| char::from(b'a' + chance.below(26) as u8))
        .collect()
}

/// As people ask for them: small, or round.
fn number(chance: &mut Chance) -> usize {
    match chance.below(6) {
        0 | 1 => 1 + chance.below(12),
        2 => 5 * (1 + chance.below(20)),
        3 => 10 * (1 + chance.below(20)),
        4 => 50 * (1 + chance.below(20)),
        _ => 2 + chance.below(120),
    }
}

fn span(chance: &mut Chance) -> String {
    let unit = chance.text(&[
        "m", "m", "min", "mins", "h", "h", "hr", "hrs", "hours", "d", "days", "s", "w",
    ]);
    let number = match unit {
        "d" | "days" | "w" => 1 + chance.below(14),
        "h" | "hr" | "hrs" | "hours" => 1 + chance.below(48),
        _ => *chance.pick(&[1, 2, 3, 5, 10, 15, 20, 30, 45, 60, 90]),
    };
    format!("{number}{unit}")
}
