//! Joins neighbours, the best pair first, until no pair is left that may be joined.
//! Takes n log n steps, so that a long word is not a way to keep the engine busy.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

/// A part of a text, and the token that it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Symbol {
    /// Its token, or a number that is none.
    pub token: u32,
    /// Where it begins, in bytes.
    pub start: usize,
    /// Where it ends.
    pub end: usize,
}

/// A pair that may be joined: the better one first, then the left one.
struct Candidate {
    priority: f64,
    left: usize,
    right: usize,
    /// Where the two met and where they ended when the candidate was found.
    middle: usize,
    end: usize,
    joined: u32,
}

impl Ord for Candidate {
    fn cmp(&self, other: &Self) -> Ordering {
        self.priority
            .total_cmp(&other.priority)
            .then(other.left.cmp(&self.left))
    }
}

impl PartialOrd for Candidate {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Candidate {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Candidate {}

/// A symbol in a chain. One that has been joined to its left neighbour is empty.
struct Link {
    symbol: Symbol,
    previous: Option<usize>,
    next: Option<usize>,
}

impl Link {
    fn gone(&self) -> bool {
        self.symbol.start == self.symbol.end
    }
}

/// Joins `symbols`, none of which is empty, and which follow each other without a gap. `join` says
/// what two neighbours become, and how good that is.
pub(super) fn merge(
    symbols: impl Iterator<Item = Symbol>,
    join: impl Fn(&Symbol, &Symbol) -> Option<(f64, u32)>,
) -> impl Iterator<Item = Symbol> {
    let mut links: Vec<Link> = symbols
        .enumerate()
        .map(|(place, symbol)| Link {
            symbol,
            previous: place.checked_sub(1),
            next: Some(place + 1),
        })
        .collect();
    if let Some(last) = links.last_mut() {
        last.next = None;
    }
    let candidate = |links: &[Link], left: usize, right: usize| {
        let (first, second) = (&links[left].symbol, &links[right].symbol);
        let (priority, joined) = join(first, second)?;
        Some(Candidate {
            priority,
            left,
            right,
            middle: first.end,
            end: second.end,
            joined,
        })
    };
    let mut candidates: BinaryHeap<_> = (1..links.len())
        .filter_map(|right| candidate(&links, right - 1, right))
        .collect();
    while let Some(best) = candidates.pop() {
        let (left, right) = (best.left, best.right);
        // Either side may have become something else since.
        if links[left].gone()
            || links[right].gone()
            || links[left].symbol.end != best.middle
            || links[right].symbol.end != best.end
        {
            continue;
        }
        links[left].symbol.token = best.joined;
        links[left].symbol.end = best.end;
        links[right].symbol.start = best.end;
        let after = links[right].next;
        links[left].next = after;
        if let Some(after) = after {
            links[after].previous = Some(left);
            candidates.extend(candidate(&links, left, after));
        }
        if let Some(before) = links[left].previous {
            candidates.extend(candidate(&links, before, left));
        }
    }
    links
        .into_iter()
        .filter(|link| !link.gone())
        .map(|link| link.symbol)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 1+1=2 is best, then 2+2=3; ties go left.
    fn join(left: &Symbol, right: &Symbol) -> Option<(f64, u32)> {
        match (left.token, right.token) {
            (1, 1) => Some((10.0, 2)),
            (2, 2) => Some((5.0, 3)),
            (2, 1) => Some((1.0, 9)),
            _ => None,
        }
    }

    fn merged(tokens: impl IntoIterator<Item = u32>) -> Vec<u32> {
        let symbols = tokens.into_iter().enumerate().map(|(place, token)| Symbol {
            token,
            start: place,
            end: place + 1,
        });
        merge(symbols, join).map(|symbol| symbol.token).collect()
    }

    #[test]
    fn joins_best_first_and_left_first() {
        assert_eq!(merged([1, 1, 1]), [9]);
        assert_eq!(merged([1, 1, 1, 1]), [3]);
        assert_eq!(merged([7, 1, 1, 7]), [7, 2, 7]);
        assert!(merged([]).is_empty());
    }

    #[test]
    fn a_long_word_is_no_trouble() {
        assert_eq!(merged(std::iter::repeat_n(1, 400_000)), vec![3; 100_000]);
    }
}
