//! Guesses of what comes next, from what was there before: where an answer repeats its prompt (a
//! summary, an edit), several tokens are checked in the time of one.

/// Tokens that must repeat before a guess is made.
const SAME: usize = 3;
/// Tokens guessed at most: with the one before them they fill whole tiles of the matrix products.
pub(super) const MOST: usize = 7;

/// How long guesses are, by how well the last ones went.
#[derive(Debug)]
pub struct Lookup {
    length: usize,
}

impl Default for Lookup {
    /// As if all guesses had been right so far.
    fn default() -> Self {
        Self { length: MOST }
    }
}

impl Lookup {
    /// What followed the last place where the last few tokens stood, `most` tokens at most.
    #[must_use]
    pub fn guess<'a>(&self, tokens: &'a [u32], most: usize) -> &'a [u32] {
        let Some(start) = tokens.len().checked_sub(SAME) else {
            return &[];
        };
        let (before, last) = tokens.split_at(start);
        let places = before.windows(SAME).rposition(|window| window == last);
        let Some(place) = places else { return &[] };
        let from = place + SAME;
        let length = self.length.min(most).min(tokens.len() - from);
        &tokens[from..from + length]
    }

    /// Learns how many of how many guessed tokens were right.
    pub fn learn(&mut self, right: usize, guessed: usize) {
        if right == guessed && guessed > 0 {
            self.length = (self.length * 2).min(MOST);
        } else if guessed > 0 {
            self.length = (right + 1).min(MOST);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_followed_is_guessed() {
        let lookup = Lookup::default();
        assert_eq!(
            lookup.guess(&[1, 2, 3, 4, 5, 9, 1, 2, 3], 8),
            [4, 5, 9, 1, 2, 3]
        );
        assert_eq!(lookup.guess(&[1, 2, 3, 4, 5, 9, 1, 2, 3], 2), [4, 5]);
        assert!(lookup.guess(&[1, 2, 3, 4], 8).is_empty());
        assert!(lookup.guess(&[1, 2], 8).is_empty());
        assert_eq!(lookup.guess(&[7, 7, 7, 7, 7, 7], 8), [7, 7, 7]);
    }

    #[test]
    fn wrong_guesses_become_short() {
        let mut lookup = Lookup::default();
        lookup.learn(0, 8);
        let tokens = [1, 2, 3, 4, 5, 6, 1, 2, 3];
        assert_eq!(lookup.guess(&tokens, 8), [4]);
        lookup.learn(1, 1);
        assert_eq!(lookup.guess(&tokens, 8), [4, 5]);
    }
}
