//! What the words of a request can be: each has one label, and labelled words are arguments.

/// What a word is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Label {
    /// No argument.
    Plain,
    /// A part of a service's name, to be copied.
    Name,
    /// Means a service that the box itself runs, however it is called: `infer`, `api`, `net`,
    /// `kernel`, `init`, by number.
    Own(u8),
    /// Means a level of the log, as syslog counts.
    Level(u8),
    /// How many of a unit of time.
    Amount,
    /// The unit.
    Unit,
    /// Means a day or a part of it, by number in [`DAYS`].
    Day(u8),
    /// How many lines.
    Limit,
    /// A part of a text to look for.
    Search,
}

/// Services of the box itself that requests name in many ways.
pub const OWN: [&str; 5] = ["infer", "api", "net", "kernel", "init"];
/// Of those, the ones that are services; the others only write to the log.
pub const OWN_SERVICES: u8 = 3;
/// Times that only a clock can tell.
pub const DAYS: [&str; 4] = ["today", "yesterday", "last-night", "this-morning"];

/// Every label by number: the order is a part of the file's format.
pub const LABELS: [Label; 21] = [
    Label::Plain,
    Label::Name,
    Label::Own(0),
    Label::Own(1),
    Label::Own(2),
    Label::Own(3),
    Label::Own(4),
    Label::Level(2),
    Label::Level(3),
    Label::Level(4),
    Label::Level(5),
    Label::Level(6),
    Label::Level(7),
    Label::Amount,
    Label::Unit,
    Label::Day(0),
    Label::Day(1),
    Label::Day(2),
    Label::Day(3),
    Label::Limit,
    Label::Search,
];

impl Label {
    /// Its number.
    #[must_use]
    pub fn number(self) -> usize {
        LABELS
            .iter()
            .position(|&label| label == self)
            .expect("every label that is made stands in the list")
    }
}
