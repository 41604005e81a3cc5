//! Ends an answer where a stop text begins, and holds back what may become one.

/// Watches an answer for stop texts.
pub(super) struct Stops {
    texts: Vec<String>,
    held: String,
}

impl Stops {
    pub(super) fn new(texts: Vec<String>) -> Self {
        Self {
            texts,
            held: String::new(),
        }
    }

    /// Takes a piece; returns what is surely part of the answer, and whether it ends here.
    pub(super) fn push(&mut self, piece: &str) -> (String, bool) {
        self.held.push_str(piece);
        let found = self
            .texts
            .iter()
            .filter_map(|stop| self.held.find(stop))
            .min();
        if let Some(place) = found {
            self.held.truncate(place);
            return (std::mem::take(&mut self.held), true);
        }
        let keep = self
            .texts
            .iter()
            .map(|stop| overlap(&self.held, stop))
            .max()
            .unwrap_or(0);
        let sure = self.held.len() - keep;
        let rest = self.held.split_off(sure);
        (std::mem::replace(&mut self.held, rest), false)
    }

    /// What was held back and became no stop text.
    pub(super) fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }
}

/// Length of the longest end of `text` that `stop` begins with.
fn overlap(text: &str, stop: &str) -> usize {
    let lengths = stop.char_indices().skip(1).map(|(place, _)| place);
    lengths
        .filter(|&length| text.ends_with(&stop[..length]))
        .max()
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(stops: &[&str], pieces: &[&str]) -> (Vec<String>, bool) {
        let mut watch = Stops::new(stops.iter().map(|&stop| stop.to_owned()).collect());
        let mut out = Vec::new();
        for piece in pieces {
            let (text, ended) = watch.push(piece);
            out.push(text);
            if ended {
                return (out, true);
            }
        }
        out.push(watch.finish());
        (out, false)
    }

    #[test]
    fn a_stop_across_pieces_is_never_shown() {
        let (out, ended) = run(&["\n\nQ:"], &["yes\n", "\nQ", ": no"]);
        assert_eq!((out.concat().as_str(), ended), ("yes", true));
    }

    #[test]
    fn what_is_no_stop_comes_out_late_but_whole() {
        let (out, ended) = run(&["END"], &["a E", "N", "d EN"]);
        assert_eq!(out, ["a ", "", "ENd ", "EN"]);
        assert!(!ended);
    }

    #[test]
    fn the_first_stop_wins_and_letters_stay_whole() {
        assert_eq!(run(&["b", "a"], &["xaby"]), (vec!["x".to_owned()], true));
        let (out, ended) = run(&["€€"], &["1€", "2"]);
        assert_eq!((out.concat().as_str(), ended), ("1€2", false));
    }
}
