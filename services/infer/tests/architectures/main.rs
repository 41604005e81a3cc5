//! Every architecture against `transformers`: logits within tolerance, greedy tokens equal.

#![allow(
    clippy::unwrap_used,
    reason = "a test says by its panic what went wrong"
)]

mod fixture;

use std::io::Write;

use fixture::Expected;
use kos_infer::gguf;
use kos_infer::model::{Cache, Config, Llama, Weights};

/// The models of `expected/architectures` that the engine can compute.
const MODELS: [&str; 3] = ["llama", "llama-3", "mistral"];

/// Largest difference of a logit, as a fraction of the logits' standard deviation: both sides
/// multiply 32-bit floats, in another order.
const TOLERANCE: f64 = 1e-3;

fn load(expected: &Expected) -> Llama {
    let bytes = expected.gguf();
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&bytes).unwrap();
    let header = gguf::File::read(bytes.as_slice(), bytes.len() as u64).unwrap();
    let config = Config::read(&header.metadata).unwrap();
    Llama::load(config, expected.vocabulary, &Weights::new(&header, &file)).unwrap()
}

#[test]
fn logits_are_within_tolerance() {
    for name in MODELS {
        let expected = Expected::read(name);
        let allowed = TOLERANCE * expected.deviation;
        assert!(allowed < expected.margin / 2.0, "{name}");
        let model = load(&expected);
        for (&place, wanted) in expected.places.iter().zip(&expected.logits) {
            let mut cache = Cache::new(model.config(), 64).unwrap();
            let found = model
                .forward(&expected.prompt[..=place], &mut cache)
                .unwrap();
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

#[test]
fn sixteen_greedy_tokens_are_equal() {
    for name in MODELS {
        let expected = Expected::read(name);
        let model = load(&expected);
        let mut cache = Cache::new(model.config(), 64).unwrap();
        let mut logits = model.forward(&expected.prompt, &mut cache).unwrap();
        let mut tokens = Vec::new();
        while tokens.len() < expected.greedy.len() {
            let best = (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b]));
            tokens.push(best.unwrap() as u32);
            logits = model
                .forward(&tokens[tokens.len() - 1..], &mut cache)
                .unwrap();
        }
        assert_eq!(tokens, expected.greedy, "{name}");
    }
}
