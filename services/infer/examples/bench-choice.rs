//! How long choosing a token takes, and saying among which, with a vocabulary of 150,000:
//! `cargo run --release -p kos-infer --example bench-choice`. Microseconds; medians and worst.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use kos_infer::constrain::{Constraint, Document, Grammar, Piece, Pieces};
use kos_infer::sampler::{Sampler, Sampling};
use serde_json::json;

const VOCABULARY: usize = 150_000;

/// Repeatable numbers from 0 to 1.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> f32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 40) as f32 / (1 << 24) as f32
    }

    /// A model's logits: twelve uniform numbers make a normal one.
    fn logits(&mut self) -> Vec<f32> {
        let mut normal = || (0..12).map(|_| self.next()).sum::<f32>() - 6.0;
        (0..VOCABULARY).map(|_| 3.0 * normal()).collect()
    }
}

fn main() -> Result<()> {
    choosing();
    masking()
}

fn choosing() {
    let logits = Numbers(1).logits();
    let nothing = || Sampling {
        temperature: 1.0,
        top_k: 0,
        top_p: 1.0,
        ..Sampling::default()
    };
    let top_p = 0.9;
    let min_p = 0.05;
    let logprobs = Some(5);
    for (name, sampling) in [
        ("the defaults", Sampling::default()),
        (
            "the defaults, 5 logprobs",
            Sampling {
                logprobs,
                ..Sampling::default()
            },
        ),
        (
            "greedy",
            Sampling {
                temperature: 0.0,
                ..nothing()
            },
        ),
        ("nothing cut", nothing()),
        ("top-p 0.9 alone", Sampling { top_p, ..nothing() }),
        ("min-p 0.05 alone", Sampling { min_p, ..nothing() }),
        (
            "typical 0.9",
            Sampling {
                typical_p: 0.9,
                ..nothing()
            },
        ),
        (
            "mirostat 1",
            Sampling {
                mirostat: 1,
                ..nothing()
            },
        ),
        (
            "mirostat 2",
            Sampling {
                mirostat: 2,
                ..nothing()
            },
        ),
    ] {
        let mut sampler = Sampler::new(sampling);
        let times = (0..200).map(|_| {
            let mut logits = logits.clone();
            let started = Instant::now();
            std::hint::black_box(sampler.choose(&mut logits));
            started.elapsed()
        });
        say(name, times.collect());
    }
}

fn masking() -> Result<()> {
    let mut numbers = Numbers(2);
    let bytes = (0..=255_u8).map(|byte| Piece::Text(vec![byte]));
    let words = (256..VOCABULARY - 1).map(|_| {
        let length = 2 + (numbers.next() * 8.0) as usize;
        let letters = (0..length)
            .map(|_| b" etaoinsrhldcumfpgwybvk,\":{}[]019"[(numbers.next() * 33.0) as usize]);
        Piece::Text(letters.collect())
    });
    let vocabulary: Vec<Piece> = bytes.chain(words).chain([Piece::End]).collect();
    let started = Instant::now();
    let pieces = Arc::new(Pieces::new(vocabulary));
    println!("a vocabulary: {} µs", started.elapsed().as_micros());
    let person = json!({"type": "object", "properties": {
        "name": {"type": "string"}, "born": {"type": "string", "format": "date"},
        "code": {"type": "string", "pattern": "^[a-z ]+$"},
        "short": {"type": "string", "maxLength": 60},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "tags": {"type": "array", "items": {"type": "string"}},
    }, "required": ["name", "born", "code", "short", "age", "tags"]});
    for (name, schema) in [
        ("masks of any object", json!({"type": "object"})),
        ("masks of a person", person),
    ] {
        let grammar = Arc::new(Grammar::schema(&Document::from(&schema))?);
        let mut times = Vec::new();
        for _ in 0..4 {
            let mut constraint = Constraint::new(grammar.clone(), pieces.clone());
            for _ in 0..150 {
                let mut logits: Vec<f32> = (0..VOCABULARY).map(|_| numbers.next()).collect();
                let started = Instant::now();
                constraint.mask(&mut logits);
                times.push(started.elapsed());
                let best = (0..VOCABULARY).max_by(|&a, &b| logits[a].total_cmp(&logits[b]));
                constraint.accept(best.unwrap_or(0) as u32);
                if constraint.finished() {
                    break;
                }
            }
        }
        say(name, times);
    }
    Ok(())
}

fn say(name: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let (median, worst) = (times[times.len() / 2], times[times.len() - 1]);
    println!(
        "{name}: {} µs, worst {} µs",
        median.as_micros(),
        worst.as_micros()
    );
}
