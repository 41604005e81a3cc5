//! How well requests that were written by hand are understood.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use kos_infer::operator::Operator;
use serde_json::{Map, Value};

/// A request and the call that it means.
#[derive(Debug, Clone)]
pub struct Example {
    /// What is asked.
    pub say: String,
    /// The call's name and arguments.
    pub call: Map<String, Value>,
}

impl Example {
    /// The kind of call.
    #[must_use]
    pub fn kind(&self) -> &str {
        self.call
            .get("call")
            .and_then(Value::as_str)
            .unwrap_or_default()
    }
}

/// Reads a file of them, one JSON object a line.
///
/// # Errors
/// When it cannot be read, or a line is none.
pub fn read(path: &Path) -> Result<Vec<Example>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    text.lines()
        .enumerate()
        .map(|(index, line)| {
            let at = || format!("{} line {}", path.display(), index + 1);
            let mut call: Map<String, Value> = serde_json::from_str(line).with_context(at)?;
            let say = call.remove("say");
            let say = say.as_ref().and_then(Value::as_str).map(str::to_owned);
            let say = say.with_context(at)?;
            ensure!(call.contains_key("call"), "{}: has no 'call'", at());
            Ok(Example { say, call })
        })
        .collect()
}

/// What came out of a set.
#[derive(Debug, Default)]
pub struct Score {
    /// Requests and calls that were exactly right, by kind.
    pub kinds: BTreeMap<String, (usize, usize)>,
    /// Requests whose kind was right, whatever the arguments.
    pub right_kind: usize,
    /// What was wrong: the request, what it means, what came out.
    pub wrong: Vec<(String, String, String)>,
    /// Requests that are no call and became one that changes something: the worst that can happen.
    pub dangerous: usize,
}

impl Score {
    /// Requests in all, and those exactly right.
    #[must_use]
    pub fn total(&self) -> (usize, usize) {
        self.kinds
            .values()
            .fold((0, 0), |sum, kind| (sum.0 + kind.0, sum.1 + kind.1))
    }

    /// `94.2 % (412 of 437)`.
    #[must_use]
    pub fn show(&self) -> String {
        let (all, right) = self.total();
        #[expect(clippy::cast_precision_loss)]
        let share = 100.0 * right as f64 / all.max(1) as f64;
        format!("{share:.1} % ({right} of {all})")
    }
}

/// Asks a model everything.
///
/// # Errors
/// When the model cannot compute.
pub fn score(operator: &Operator, examples: &[Example]) -> Result<Score> {
    let mut score = Score::default();
    for example in examples {
        let call = operator.read(&example.say)?;
        let found = call.arguments();
        let of_kind = score.kinds.entry(example.kind().to_owned()).or_default();
        of_kind.0 += 1;
        score.right_kind += usize::from(call.kind.name() == example.kind());
        if found == example.call {
            of_kind.1 += 1;
            continue;
        }
        score.dangerous += usize::from(example.kind() == "none" && call.kind.changes());
        let show = |call: &Map<String, Value>| Value::Object(call.clone()).to_string();
        score
            .wrong
            .push((example.say.clone(), show(&example.call), show(&found)));
    }
    Ok(score)
}
