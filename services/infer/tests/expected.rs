//! The engine's numbers against llama.cpp's, on the same files (`tests/models/expected.py`).
//!
//! Both programs round activations before they multiply them with quantized weights, but not
//! alike: llama.cpp to blocks of 32 (Q8_0) or 256 (Q8_K) in its own order, candle to blocks of
//! 256 even for Q8_0 where the processor has VNNI. So logits of quantized files differ by a
//! little, of floats by less (seen: at most 0.002 of the deviation, for F16); tolerances are fractions of the logits' standard deviation, and
//! all are below half the smallest distance between the best two logits of the 32 choices: the
//! greedy tokens must be equal on every processor.

#![allow(
    clippy::unwrap_used,
    reason = "a test says by its panic what went wrong"
)]

use std::fs::File;
use std::path::{Path, PathBuf};

use kos_infer::gguf;
use kos_infer::model::{Cache, Config, Llama, Weights};
use kos_infer::tokenizer::Tokenizer;
use serde::Deserialize;
use std::collections::BTreeMap;

#[derive(Deserialize)]
struct Expected {
    models: BTreeMap<String, Model>,
}

#[derive(Deserialize)]
struct Model {
    prompt: String,
    prompt_tokens: Vec<u32>,
    greedy_tokens: Vec<u32>,
    greedy_text: String,
    margin: f64,
    deviation: f64,
    logits: Vec<f64>,
    texts: Vec<Text>,
}

#[derive(Deserialize)]
struct Text {
    text: String,
    tokens: Vec<u32>,
}

fn models() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/models")
}

fn expected() -> BTreeMap<String, Model> {
    let text = std::fs::read_to_string(models().join("expected.json")).unwrap();
    serde_json::from_str::<Expected>(&text).unwrap().models
}

fn load(name: &str) -> (Tokenizer, Llama) {
    let file = File::open(models().join(format!("{name}.gguf"))).unwrap();
    let header = gguf::File::read(&file, file.metadata().unwrap().len()).unwrap();
    let tokenizer = Tokenizer::read(&header.metadata).unwrap();
    let config = Config::read(&header.metadata).unwrap();
    let count = tokenizer.vocabulary().len();
    (
        tokenizer,
        Llama::load(config, count, &Weights::new(&header, &file)).unwrap(),
    )
}

/// The largest difference allowed, as a fraction of the logits' standard deviation.
fn tolerance(name: &str) -> f64 {
    match name {
        "tiny-f32" => 1e-4,
        // Activations are rounded to 16 bits on both sides, sums are not.
        "tiny-f16" => 0.005,
        // Blocks of 256 instead of 32, where the processor has VNNI.
        "tiny-q8_0" => 0.025,
        // The same integers on both sides: only the order of the floating-point sums differs,
        // and now and then an activation falls to the other side of a rounding.
        _ => 0.01,
    }
}

fn best(logits: &[f32]) -> u32 {
    (0..logits.len())
        .max_by(|&a, &b| logits[a].total_cmp(&logits[b]))
        .unwrap() as u32
}

#[test]
fn texts_become_the_same_tokens() {
    for (name, model) in expected() {
        let (tokenizer, _) = load(&name);
        assert_eq!(
            tokenizer.encode(&model.prompt).unwrap(),
            model.prompt_tokens,
            "{name}"
        );
        for Text { text, tokens } in model.texts {
            assert_eq!(tokenizer.encode(&text).unwrap(), tokens, "{name}: {text:?}");
        }
    }
}

#[test]
fn logits_are_within_tolerance() {
    for (name, model) in expected() {
        let allowed = tolerance(&name) * model.deviation;
        assert!(
            allowed < model.margin / 2.0,
            "{name}: the tolerance says nothing of tokens"
        );
        let (_, llama) = load(&name);
        // In one pass, and token by token through the cache.
        for pass in [model.prompt_tokens.len(), 1] {
            let mut cache = Cache::new(llama.config(), 64).unwrap();
            let mut logits = Vec::new();
            for tokens in model.prompt_tokens.chunks(pass) {
                logits = llama.forward(tokens, &mut cache).unwrap();
            }
            assert_eq!(logits.len(), model.logits.len());
            let differences = logits
                .iter()
                .zip(&model.logits)
                .map(|(a, b)| (f64::from(*a) - b).abs());
            let worst = differences.fold(0.0, f64::max);
            println!(
                "{name}, passes of {pass}: worst difference {worst:.5}, allowed {allowed:.5}, \
                 deviation {}, margin {}",
                model.deviation, model.margin
            );
            assert!(worst <= allowed, "{name}: {worst} > {allowed}");
        }
    }
}

#[test]
fn thirty_two_greedy_tokens_are_equal() {
    for (name, model) in expected() {
        let (tokenizer, llama) = load(&name);
        let mut cache = Cache::new(llama.config(), 256).unwrap();
        let mut logits = llama.forward(&model.prompt_tokens, &mut cache).unwrap();
        let mut tokens = Vec::new();
        while tokens.len() < model.greedy_tokens.len() {
            tokens.push(best(&logits));
            logits = llama
                .forward(&tokens[tokens.len() - 1..], &mut cache)
                .unwrap();
        }
        assert_eq!(tokens, model.greedy_tokens, "{name}");
        let bytes: Vec<u8> = tokens
            .iter()
            .flat_map(|&token| tokenizer.bytes(token))
            .collect();
        assert_eq!(
            String::from_utf8(bytes).unwrap(),
            model.greedy_text,
            "{name}"
        );
    }
}

#[test]
fn a_growing_cache_changes_nothing() {
    let (_, llama) = load("tiny-f32");
    let tokens: Vec<u32> = (0..300).map(|place| 300 + place % 40).collect();
    let mut whole = Cache::new(llama.config(), 300).unwrap();
    let expected = llama.forward(&tokens, &mut whole).unwrap();
    let mut parts = Cache::new(llama.config(), 300).unwrap();
    let mut logits = Vec::new();
    for tokens in tokens.chunks(50) {
        logits = llama.forward(tokens, &mut parts).unwrap();
    }
    assert_eq!(parts.left(), 0);
    for (a, b) in logits.iter().zip(&expected) {
        assert!((a - b).abs() < 1e-3, "{a} {b}");
    }
}
