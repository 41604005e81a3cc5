//! Regular expressions of schemas, as automata over characters.
//!
//! ECMA-262's syntax as far as it is regular: no look-around, no back-references, no word
//! boundaries; these are refused by name. As JSON Schema has it, a pattern without `^` and `$` may
//! stand anywhere in the text.

use regex_syntax::ParserBuilder;
use regex_syntax::hir::{Class, Hir, HirKind, Look};

use super::automaton::{Graph, Machine, TooLarge, When};

/// Longest pattern in bytes.
const MAX_LENGTH: usize = 4096;
/// Deepest nesting: every level is a call.
const MAX_NESTING: u32 = 100;

/// Characters are all scalar values.
const ALL: [(u32, u32); 2] = [(0, 0xD7FF), (0xE000, 0x10_FFFF)];

/// The automaton of a pattern, or why there is none.
pub(super) fn read(pattern: &str) -> Result<Machine, String> {
    if pattern.len() > MAX_LENGTH {
        let found = pattern.len();
        return Err(format!("has {found} bytes, allowed: at most {MAX_LENGTH}"));
    }
    let hir = ParserBuilder::new()
        .nest_limit(MAX_NESTING)
        .build()
        .parse(&in_rust(pattern))
        .map_err(|error| match error {
            regex_syntax::Error::Parse(error) => error.kind().to_string(),
            regex_syntax::Error::Translate(error) => error.kind().to_string(),
            other => other.to_string(),
        })?;
    let mut graph = Graph::new();
    let too_large = |TooLarge| format!("needs more than {} states", super::automaton::MAX_STATES);
    let (start, end) = (Graph::START, Graph::END);
    let mut anywhere = || -> Result<u32, TooLarge> {
        let state = graph.state()?;
        for (low, high) in ALL {
            graph.edge(state, low, high, state);
        }
        Ok(state)
    };
    let before = anywhere().map_err(too_large)?;
    let after = anywhere().map_err(too_large)?;
    graph.free(start, When::Always, before);
    graph.free(after, When::Always, end);
    add(&mut graph, &hir, before, after)?;
    graph.resolve().map_err(too_large)
}

/// Adds what `hir` matches between two states.
fn add(graph: &mut Graph, hir: &Hir, from: u32, to: u32) -> Result<(), String> {
    let too_large = |TooLarge| format!("needs more than {} states", super::automaton::MAX_STATES);
    match hir.kind() {
        HirKind::Empty => graph.free(from, When::Always, to),
        HirKind::Literal(literal) => {
            let text = str::from_utf8(&literal.0).map_err(|_| "matches bytes".to_owned())?;
            let mut state = from;
            for character in text.chars() {
                let next = graph.state().map_err(too_large)?;
                graph.edge(state, character.into(), character.into(), next);
                state = next;
            }
            graph.free(state, When::Always, to);
        }
        HirKind::Class(Class::Unicode(class)) => {
            for range in class.ranges() {
                graph.edge(from, range.start().into(), range.end().into(), to);
            }
        }
        HirKind::Class(Class::Bytes(_)) => return Err("matches bytes".to_owned()),
        HirKind::Look(Look::Start) => graph.free(from, When::AtStart, to),
        HirKind::Look(Look::End) => graph.free(from, When::AtEnd, to),
        HirKind::Look(look) => {
            return Err(format!("has an assertion ({look:?}) other than ^ and $"));
        }
        HirKind::Capture(capture) => add(graph, &capture.sub, from, to)?,
        HirKind::Concat(parts) => {
            let mut state = from;
            for part in parts {
                let next = graph.state().map_err(too_large)?;
                add(graph, part, state, next)?;
                state = next;
            }
            graph.free(state, When::Always, to);
        }
        HirKind::Alternation(parts) => {
            for part in parts {
                add(graph, part, from, to)?;
            }
        }
        HirKind::Repetition(repetition) => {
            let mut state = from;
            let step = |graph: &mut Graph, state| -> Result<u32, String> {
                let next = graph.state().map_err(too_large)?;
                add(graph, &repetition.sub, state, next)?;
                Ok(next)
            };
            for _ in 0..repetition.min {
                state = step(graph, state)?;
            }
            match repetition.max {
                None => {
                    // A state of its own: nothing that enters here may leave by the loop's edges.
                    let around = graph.state().map_err(too_large)?;
                    graph.free(state, When::Always, around);
                    let back = step(graph, around)?;
                    graph.free(back, When::Always, around);
                    state = around;
                }
                Some(max) => {
                    for _ in repetition.min..max {
                        graph.free(state, When::Always, to);
                        state = step(graph, state)?;
                    }
                }
            }
            graph.free(state, When::Always, to);
        }
    }
    Ok(())
}

/// What ECMA-262 means otherwise than the parser, in the parser's words. Where the two cannot be
/// made equal, less is matched, never more.
fn in_rust(pattern: &str) -> String {
    let mut text = String::with_capacity(pattern.len());
    let mut characters = pattern.chars();
    let mut in_class = false;
    while let Some(character) = characters.next() {
        match (character, in_class) {
            ('\\', _) => match (characters.next(), in_class) {
                (Some('d'), _) => text.push_str("[0-9]"),
                (Some('D'), _) => text.push_str("[^0-9]"),
                (Some('w'), _) => text.push_str("[0-9A-Za-z_]"),
                (Some('W'), _) => text.push_str("[^0-9A-Za-z_]"),
                (Some('s'), false) => text.push_str(r"[\t\n\r ]"),
                (Some('s'), true) => text.push_str(r"\s\x{FEFF}"),
                (Some('S'), _) => text.push_str(r"[^\s\x{FEFF}]"),
                (Some('/'), _) => text.push('/'),
                (Some(other), _) => text.extend(['\\', other]),
                (None, _) => text.push('\\'),
            },
            ('.', false) => text.push_str(r"[^\n\r\x{2028}\x{2029}]"),
            // Within a class the parser would read these as the beginning of another, or as an
            // operation on classes.
            ('[' | '&' | '~', true) => text.extend(['\\', character]),
            ('[', false) => {
                in_class = true;
                text.push('[');
            }
            (']', true) => {
                in_class = false;
                text.push(']');
            }
            (other, _) => text.push(other),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, text: &str) -> bool {
        let machine = read(pattern).unwrap();
        machine.accepts(text.chars().map(u32::from))
    }

    #[test]
    fn patterns_match_what_they_should() {
        for (pattern, yes, no) in [
            ("^a+$", "aaa", "aab"),
            ("b", "abc", "acc"),
            ("^b", "bcc", "abc"),
            ("b$", "acb", "bca"),
            ("^(a|bc){2,3}$", "abca", "a"),
            (r"^\d{3}-[\w.-]+$", "123-a.b", "12a-b"),
            ("^[^\"\\\\]*$", "plain", "qu\"ote"),
            (r"^\p{Lu}.$", "Éx", "éx"),
            ("^(a?b)*$", "babab", "aab"),
            ("^[[&]$", "[", "a"),
        ] {
            assert!(matches(pattern, yes), "{pattern} {yes}");
            assert!(!matches(pattern, no), "{pattern} {no}");
        }
        assert!(matches("", "anything"));
    }

    #[test]
    fn what_is_not_regular_is_refused() {
        for (pattern, word) in [
            ("(?=a)b", "look-around"),
            (r"(a)\1", "backreference"),
            (r"\bword\b", "assertion"),
            ("(", "unclosed"),
            ("((a{100}){100}){100}", "states"),
        ] {
            let error = read(pattern).unwrap_err();
            assert!(error.contains(word), "{pattern}: {error}");
        }
    }
}
