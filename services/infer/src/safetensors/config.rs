//! `config.json`: the hyperparameters, said as GGUF says them.

use std::collections::BTreeMap;
use std::f64::consts::TAU;

use super::Error;
use super::json::Object;
use crate::gguf::Value;

/// What transformers calls a model, and the architecture that it is for GGUF.
const ARCHITECTURES: [(&str, &str); 10] = [
    ("LlamaForCausalLM", "llama"),
    ("MistralForCausalLM", "llama"),
    ("Qwen2ForCausalLM", "qwen2"),
    ("Qwen3ForCausalLM", "qwen3"),
    ("GemmaForCausalLM", "gemma"),
    ("Gemma2ForCausalLM", "gemma2"),
    ("Gemma3ForCausalLM", "gemma3"),
    ("Phi3ForCausalLM", "phi3"),
    ("BertModel", "bert"),
    ("BertForMaskedLM", "bert"),
];

/// What a configuration says.
pub(super) struct Config {
    /// As GGUF names it.
    pub(super) architecture: &'static str,
    /// Hyperparameters under GGUF's keys.
    pub(super) entries: BTreeMap<String, Value>,
    /// Tensors that GGUF has and this format does not.
    pub(super) listed: BTreeMap<String, Vec<f32>>,
    /// Whether the embedding is the output, too.
    pub(super) tied: bool,
    /// Rows of the embedding.
    pub(super) vocabulary: usize,
}

impl Config {
    /// Reads `config.json`.
    ///
    /// # Errors
    /// When the model is of another kind, or something is missing or not supported.
    pub(super) fn read(config: &Object) -> Result<Self, Error> {
        let allowed = || {
            let names: Vec<_> = ARCHITECTURES.iter().map(|(name, _)| *name).collect();
            format!("one of {}", names.join(", "))
        };
        let named = config.get("architectures").and_then(|value| value.get(0));
        let (name, architecture) = *ARCHITECTURES
            .iter()
            .find(|(name, _)| named.and_then(|value| value.as_str()) == Some(name))
            .ok_or_else(|| config.wrong("architectures", allowed()))?;
        if config.get("quantization_config").is_some() {
            let allowed = "nothing: weights as F32, F16 or BF16";
            return Err(config.wrong("quantization_config", allowed));
        }
        let mut all = Entries {
            architecture,
            entries: BTreeMap::new(),
        };
        let text = Value::String(architecture.to_owned());
        all.entries.insert("general.architecture".to_owned(), text);
        all.number("embedding_length", config.needed("hidden_size")?);
        all.number("block_count", config.needed("num_hidden_layers")?);
        all.number("feed_forward_length", config.needed("intermediate_size")?);
        all.number(
            "attention.head_count",
            config.needed("num_attention_heads")?,
        );
        all.number("context_length", config.needed("max_position_embeddings")?);
        let listed = match architecture {
            "bert" => {
                all.bert(config)?;
                BTreeMap::new()
            }
            _ => all.decoder(config, name)?,
        };
        let tied = config.truth("tie_word_embeddings")?;
        Ok(Self {
            architecture,
            entries: all.entries,
            listed,
            tied: tied.unwrap_or(architecture.starts_with("gemma")),
            vocabulary: config.needed("vocab_size")? as usize,
        })
    }
}

/// Entries under keys that begin with the architecture.
struct Entries {
    architecture: &'static str,
    entries: BTreeMap<String, Value>,
}

impl Entries {
    fn put(&mut self, key: &str, value: Value) {
        let key = format!("{}.{key}", self.architecture);
        self.entries.insert(key, value);
    }

    fn number(&mut self, key: &str, number: u64) {
        self.put(key, Value::Unsigned(number));
    }

    fn float(&mut self, key: &str, number: f64) {
        self.put(key, Value::Float(number));
    }

    fn bert(&mut self, config: &Object) -> Result<(), Error> {
        let kind = config.text("position_embedding_type")?;
        if kind.is_some_and(|kind| kind != "absolute") {
            return Err(config.wrong("position_embedding_type", "\"absolute\""));
        }
        if config.text("hidden_act")?.unwrap_or("gelu") != "gelu" {
            return Err(config.wrong("hidden_act", "\"gelu\""));
        }
        if config.truth("is_decoder")? == Some(true) {
            return Err(config.wrong("is_decoder", "false"));
        }
        let epsilon = config.float("layer_norm_eps")?.unwrap_or(1e-12);
        self.float("attention.layer_norm_epsilon", epsilon);
        self.put("attention.causal", Value::Bool(false));
        Ok(())
    }

