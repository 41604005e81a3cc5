//! Reads a prompt and generates, as fast as it goes, and says in JSON what that took:
//! `bench-model FILE THREADS PROMPT-TOKENS ANSWER-TOKENS ROUNDS`, or how fast memory is read:
//! `bench-model bandwidth THREADS`. For `cargo xtask bench infer`.

use std::fs::File;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result};
use kos_infer::engine::Lookup;
use kos_infer::gguf;
use kos_infer::kernels::{Isa, Keep, Pool, Zeroed};
use kos_infer::model::{Cache, Config, Decoder, Part, Wanted, Weights};

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |place: usize| -> Result<usize> {
        let text = arguments.get(place).context("FILE and four numbers")?;
        text.parse().with_context(|| format!("{text} is no number"))
    };
    if arguments.first().is_some_and(|word| word == "bandwidth") {
        println!("{}", bandwidth(number(1)?)?);
        return Ok(());
    }
    let (threads, prompt, answer, rounds) = (number(1)?, number(2)?, number(3)?, number(4)?);
    let path = arguments.first().context("FILE and four numbers")?;
    let started = Instant::now();
    let file = Arc::new(File::open(path).with_context(|| format!("open {path}"))?);
    let header = gguf::File::read(&*file, file.metadata()?.len())?;
    let config = Config::read(&header.metadata)?;
    let vocabulary = header.tensors["token_embd.weight"].shape[0];
    let decoder = Decoder::load(config, vocabulary, &Weights::new(&header, file))?;
    let pool = Pool::new(threads)?;
    let load = started.elapsed();
    let started = Instant::now();
    let mut cache = Cache::new(decoder.config(), Keep::Halves, prompt + answer + 1);
    read(&decoder, &pool, &mut cache, &[1])?;
    let first_token = started.elapsed();
    let (mut prompts, mut answers) = (Vec::new(), Vec::new());
    let mut cache_bytes = cache.bytes();
    for _ in 0..rounds {
        let tokens: Vec<u32> = (0..prompt)
            .map(|i| (i * 7919 % vocabulary) as u32)
            .collect();
        if prompt > 0 {
            cache.cut(0);
            let started = Instant::now();
            read(&decoder, &pool, &mut cache, &tokens)?;
            prompts.push(prompt as f64 / started.elapsed().as_secs_f64());
            cache_bytes = cache_bytes.max(cache.bytes());
        }
        if answer > 0 {
            cache.cut(0);
            let started = Instant::now();
            for token in 0..answer {
                read(&decoder, &pool, &mut cache, &[token as u32 + 1])?;
            }
            answers.push(answer as f64 / started.elapsed().as_secs_f64());
            cache_bytes = cache_bytes.max(cache.bytes());
        }
    }
    let peak_bytes = peak()?;
    let together = together(&decoder, &pool, answer / 4)?;
    let edit = edit(&decoder, &pool, vocabulary, answer)?;
    let report = serde_json::json!({
        "isa": Isa::best().to_string(),
        "load_ms": load.as_secs_f64() * 1e3,
        "first_token_ms": first_token.as_secs_f64() * 1e3,
        "prompt_rates": prompts,
        "answer_rates": answers,
        "together_rate": together,
        "edit_rate": edit,
        "peak_bytes": peak_bytes,
        "cache_bytes": cache_bytes,
        "weight_bytes": decoder.bytes(),
    });
    println!("{report}");
    Ok(())
}

/// The most memory that this process has had, in bytes.
fn peak() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kibibytes = peak.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    Ok(kibibytes.context("no VmHWM in /proc/self/status")? * 1024)
}

