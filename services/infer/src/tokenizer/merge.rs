//! Joins neighbours, the best pair first, until no pair is left that may be joined.
//! Takes n log n steps, so that a long word is not a way to keep the engine busy.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

/// A pair that may be joined: the better one first, then the left one.
struct Candidate {
    priority: f64,
    left: usize,
    right: usize,
    /// What the two were when the candidate was found.
    tokens: (u32, u32),
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

/// A symbol in a chain; `None` once it has been joined to its left neighbour.
struct Link {
    token: Option<u32>,
    previous: Option<usize>,
    next: Option<usize>,
}

/// Joins `symbols`. `join` says what two neighbours become, and how good that is.
pub(super) fn merge(
    symbols: impl Iterator<Item = u32>,
    join: impl Fn(u32, u32) -> Option<(f64, u32)>,
) -> Vec<u32> {
    let mut links: Vec<Link> = symbols
        .enumerate()
        .map(|(place, token)| Link {
            token: Some(token),
            previous: place.checked_sub(1),
            next: Some(place + 1),
        })
        .collect();
    if let Some(last) = links.last_mut() {
        last.next = None;
    }
    let candidate = |links: &[Link], left: usize, right: usize| {
        let tokens = (links[left].token?, links[right].token?);
        let (priority, joined) = join(tokens.0, tokens.1)?;
        Some(Candidate {
            priority,
            left,
            right,
            tokens,
            joined,
        })
    };
    let mut candidates: BinaryHeap<_> = (1..links.len())
        .filter_map(|right| candidate(&links, right - 1, right))
        .collect();
    while let Some(best) = candidates.pop() {
        let (left, right) = (best.left, best.right);
        // Either side may have become something else since.
        if (links[left].token, links[right].token) != (Some(best.tokens.0), Some(best.tokens.1))
            || links[left].next != Some(right)
        {
            continue;
        }
        links[left].token = Some(best.joined);
        links[right].token = None;
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
    links.into_iter().filter_map(|link| link.token).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 1+1=2 is best, then 2+2=3; ties go left.
    fn join(left: u32, right: u32) -> Option<(f64, u32)> {
        match (left, right) {
            (1, 1) => Some((10.0, 2)),
            (2, 2) => Some((5.0, 3)),
            (2, 1) => Some((1.0, 9)),
            _ => None,
        }
    }

    #[test]
    fn joins_best_first_and_left_first() {
        assert_eq!(merge([1, 1, 1].into_iter(), join), [9]);
        assert_eq!(merge([1, 1, 1, 1].into_iter(), join), [3]);
        assert_eq!(merge([7, 1, 1, 7].into_iter(), join), [7, 2, 7]);
        assert!(merge(std::iter::empty(), join).is_empty());
    }

    #[test]
    fn a_long_word_is_no_trouble() {
        let joined = merge(std::iter::repeat_n(1, 400_000), join);
        assert_eq!(joined, vec![3; 100_000]);
    }
}