    /// A decoder's entries; returns the tensors that stand in its configuration.
    fn decoder(
        &mut self,
        config: &Object,
        name: &str,
    ) -> Result<BTreeMap<String, Vec<f32>>, Error> {
        let gemma = self.architecture.starts_with("gemma");
        let heads = config.needed("num_attention_heads")?;
        let kv_heads = config.number("num_key_value_heads")?.unwrap_or(heads);
        self.number("attention.head_count_kv", kv_heads);
        let width = config.needed("hidden_size")?;
        // What transformers takes where nothing is said.
        let head = match (config.number("head_dim")?, self.architecture) {
            (Some(head), _) => head,
            (None, "qwen3") => 128,
            (None, _) if gemma => 256,
            (None, _) => width.checked_div(heads).unwrap_or(0),
        };
        self.number("attention.key_length", head);
        self.number("attention.value_length", head);
        let epsilon = config.float("rms_norm_eps")?.unwrap_or(1e-6);
        self.float("attention.layer_norm_rms_epsilon", epsilon);
        let act = match config.text("hidden_activation")? {
            Some(act) => Some(("hidden_activation", act)),
            None => config.text("hidden_act")?.map(|act| ("hidden_act", act)),
        };
        if let Some((key, act)) = act {
            // Gemma's first files say "gelu" and mean the tangent's.
            let allowed: &[&str] = match gemma {
                true => &["gelu_pytorch_tanh", "gelu"],
                false => &["silu"],
            };
            if !allowed.contains(&act) {
                return Err(config.wrong(key, allowed.join(", ")));
            }
        }
        self.windows(config, name)?;
        self.caps(config)?;
        if let Some(scalar) = config.float("query_pre_attn_scalar")?.filter(|_| gemma) {
            if scalar <= 0.0 {
                return Err(config.wrong("query_pre_attn_scalar", "more than 0"));
            }
            self.float("attention.scale", 1.0 / scalar.sqrt());
        }
        self.rope(config, head)
    }

    /// What a token sees of those before it.
    fn windows(&mut self, config: &Object, name: &str) -> Result<(), Error> {
        if config.truth("use_sliding_window")? == Some(true) {
            return Err(config.wrong("use_sliding_window", "false"));
        }
        let windowed = matches!(self.architecture, "gemma2" | "gemma3" | "phi3")
            || name == "MistralForCausalLM";
        if let Some(window) = config.number("sliding_window")?.filter(|_| windowed) {
            self.number("attention.sliding_window", window);
        }
        let period = match self.architecture {
            "gemma2" => 2,
            "gemma3" => 6,
            _ => return Ok(()),
        };
        let pattern = config.number("sliding_window_pattern")?;
        if pattern.is_some_and(|pattern| pattern != period) {
            return Err(config.wrong("sliding_window_pattern", period.to_string()));
        }
        let wanted = |(layer, kind): (usize, &serde_json::Value)| {
            let whole = layer as u64 % period == period - 1;
            kind == match whole {
                true => "full_attention",
                false => "sliding_attention",
            }
        };
        let types = config.optional("layer_types", "an array", |value| value.as_array())?;
        match types.is_none_or(|types| types.iter().enumerate().all(wanted)) {
            true => Ok(()),
            false => Err(config.wrong(
                "layer_types",
                format!("each {period}th \"full_attention\", the others \"sliding_attention\""),
            )),
        }
    }

    /// What scores and logits are bent to stay below.
    fn caps(&mut self, config: &Object) -> Result<(), Error> {
        for (key, own) in [
            ("attn_logit_softcapping", "attn_logit_softcapping"),
            ("final_logit_softcapping", "final_logit_softcapping"),
        ] {
            let cap = config.float(key)?;
            match (self.architecture, cap) {
                ("gemma2", Some(cap)) => self.float(own, cap),
                ("gemma2", None) => return Err(config.wrong(key, "a number")),
                (_, Some(_)) => return Err(config.wrong(key, "null")),
                (_, None) => {}
            }
        }
        Ok(())
    }

