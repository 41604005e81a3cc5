//! Every architecture against `transformers`: logits within tolerance, greedy tokens equal.

#![allow(
    clippy::unwrap_used,
    reason = "a test says by its panic what went wrong"
)]

mod fixture;

use std::io::Write;
use std::sync::Arc;

use fixture::Expected;
use kos_infer::gguf;
use kos_infer::kernels::{Keep, Pool};
use kos_infer::model::{Cache, Config, Decoder, Part, Wanted, Weights};

/// The models of `expected/architectures`.
const MODELS: [&str; 8] = [
    "llama", "llama-3", "mistral", "qwen2", "qwen3", "gemma2", "gemma3", "phi3",
];

/// Largest difference of a logit, as a fraction of the logits' standard deviation: both sides
/// multiply 32-bit floats, in another order.
const TOLERANCE: f64 = 1e-3;

fn load(expected: &Expected) -> Decoder {
    let bytes = expected.gguf();
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&bytes).unwrap();
    let header = gguf::File::read(bytes.as_slice(), bytes.len() as u64).unwrap();
    let config = Config::read(&header.metadata).unwrap();
    let weights = Weights::new(&header, Arc::new(file));
    Decoder::load(config, expected.vocabulary, &weights).unwrap()
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

#[test]
fn logits_are_within_tolerance() {
    for name in MODELS {
        let expected = Expected::read(name);
        let allowed = TOLERANCE * expected.deviation;
        assert!(allowed < expected.margin / 2.0, "{name}");
        let model = load(&expected);
        for (&place, wanted) in expected.places.iter().zip(&expected.logits) {
            let mut cache = Cache::new(model.config(), Keep::Floats, 64);
            let found = forward(&model, &expected.prompt[..=place], &mut cache);
            let differences = found
                .iter()
                .zip(wanted)
                .map(|(a, b)| (f64::from(*a) - b).abs());
            let worst = differences.fold(0.0, f64::max);
            println!("{name} after {place}: worst difference {worst:.6}, allowed {allowed:.6}");
            assert!(worst <= allowed, "{name} after {place}: {worst}");
        }
    }
}

/// Largest difference of a logit with keys and values of scaled bytes, as a fraction of the deviation.
const BYTES_TOLERANCE: f64 = 0.1;

#[test]
fn scaled_bytes_change_little_and_take_half_the_memory() {
    for name in MODELS {
        let expected = Expected::read(name);
        let model = load(&expected);
        let config = model.config();
        let [bytes, halves] =
            [Keep::Bytes, Keep::Halves].map(|keep| config.cache_bytes(keep, 4096));
        let [of, most] = match config.head_width % 32 {
            0 => [bytes * 32, halves * 17],
            // A part of a block has a whole scale.
            _ => [bytes * 4, halves * 3],
        };
        assert!(of <= most, "{name}: {bytes} {halves}");
        for (&place, wanted) in expected.places.iter().zip(&expected.logits) {
            // Token by token, so that all but the last come from the cache.
            let mut cache = Cache::new(config, Keep::Bytes, 64);
            let mut found = Vec::new();
            for token in &expected.prompt[..=place] {
                found = forward(&model, std::slice::from_ref(token), &mut cache);
            }
            let pairs = found.iter().zip(wanted);
            let worst = pairs.map(|(a, b)| (f64::from(*a) - b).abs());
            let worst = worst.fold(0.0, f64::max) / expected.deviation;
            println!("{name} after {place}: worst difference {worst:.4} of the deviation");
            assert!(worst <= BYTES_TOLERANCE, "{name} after {place}: {worst}");
        }
    }
}

#[test]
fn sixteen_greedy_tokens_are_equal() {
    for name in MODELS {
        let expected = Expected::read(name);
        let model = load(&expected);
        let mut cache = Cache::new(model.config(), Keep::Floats, 64);
        let mut logits = forward(&model, &expected.prompt, &mut cache);
        let mut tokens = Vec::new();
        while tokens.len() < expected.greedy.len() {
            let best = (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b]));
            tokens.push(best.unwrap() as u32);
            logits = forward(&model, &tokens[tokens.len() - 1..], &mut cache);
        }
        assert_eq!(tokens, expected.greedy, "{name}");
    }
}
