//! The engine's numbers against llama.cpp's, on the same files (`tests/models/expected.py`).
//!
//! Both programs round activations alike before they multiply them with quantized weights, so only
//! the order of floating-point sums differs (seen: 0.00005; of F16, where only llama.cpp rounds
//! activations, 0.004 of the deviation). Tolerances are fractions of the logits' standard deviation,
//! far below the smallest distance between the best two logits of the 32 choices: the greedy tokens
//! must be equal on every processor. Keys and values are kept as floats here, as they were there.

#![allow(
    clippy::unwrap_used,
    reason = "a test says by its panic what went wrong"
)]

use std::fs::File;
use std::path::{Path, PathBuf};

use kos_infer::gguf;
use kos_infer::kernels::{Keep, Pool};
use kos_infer::model::{Cache, Config, Decoder, Encoder, EncoderConfig, Part, Wanted, Weights};
use kos_infer::tokenizer::Tokenizer;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::sync::Arc;

#[derive(Deserialize)]
struct Expected {
    models: BTreeMap<String, Model>,
    /// What `tiny-bert` makes of texts.
    encoder: Vec<Encoded>,
}

#[derive(Deserialize)]
struct Encoded {
    text: String,
    tokens: Vec<u32>,
    vector: Vec<f32>,
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

fn everything() -> Expected {
    let text = std::fs::read_to_string(models().join("expected.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn expected() -> BTreeMap<String, Model> {
    everything().models
}

fn open(name: &str) -> (Arc<File>, gguf::File, Tokenizer) {
    let file = Arc::new(File::open(models().join(format!("{name}.gguf"))).unwrap());
    let header = gguf::File::read(&*file, file.metadata().unwrap().len()).unwrap();
    let tokenizer = Tokenizer::read(&header.metadata).unwrap();
    (file, header, tokenizer)
}

fn load(name: &str) -> (Tokenizer, Decoder) {
    let (file, header, tokenizer) = open(name);
    let config = Config::read(&header.metadata).unwrap();
    let count = tokenizer.vocabulary().len();
    (
        tokenizer,
        Decoder::load(config, count, &Weights::new(&header, file)).unwrap(),
    )
}

/// The largest difference allowed, as a fraction of the logits' standard deviation.
fn tolerance(name: &str) -> f64 {
    match name {
        // llama.cpp rounds activations to 16 bits.
        "tiny-f16" => 0.005,
        _ => 1e-4,
    }
}

fn forward(decoder: &Decoder, tokens: &[u32], cache: &mut Cache) -> Vec<f32> {
    let part = Part {
        tokens,
        cache,
        wanted: Wanted::Last,
    };
    let pool = Pool::new(2).unwrap();
    decoder.forward(&pool, &mut [part]).unwrap()
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
            let mut cache = Cache::new(llama.config(), Keep::Floats, 64);
            let mut logits = Vec::new();
            for tokens in model.prompt_tokens.chunks(pass) {
                logits = forward(&llama, tokens, &mut cache);
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
        let mut cache = Cache::new(llama.config(), Keep::Floats, 256);
        let mut logits = forward(&llama, &model.prompt_tokens, &mut cache);
        let mut tokens = Vec::new();
        while tokens.len() < model.greedy_tokens.len() {
            tokens.push(best(&logits));
            logits = forward(&llama, &tokens[tokens.len() - 1..], &mut cache);
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
fn vectors_are_within_tolerance() {
    let (file, header, tokenizer) = open("tiny-bert");
    let config = EncoderConfig::read(&header.metadata).unwrap();
    let count = tokenizer.vocabulary().len();
    let encoder = Encoder::load(config, count, &Weights::new(&header, file)).unwrap();
    let pool = Pool::new(2).unwrap();
    let all = everything().encoder;
    assert!(!all.is_empty());
    for Encoded {
        text,
        tokens,
        vector,
    } in all
    {
        assert_eq!(tokenizer.encode(&text).unwrap(), tokens, "{text:?}");
        let pooled = encoder.forward(&pool, &[&tokens]).unwrap();
        let found = pooled.into_iter().next().unwrap().finish(None).unwrap();
        assert_eq!(found.len(), vector.len());
        let differences = found.iter().zip(&vector).map(|(a, b)| (a - b).abs());
        let worst = differences.fold(0.0, f32::max);
        println!("{text:?}: worst difference {worst:.6}");
        // Of numbers about 0.125 large; llama.cpp rounds activations to 16 bits here, too.
        assert!(worst <= 1e-3, "{text:?}: {worst}");
    }
}

#[test]
fn a_growing_cache_changes_nothing() {
    let (_, llama) = load("tiny-f32");
    let tokens: Vec<u32> = (0..300).map(|place| 300 + place % 40).collect();
    let mut whole = Cache::new(llama.config(), Keep::Floats, 300);
    let expected = forward(&llama, &tokens, &mut whole);
    let mut parts = Cache::new(llama.config(), Keep::Floats, 300);
    let mut logits = Vec::new();
    for tokens in tokens.chunks(50) {
        logits = forward(&llama, tokens, &mut parts);
    }
    assert_eq!(parts.left(), 0);
    for (a, b) in logits.iter().zip(&expected) {
        assert!((a - b).abs() < 1e-3, "{a} {b}");
    }
}