    /// How positions turn heads of `head` numbers.
    fn rope(&mut self, config: &Object, head: u64) -> Result<BTreeMap<String, Vec<f32>>, Error> {
        let share = config.float("partial_rotary_factor")?.unwrap_or(1.0);
        let turned = (head as f64 * share) as u64;
        self.number("rope.dimension_count", turned);
        // transformers 5 puts all of it into one object.
        let parameters = config.object("rope_parameters")?;
        let base = match &parameters {
            Some(parameters) => parameters.float("rope_theta")?,
            None => config.float("rope_theta")?,
        };
        let usual = if self.architecture == "gemma3" {
            1e6
        } else {
            1e4
        };
        let base = base.unwrap_or(usual);
        self.float("rope.freq_base", base);
        if self.architecture == "gemma3" {
            let local = config.float("rope_local_base_freq")?.unwrap_or(1e4);
            self.float("rope.freq_base_swa", local);
        }
        let scaling = match parameters {
            Some(parameters) => Some(parameters),
            None => config.object("rope_scaling")?,
        };
        let Some(scaling) = scaling else {
            return Ok(BTreeMap::new());
        };
        let key = match scaling.get("rope_type") {
            Some(_) => "rope_type",
            None => "type",
        };
        let needed = |key: &str| -> Result<f64, Error> {
            let found = scaling.float(key)?.filter(|&number| number > 0.0);
            found.ok_or_else(|| scaling.wrong(key, "more than 0"))
        };
        match (scaling.text(key)?, self.architecture) {
            (Some("default"), _) => Ok(BTreeMap::new()),
            (Some("linear"), _) => {
                self.put("rope.scaling.type", Value::String("linear".to_owned()));
                self.float("rope.scaling.factor", needed("factor")?);
                Ok(BTreeMap::new())
            }
            (Some("llama3"), "llama") => {
                let factors = Llama3 {
                    factor: needed("factor")?,
                    low: needed("low_freq_factor")?,
                    high: needed("high_freq_factor")?,
                    original: needed("original_max_position_embeddings")?,
                };
                if factors.low >= factors.high {
                    let allowed = format!("above 'low_freq_factor', {}", factors.low);
                    return Err(scaling.wrong("high_freq_factor", allowed));
                }
                let factors = factors.each(base, turned);
                Ok([("rope_freqs.weight".to_owned(), factors)].into())
            }
            (Some("longrope" | "su"), "phi3") => {
                let original = match scaling.number("original_max_position_embeddings")? {
                    Some(original) => original,
                    None => config.needed("original_max_position_embeddings")?,
                };
                self.put("rope.scaling.type", Value::String("longrope".to_owned()));
                self.number("rope.scaling.original_context_length", original);
                let factors = |key| -> Result<Vec<f32>, Error> {
                    let found = scaling.floats(key)?;
                    found.ok_or_else(|| scaling.wrong(key, "an array of numbers"))
                };
                Ok([
                    (
                        "rope_factors_short.weight".to_owned(),
                        factors("short_factor")?,
                    ),
                    (
                        "rope_factors_long.weight".to_owned(),
                        factors("long_factor")?,
                    ),
                ]
                .into())
            }
            (_, architecture) => {
                let allowed = match architecture {
                    "llama" => "default, linear, llama3",
                    "phi3" => "default, linear, longrope",
                    _ => "default, linear",
                };
                Err(scaling.wrong(key, allowed))
            }
        }
    }
}

/// Llama 3.1's scaling: slow frequencies are divided by a factor, fast ones are not, and those
/// between by something between.
struct Llama3 {
    factor: f64,
    low: f64,
    high: f64,
    original: f64,
}

impl Llama3 {
    /// What each frequency is divided by.
    fn each(&self, base: f64, width: u64) -> Vec<f32> {
        let factor = |pair: u64| {
            let length = TAU * base.powf(2.0 * pair as f64 / width as f64);
            if length < self.original / self.high {
                return 1.0;
            }
            if length > self.original / self.low {
                return self.factor as f32;
            }
            let smooth = (self.original / length - self.low) / (self.high - self.low);
            (1.0 / ((1.0 - smooth) / self.factor + smooth)) as f32
        };
        (0..width / 2).map(factor).collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(changes: serde_json::Value) -> Result<Config, Error> {
        let mut config = json!({
            "architectures": ["LlamaForCausalLM"], "hidden_size": 64, "num_hidden_layers": 2,
            "intermediate_size": 96, "num_attention_heads": 4, "max_position_embeddings": 512,
            "vocab_size": 160, "rms_norm_eps": 1e-5, "hidden_act": "silu",
        });
        let map = config.as_object_mut().unwrap();
        map.extend(changes.as_object().unwrap().clone());
        Config::read(&Object::new("config.json", map))
    }

    #[test]
    fn what_cannot_be_honoured_is_refused_by_name() {
        assert!(read(json!({})).is_ok());
        for (changes, part) in [
            (json!({"architectures": ["OtherModel"]}), "LlamaForCausalLM"),
            (json!({"architectures": null}), "'architectures' is null"),
            (json!({"hidden_size": -1}), "'hidden_size' is -1"),
            (json!({"hidden_size": null}), "'hidden_size' is null"),
            (
                json!({"quantization_config": {"bits": 4}}),
                "F32, F16 or BF16",
            ),
            (
                json!({"rope_scaling": {"rope_type": "yarn"}}),
                "default, linear, llama3",
            ),
            (
                json!({"rope_scaling": {"type": "linear"}}),
                "'rope_scaling.factor' is missing",
            ),
            (json!({"hidden_act": "relu"}), "silu"),
            (
                json!({"architectures": ["Gemma2ForCausalLM"], "hidden_act": "gelu",
                    "attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0,
                    "layer_types": ["full_attention"]}),
                "layer_types",
            ),
            (
                json!({"architectures": ["BertModel"], "hidden_act": "relu"}),
                "\"gelu\"",
            ),
        ] {
            let text = read(changes.clone()).err().unwrap().to_string();
            assert!(text.contains(part), "{changes}: {text}");
        }
    }

    #[test]
    fn llama_3_has_its_factors() {
        let scaling = json!({"rope_scaling": {
            "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 64,
        }});
        let factors = &read(scaling).unwrap().listed["rope_freqs.weight"];
        assert_eq!((factors.len(), factors[0], factors[7]), (8, 1.0, 8.0));
        assert!(factors.is_sorted());
    }
}
