//! What is wrong with a manifest, taken apart: PID 1 says it in one line that begins with the place.

use serde::Serialize;

/// `agent.toml:12:1: restart.policy: found …, allowed: …` by its parts; what is not said is `None`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ManifestProblem {
    /// The file.
    pub file: Option<String>,
    /// The line, from 1.
    pub line: Option<usize>,
    /// The column, from 1.
    pub column: Option<usize>,
    /// The key, dotted.
    pub key: Option<String>,
    /// What was found and what is allowed.
    pub problem: String,
}

impl ManifestProblem {
    /// Takes PID 1's words apart.
    pub fn of(words: &str) -> Self {
        let whole = || ManifestProblem {
            problem: words.to_owned(),
            ..ManifestProblem::default()
        };
        let Some((place, rest)) = words.split_once(": ") else {
            return whole();
        };
        let mut parts = place.split(':');
        let file = parts.next().unwrap_or_default();
        if file.is_empty() || file.contains(' ') {
            return whole();
        }
        let mut number = || parts.next().and_then(|text| text.parse().ok());
        let (line, column) = (number(), number());
        // A key is one word; a sentence is none.
        let (key, problem) = match rest.split_once(": ") {
            Some((key, problem)) if !key.contains(' ') => (Some(key.to_owned()), problem),
            _ => (None, rest),
        };
        ManifestProblem {
            file: Some(file.to_owned()),
            line,
            column,
            key,
            problem: problem.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_taken_apart() {
        let problem = ManifestProblem::of(
            "agent.toml:12:3: restart.policy: found 'maybe', allowed: always, never",
        );
        assert_eq!(problem.file.as_deref(), Some("agent.toml"));
        assert_eq!((problem.line, problem.column), (Some(12), Some(3)));
        assert_eq!(problem.key.as_deref(), Some("restart.policy"));
        assert_eq!(problem.problem, "found 'maybe', allowed: always, never");
        let problem = ManifestProblem::of("agent.toml: the order runs: in a circle");
        assert_eq!((problem.line, problem.key.as_deref()), (None, None));
        assert_eq!(problem.problem, "the order runs: in a circle");
        let problem = ManifestProblem::of("nothing like a place: at all");
        assert_eq!(problem.file, None);
        assert_eq!(problem.problem, "nothing like a place: at all");
    }
}
