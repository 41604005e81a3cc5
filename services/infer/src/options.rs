//! A request's `options`, `keep_alive` and limits, checked.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use serde::de::{Error as _, Unexpected};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use thiserror::Error;

use crate::constrain::Grammar;
use crate::sampler::{OutOfRange, Sampling};

/// Context for requests that ask for none: Ollama's own default.
const DEFAULT_CONTEXT: usize = 4096;

/// How long a model stays loaded after its last use, as Ollama has it.
const DEFAULT_KEEP_ALIVE: Duration = Duration::from_secs(5 * 60);

/// Most stop texts, and their longest length in bytes: far beyond any use, but bounded, because
/// every piece of an answer is compared with all of them.
const MAX_STOPS: usize = 32;
const MAX_STOP_LENGTH: usize = 256;

/// An option that is out of its range.
#[derive(Debug, Error, PartialEq)]
#[error("{name} is {found}, allowed: {allowed}")]
pub struct Error {
    name: &'static str,
    found: String,
    allowed: &'static str,
}

impl From<OutOfRange> for Error {
    fn from(error: OutOfRange) -> Self {
        Self {
            name: error.key,
            found: error.found,
            allowed: error.allowed,
        }
    }
}

/// `options` as they come. Keys that the engine does not have are ignored, as Ollama does.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Options {
    #[serde(deserialize_with = "whole_number")]
    num_ctx: Option<i64>,
    #[serde(deserialize_with = "whole_number")]
    num_predict: Option<i64>,
    #[serde(deserialize_with = "whole_number")]
    seed: Option<i64>,
    temperature: Option<f64>,
    #[serde(deserialize_with = "whole_number")]
    top_k: Option<i64>,
    top_p: Option<f64>,
    min_p: Option<f64>,
    typical_p: Option<f64>,
    #[serde(deserialize_with = "whole_number")]
    repeat_last_n: Option<i64>,
    repeat_penalty: Option<f64>,
    frequency_penalty: Option<f64>,
    presence_penalty: Option<f64>,
    #[serde(deserialize_with = "whole_number")]
    mirostat: Option<i64>,
    mirostat_tau: Option<f64>,
    mirostat_eta: Option<f64>,
    stop: Option<Stops>,
}

/// A whole number, which some clients write as `4096.0`.
fn whole_number<'de, D: Deserializer<'de>>(from: D) -> Result<Option<i64>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "a whole number")]
    enum Written {
        Whole(i64),
        Float(f64),
    }
    /// From here on floats are not every whole number.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    match Option::<Written>::deserialize(from)? {
        None => Ok(None),
        Some(Written::Whole(number)) => Ok(Some(number)),
        Some(Written::Float(number)) if number.fract() == 0.0 && number.abs() < EXACT => {
            Ok(Some(number as i64))
        }
        Some(Written::Float(number)) => {
            let found = Unexpected::Float(number);
            Err(D::Error::invalid_value(found, &"a whole number"))
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Stops {
    One(String),
    Many(Vec<String>),
}

/// Options that are all in range.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// Most tokens to generate; None up to the context's end.
    pub predict: Option<usize>,
    /// Context in tokens, prompt and answer together, before the model's own limit.
    pub context: usize,
    /// Texts that end the answer; they are not part of it.
    pub stops: Vec<String>,
    /// What the answer may be; None for any text.
    pub format: Option<Arc<Grammar>>,
}

impl Options {
    /// Checks the options and puts Ollama's defaults where there are none.
    ///
    /// # Errors
    /// When one is out of range.
    pub fn check(self) -> Result<Settings, Error> {
        let stops = match self.stop {
            None => Vec::new(),
            Some(Stops::One(stop)) => vec![stop],
            Some(Stops::Many(stops)) => stops,
        };
        let stops: Vec<_> = stops.into_iter().filter(|stop| !stop.is_empty()).collect();
        if stops.len() > MAX_STOPS || stops.iter().any(|stop| stop.len() > MAX_STOP_LENGTH) {
            let found = format!("{} texts", stops.len());
            let allowed = "at most 32 texts of at most 256 bytes";
            return Err(Error {
                name: "stop",
                found,
                allowed,
            });
        }
        let context = match self.num_ctx {
            None | Some(0) => DEFAULT_CONTEXT,
            Some(count) => whole("num_ctx", count, 1, "1 to 2147483647")?,
        };
        let repeat_last = match self.repeat_last_n.unwrap_or(64) {
            -1 => context,
            count => whole("repeat_last_n", count, 0, "-1 (the context) to 2147483647")?,
        };
        let defaults = Sampling::default();
        let sampling = Sampling {
            temperature: self.temperature.unwrap_or(defaults.temperature),
            // Ollama reads a negative number as all, like 0.
            top_k: usize::try_from(self.top_k.unwrap_or(40)).unwrap_or(0),
            top_p: self.top_p.unwrap_or(defaults.top_p),
            min_p: self.min_p.unwrap_or(defaults.min_p),
            typical_p: self.typical_p.unwrap_or(defaults.typical_p),
            repeat_penalty: self.repeat_penalty.unwrap_or(defaults.repeat_penalty),
            repeat_last,
            frequency_penalty: self.frequency_penalty.unwrap_or(defaults.frequency_penalty),
            presence_penalty: self.presence_penalty.unwrap_or(defaults.presence_penalty),
            mirostat: u8::try_from(self.mirostat.unwrap_or(0)).unwrap_or(u8::MAX),
            mirostat_tau: self.mirostat_tau.unwrap_or(defaults.mirostat_tau),
            mirostat_eta: self.mirostat_eta.unwrap_or(defaults.mirostat_eta),
            seed: match self.seed {
                None | Some(-1) => RandomState::new().build_hasher().finish(),
                Some(seed) => seed as u64,
            },
            ..defaults
        };
        sampling.check()?;
        Ok(Settings {
            sampling,
            predict: self
                .num_predict
                .and_then(|n| usize::try_from(n).ok())
                .filter(|&n| n > 0),
            context,
            stops,
            format: None,
        })
    }
}