/// Tokens each second that four answers get together.
fn together(decoder: &Decoder, pool: &Pool, steps: usize) -> Result<f64> {
    let cache = || Cache::new(decoder.config(), Keep::Halves, steps + 1);
    let mut caches = [cache(), cache(), cache(), cache()];
    let started = Instant::now();
    for step in 0..steps {
        let tokens: [[u32; 1]; 4] = std::array::from_fn(|place| [(4 * step + place) as u32 + 1]);
        let mut parts: Vec<Part> = caches
            .iter_mut()
            .zip(&tokens)
            .map(|(cache, tokens)| Part {
                tokens,
                cache,
                wanted: Wanted::Last,
            })
            .collect();
        decoder.forward(pool, &mut parts)?;
    }
    Ok((4 * steps) as f64 / started.elapsed().as_secs_f64())
}

/// Tokens each second of an answer that repeats its prompt but for every twentieth token, with what comes
/// next looked up in it. What the model chooses is given, as its weights are none that could edit.
fn edit(decoder: &Decoder, pool: &Pool, vocabulary: usize, answer: usize) -> Result<f64> {
    let prompt: Vec<u32> = (0..answer)
        .map(|place| (place * 7919 % vocabulary) as u32)
        .collect();
    let mut chosen = prompt.clone();
    for token in chosen.iter_mut().skip(19).step_by(20) {
        *token = (*token + 1) % vocabulary as u32;
    }
    let mut cache = Cache::new(decoder.config(), Keep::Halves, 2 * answer + 8);
    read(decoder, pool, &mut cache, &prompt)?;
    let mut tokens = prompt;
    tokens.extend(&chosen[..1]);
    let mut lookup = Lookup::default();
    let started = Instant::now();
    while tokens.len() < 2 * answer {
        let mut next = tokens[cache.tokens()..].to_vec();
        let room = 2 * answer - tokens.len();
        next.extend_from_slice(lookup.guess(&tokens, room));
        let part = Part {
            tokens: &next,
            cache: &mut cache,
            wanted: Wanted::All,
        };
        decoder.forward(pool, &mut [part])?;
        let mut right = 0;
        let guesses = &next[1..];
        while let Some(&token) = chosen.get(tokens.len() - answer) {
            tokens.push(token);
            if guesses.get(right) != Some(&token) {
                break;
            }
            right += 1;
        }
        lookup.learn(right, guesses.len());
        cache.cut(tokens.len() - 1);
    }
    Ok((answer - 1) as f64 / started.elapsed().as_secs_f64())
}

/// Bytes each second that so many threads read, the best of nine times.
///
/// Each thread reads in eight places by turns: what fetches ahead in a processor does so for each page
/// alone, so that one place after another leaves memory idle between pages.
fn bandwidth(threads: usize) -> Result<f64> {
    const PLACES: usize = 8;
    // Far larger than any cache, in pages as large as those of weights.
    let mut memory = Zeroed::<u8>::new(1 << 29)?;
    memory.fill(1);
    let pool = Pool::new(threads)?;
    let pieces: Vec<&[u8]> = memory.chunks(1 << 18).collect();
    let mut best = 0.0_f64;
    for _ in 0..9 {
        let started = Instant::now();
        pool.run(pieces.len(), &|piece| {
            let (lines, _) = pieces[piece].as_chunks::<64>();
            let each = lines.len() / PLACES;
            let mut sums = [0_u64; 8];
            for line in 0..each {
                for place in 0..PLACES {
                    let (numbers, _) = lines[place * each + line].as_chunks::<8>();
                    for (sum, number) in sums.iter_mut().zip(numbers) {
                        *sum = sum.wrapping_add(u64::from_le_bytes(*number));
                    }
                }
            }
            std::hint::black_box(sums);
        });
        best = best.max(memory.len() as f64 / started.elapsed().as_secs_f64());
    }
    Ok(best)
}

fn read(decoder: &Decoder, pool: &Pool, cache: &mut Cache, tokens: &[u32]) -> Result<()> {
    for tokens in tokens.chunks(512) {
        let part = Part {
            tokens,
            cache,
            wanted: Wanted::Last,
        };
        decoder.forward(pool, &mut [part])?;
    }
    Ok(())
}
