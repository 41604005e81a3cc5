//! How to choose, and what is allowed.

use thiserror::Error;

/// Most tokens with a bias: OpenAI allows 300 of them.
pub const MAX_BIASES: usize = 1024;
/// Most alternatives told for each token, as OpenAI has it.
pub const MAX_TOP: usize = 20;

/// How to choose. [`Sampling::check`] says whether all is in range.
#[derive(Debug, Clone, PartialEq)]
pub struct Sampling {
    /// 0 takes the likeliest token; higher flattens the odds. 0 to 100.
    pub temperature: f64,
    /// Only so many of the likeliest tokens; 0 for all.
    pub top_k: usize,
    /// Only the likeliest tokens that together have this probability. 0 to 1, which cuts nothing.
    pub top_p: f64,
    /// Only tokens at least this likely compared with the likeliest. 0 (all) to 1.
    pub min_p: f64,
    /// Only the tokens whose surprise is nearest to the expected, which together have this
    /// probability. 0 to 1, which cuts nothing.
    pub typical_p: f64,
    /// Divides the logits of tokens of late; 1 does nothing. 0.01 to 100.
    pub repeat_penalty: f64,
    /// How many tokens back the penalties look.
    pub repeat_last: usize,
    /// Subtracted for each time that a token was there of late. -100 to 100.
    pub frequency_penalty: f64,
    /// Subtracted once when it was. -100 to 100.
    pub presence_penalty: f64,
    /// 1 and 2: mirostat of that version instead of penalties and cuts; 0: none.
    pub mirostat: u8,
    /// The surprise that mirostat holds, in bits. 0 to 100.
    pub mirostat_tau: f64,
    /// How fast mirostat learns. 0 to 1.
    pub mirostat_eta: f64,
    /// Where the choices start from.
    pub seed: u64,
    /// Added to the logits of tokens, -100 to 100 each; at most [`MAX_BIASES`].
    pub logit_bias: Vec<(u32, f32)>,
    /// Tell probabilities, and those of so many of the likeliest tokens, at most [`MAX_TOP`].
    pub logprobs: Option<usize>,
}

impl Default for Sampling {
    /// Ollama's defaults, except for the seed, which is 0 here.
    fn default() -> Self {
        Self {
            temperature: 0.8,
            top_k: 40,
            top_p: 0.9,
            min_p: 0.0,
            typical_p: 1.0,
            repeat_penalty: 1.0,
            repeat_last: 64,
            frequency_penalty: 0.0,
            presence_penalty: 0.0,
            mirostat: 0,
            mirostat_tau: 5.0,
            mirostat_eta: 0.1,
            seed: 0,
            logit_bias: Vec::new(),
            logprobs: None,
        }
    }
}

/// A setting that is out of its range.
#[derive(Debug, Clone, PartialEq, Error)]
#[error("{key} is {found}, allowed: {allowed}")]
pub struct OutOfRange {
    /// The setting, as Ollama and OpenAI call it.
    pub key: &'static str,
    /// Its value.
    pub found: String,
    /// The range.
    pub allowed: &'static str,
}

impl Sampling {
    /// Whether everything is in range.
    ///
    /// # Errors
    /// The first setting that is not, with its range.
    pub fn check(&self) -> Result<(), OutOfRange> {
        let error = |key, found: String, allowed| OutOfRange {
            key,
            found,
            allowed,
        };
        #[rustfmt::skip]
        let ranges = [
            ("temperature", self.temperature, 0.0, 100.0, "0 to 100"),
            ("top_p", self.top_p, 0.0, 1.0, "0 to 1"),
            ("min_p", self.min_p, 0.0, 1.0, "0 to 1"),
            ("typical_p", self.typical_p, 0.0, 1.0, "0 to 1"),
            ("repeat_penalty", self.repeat_penalty, 0.01, 100.0, "0.01 to 100"),
            ("frequency_penalty", self.frequency_penalty, -100.0, 100.0, "-100 to 100"),
            ("presence_penalty", self.presence_penalty, -100.0, 100.0, "-100 to 100"),
            ("mirostat", self.mirostat.into(), 0.0, 2.0, "0, 1, 2"),
            ("mirostat_tau", self.mirostat_tau, 0.0, 100.0, "0 to 100"),
            ("mirostat_eta", self.mirostat_eta, 0.0, 1.0, "0 to 1"),
        ];
        for (key, found, least, most, allowed) in ranges {
            // Not a number is in no range.
            if !(found >= least && found <= most) {
                return Err(error(key, found.to_string(), allowed));
            }
        }
        if self.logit_bias.len() > MAX_BIASES {
            let found = format!("for {} tokens", self.logit_bias.len());
            return Err(error("logit_bias", found, "at most 1024 tokens"));
        }
        for (token, bias) in &self.logit_bias {
            if !(-100.0..=100.0).contains(bias) {
                let found = format!("{bias} for token {token}");
                return Err(error("logit_bias", found, "-100 to 100"));
            }
        }
        match self.logprobs {
            Some(count) if count > MAX_TOP => {
                Err(error("top_logprobs", count.to_string(), "0 to 20"))
            }
            _ => Ok(()),
        }
    }
}