fn whole(
    name: &'static str,
    found: i64,
    least: i64,
    allowed: &'static str,
) -> Result<usize, Error> {
    match found {
        found if found >= least && found <= i64::from(i32::MAX) => Ok(found as usize),
        _ => Err(Error {
            name,
            found: found.to_string(),
            allowed,
        }),
    }
}

/// How long a model stays loaded after a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeepAlive {
    /// For so long; zero unloads at once.
    For(Duration),
    /// Until another model needs the room.
    Forever,
}

impl KeepAlive {
    /// Reads `keep_alive`: seconds as a number, or a text such as `5m`, `1h30m`, `-1`.
    ///
    /// # Errors
    /// When it is neither.
    pub fn read(value: Option<&Value>) -> Result<Self, Error> {
        let error = |found: &Value| Error {
            name: "keep_alive",
            found: found.to_string(),
            allowed: "seconds, or a text such as \"5m\", \"1h30m\", \"-1\"",
        };
        match value {
            None | Some(Value::Null) => Ok(Self::For(DEFAULT_KEEP_ALIVE)),
            Some(found @ Value::Number(number)) => number
                .as_f64()
                .and_then(Self::seconds)
                .ok_or_else(|| error(found)),
            Some(found @ Value::String(text)) => duration(text)
                .and_then(Self::seconds)
                .ok_or_else(|| error(found)),
            Some(found) => Err(error(found)),
        }
    }

    fn seconds(seconds: f64) -> Option<Self> {
        if seconds < 0.0 {
            return Some(Self::Forever);
        }
        // Beyond a century nobody waits, and an `Instant` may overflow.
        let seconds = seconds.min(100.0 * 365.0 * 86_400.0);
        Duration::try_from_secs_f64(seconds).ok().map(Self::For)
    }
}

/// Seconds of a duration as Go writes it (`1h30m`, `1.5s`, `300ms`, `-1m`), or of a bare number.
fn duration(text: &str) -> Option<f64> {
    if let Ok(seconds) = text.parse::<f64>() {
        return seconds.is_finite().then_some(seconds);
    }
    let (sign, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (-1.0, rest),
        None => (1.0, text),
    };
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|letter: char| !letter.is_ascii_digit() && letter != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let letters = rest
            .find(|l: char| l.is_ascii_digit() || l == '.')
            .unwrap_or(rest.len());
        seconds += number
            * match &rest[..letters] {
                "h" => 3600.0,
                "m" => 60.0,
                "s" => 1.0,
                "ms" => 1e-3,
                "us" | "µs" => 1e-6,
                "ns" => 1e-9,
                _ => return None,
            };
        rest = &rest[letters..];
    }
    (!text.is_empty() && f64::is_finite(seconds)).then_some(sign * seconds)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn keep(value: Value) -> Result<KeepAlive, Error> {
        KeepAlive::read(Some(&value))
    }

    #[test]
    fn keep_alive_speaks_go() {
        let seconds = |s| Ok(KeepAlive::For(Duration::from_secs_f64(s)));
        assert_eq!(KeepAlive::read(None), seconds(300.0));
        assert_eq!(keep(json!(0)), seconds(0.0));
        assert_eq!(keep(json!("0")), seconds(0.0));
        assert_eq!(keep(json!("1h30m")), seconds(5400.0));
        assert_eq!(keep(json!("1.5s")), seconds(1.5));
        assert_eq!(keep(json!("300ms")), seconds(0.3));
        assert_eq!(keep(json!(-1)), Ok(KeepAlive::Forever));
        assert_eq!(keep(json!("-1m")), Ok(KeepAlive::Forever));
        assert!(keep(json!(1e300)).is_ok());
        for wrong in [
            json!("soon"),
            json!(""),
            json!("5 m"),
            json!([1]),
            json!("1x"),
        ] {
            assert!(keep(wrong.clone()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn options_are_checked() {
        let check = |value: Value| serde_json::from_value::<Options>(value).unwrap().check();
        let settings =
            check(json!({"temperature": 0, "seed": 3, "stop": "x", "other": 1})).unwrap();
        assert_eq!(settings.stops, ["x"]);
        assert_eq!(settings.sampling.seed, 3);
        assert_eq!(check(json!({"num_predict": -1})).unwrap().predict, None);
        assert_eq!(check(json!({"num_predict": 5})).unwrap().predict, Some(5));
        for wrong in [
            json!({"temperature": -1}),
            json!({"top_p": 1.5}),
            json!({"num_ctx": -5}),
            json!({"repeat_penalty": 0}),
            json!({"mirostat": 3}),
            json!({"typical_p": -0.5}),
            json!({"stop": vec!["a"; 33]}),
        ] {
            let error = check(wrong).unwrap_err().to_string();
            assert!(error.contains("allowed"), "{error}");
        }
    }
}
