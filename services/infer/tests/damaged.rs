//! Damaged, truncated and foreign files: an error that says what is wrong, never a panic, never
//! memory for what is not there.

#![allow(
    clippy::unwrap_used,
    reason = "a test says by its panic what went wrong"
)]

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kos_infer::engine::{Failure, Loaded, Refusal};
use kos_infer::gguf::{Error, File};
use kos_infer::kernels::{Keep, Pool};
use kos_infer::library::Library;
use kos_infer::model::{Cache, Config, Decoder, Part, Wanted, Weights};
use kos_infer::tokenizer::Tokenizer;

fn models() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/models")
}

fn bytes(name: &str) -> Vec<u8> {
    fs::read(models().join(name)).unwrap()
}

fn parse(bytes: &[u8]) -> Result<File, Error> {
    File::read(bytes, bytes.len() as u64)
}

fn message(bytes: &[u8]) -> String {
    parse(bytes).unwrap_err().to_string()
}

/// Loads a file with these bytes as the service would; returns the error.
fn load(bytes: &[u8]) -> String {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("m.gguf"), bytes).unwrap();
    let model = Library::new(directory.path()).find("m").unwrap();
    let failure = Loaded::load(&model, Keep::Halves, 64, |_| Ok::<_, Failure>(()))
        .err()
        .expect("it is damaged");
    assert_eq!(failure.refusal, Refusal::Internal);
    assert!(failure.text.contains("m.gguf"), "{}", failure.text);
    failure.text
}

/// Replaces the first place of `old` by `new`, of the same length.
fn replaced(name: &str, old: &[u8], new: &[u8]) -> Vec<u8> {
    assert_eq!(old.len(), new.len());
    let mut bytes = bytes(name);
    let place = bytes
        .windows(old.len())
        .position(|window| window == old)
        .unwrap();
    bytes[place..place + old.len()].copy_from_slice(new);
    bytes
}

/// A string as the format writes it.
fn string(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat()
}

/// A header of version 3 with so many tensors and entries, and what follows.
fn header(tensors: u64, entries: u64, rest: &[&[u8]]) -> Vec<u8> {
    let mut bytes = b"GGUF\x03\0\0\0".to_vec();
    bytes.extend(tensors.to_le_bytes());
    bytes.extend(entries.to_le_bytes());
    bytes.extend(rest.concat());
    bytes
}

fn tensor(name: &str, dimensions: &[u64], kind: u32, offset: u64) -> Vec<u8> {
    let mut bytes = string(name);
    bytes.extend((dimensions.len() as u32).to_le_bytes());
    dimensions
        .iter()
        .for_each(|dimension| bytes.extend(dimension.to_le_bytes()));
    bytes.extend(kind.to_le_bytes());
    bytes.extend(offset.to_le_bytes());
    bytes
}

#[test]
fn every_truncation_is_noticed() {
    for name in ["tiny-q4_0.gguf", "tiny-f32.gguf"] {
        let whole = bytes(name);
        let header = parse(&whole).unwrap().header_bytes as usize;
        for length in (0..header).chain((header..whole.len()).step_by(97)) {
            let error = message(&whole[..length]);
            assert!(
                error.contains("truncated"),
                "{name} cut to {length}: {error}"
            );
        }
        assert!(message(&whole[..whole.len() - 1]).contains("truncated"));
    }
}

#[test]
fn no_byte_of_the_header_can_do_harm() {
    let whole = bytes("tiny-q4_0.gguf");
    let header = parse(&whole).unwrap().header_bytes as usize;
    let mut refused = 0;
    for place in 0..header {
        for change in [0x01, 0x80, 0xFF] {
            let mut bytes = whole.clone();
            bytes[place] ^= change;
            // Whatever still parses must also be safe to build from.
            let Ok(file) = parse(&bytes) else {
                refused += 1;
                continue;
            };
            let _ = Config::read(&file.metadata).map(|config| config.cache_bytes(Keep::Halves, 64));
            if place % 7 == 0 {
                let _ = Tokenizer::read(&file.metadata).map(|t| t.encode("Hello <|eot_id|> 1"));
            }
        }
    }
    assert!(refused > 1000, "only {refused} changes were noticed");
}

#[test]
fn no_byte_of_the_dimensions_can_do_harm() {
    // Metadata values and tensor entries, where a change may survive the parser.
    let whole = bytes("tiny-q4_0.gguf");
    let size = parse(&whole).unwrap().header_bytes as usize;
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&whole).unwrap();
    let file = Arc::new(file);
    let tokens = whole
        .windows(21)
        .position(|w| w == b"tokenizer.ggml.tokens")
        .unwrap();
    let tensors = whole
        .windows(17)
        .position(|w| w == b"token_embd.weight")
        .unwrap();
    for place in (24..tokens).chain(tensors..size) {
        let mut bytes = whole[..size].to_vec();
        bytes[place] ^= 0x11;
        let Ok(header) = File::read(&bytes[..], whole.len() as u64) else {
            continue;
        };
        let Ok(config) = Config::read(&header.metadata) else {
            continue;
        };
        let _ = Decoder::load(config, 384, &Weights::new(&header, file.clone()));
    }
}

#[test]
fn foreign_files_are_named() {
    assert!(message(b"PK\x03\x04 and more bytes").contains("begins with \"PK\\x03\\x04\""));
    assert!(message(b"ggml\x01\0\0\0").contains("\"ggml\""));
    assert!(message(b"GGUF\x01\0\0\0").contains("version 1 is not supported, allowed: 2, 3"));
    assert!(message(b"GGUF\0\0\0\x03").contains("big-endian"));
    let error = message(b"GGUF\x09\0\0\0");
    assert!(error.contains("version 9"), "{error}");
}

#[test]
fn absurd_numbers_cost_nothing() {
    let huge = u64::MAX.to_le_bytes();
    assert!(message(&header(u64::MAX, 0, &[])).contains("tensor count"));
    assert!(message(&header(0, u64::MAX, &[])).contains("metadata count"));
    // A key, a text and an array, each of 2^64 - 1.
    assert!(message(&header(0, 1, &[&huge])).contains("metadata key 0"));
    let text = header(0, 1, &[&string("a"), &8_u32.to_le_bytes(), &huge]);
    assert!(message(&text).contains("the metadata's 'a'"));
    for kind in 0..=12_u32 {
        for count in [u64::MAX, u64::MAX / 8, 1 << 40, 5_000_000, 4_000_000] {
            let array = [9_u32.to_le_bytes(), kind.to_le_bytes()].concat();
            let bytes = header(
                0,
                1,
                &[&string("a"), &array, &count.to_le_bytes(), &[0; 64]],
            );
            assert!(
                message(&bytes).contains("the metadata's 'a'"),
                "{kind} {count}"
            );
        }
    }
    // Arrays in arrays in arrays.
    let nested = [9_u32.to_le_bytes().to_vec(), 1_u64.to_le_bytes().to_vec()].concat();
    let bytes = header(
        0,
        1,
        &[&string("a"), &9_u32.to_le_bytes(), &nested.repeat(100_000)],
    );
    assert!(message(&bytes).contains("nesting"));
    for dimensions in [
        &[u64::MAX, 2][..],
        &[1 << 40, 1 << 40],
        &[0, 5],
        &[1 << 33; 4],
        &[1; 5],
        &[],
    ] {
        let error = message(&header(1, 0, &[&tensor("t", dimensions, 0, 0), &[0; 64]]));
        assert!(
            error.contains("'t'") && error.contains("allowed"),
            "{dimensions:?}: {error}"
        );
    }
}

#[test]
fn tensors_stay_inside_the_file_and_apart() {
    let one = |dimensions: &[u64], kind, offset| {
        message(&header(
            1,
            0,
            &[&tensor("t", dimensions, kind, offset), &[0; 256]],
        ))
    };
    assert!(one(&[64], 0, u64::MAX - 31).contains("truncated or damaged"));
    assert!(one(&[64], 0, 64).contains("truncated or damaged"));
    assert!(one(&[8], 0, 3).contains("multiples of 32"));
    assert!(one(&[31], 2, 0).contains("multiples of 32"));
    assert!(one(&[32], 16, 0).contains("IQ2_XXS (number 16), allowed: F32, F16, BF16"));
    assert!(one(&[32], 99, 0).contains("number 99"));
    let two = |first: &str, second: &str, offset| {
        let tensors = [tensor(first, &[16], 0, 0), tensor(second, &[16], 0, offset)].concat();
        message(&header(2, 0, &[&tensors, &[0; 512]]))
    };
    assert!(two("a", "b", 32).contains("lies on that of tensor 'a'"));
    assert!(two("a", "a", 64).contains("listed twice"));
    let entry = [&string("k")[..], &[7, 0, 0, 0, 1]].concat();
    assert!(message(&header(0, 2, &[&entry, &entry])).contains("second time"));
    let entry = [&string("k")[..], &[7, 0, 0, 0, 2]].concat();
    assert!(message(&header(0, 1, &[&entry])).contains("allowed: 0, 1"));
    let entry = [&string("k")[..], &[13, 0, 0, 0]].concat();
    assert!(message(&header(0, 1, &[&entry])).contains("allowed: 0 to 12"));
}

#[test]
fn models_that_the_engine_cannot_run_say_why() {
    let architecture = replaced(
        "tiny-q4_0.gguf",
        b"\x05\0\0\0\0\0\0\0llama",
        b"\x05\0\0\0\0\0\0\0rwkv7",
    );
    assert!(load(&architecture).contains("architecture is 'rwkv7', allowed: llama, mistral"));
    let tokenizer = replaced(
        "tiny-q4_0.gguf",
        b"\x04\0\0\0\0\0\0\0gpt2",
        b"\x04\0\0\0\0\0\0\0bort",
    );
    assert!(load(&tokenizer).contains("'bort', allowed: gpt2, llama, bert"));
    let splitting = replaced("tiny-q4_0.gguf", b"llama-bpe", b"other-bpe");
    assert!(load(&splitting).contains("'other-bpe', allowed: llama-bpe"));
    let missing = replaced(
        "tiny-q4_0.gguf",
        b"blk.1.attn_k.weight",
        b"blk.1.attn_z.weight",
    );
    assert!(load(&missing).contains("no tensor 'blk.1.attn_k.weight'"));
    let key = replaced("tiny-q4_0.gguf", b"llama.block_count", b"llama.block_kount");
    assert!(load(&key).contains("no 'llama.block_count'"));
    let template = replaced("tiny-q4_0.gguf", b"{% for message", b"{% fur message");
    assert!(load(&template).contains("chat template"));
    let heads = replaced(
        "tiny-q4_0.gguf",
        b"head_count_kv\x04\0\0\0\x02\0\0\0",
        b"head_count_kv\x04\0\0\0\x03\0\0\0",
    );
    assert!(load(&heads).contains("head_count_kv is 3, allowed: a divisor of the 4 heads"));
    let shape = replaced(
        "tiny-q4_0.gguf",
        b"feed_forward_length\x04\0\0\0\x80",
        b"feed_forward_length\x04\0\0\0\x40",
    );
    assert!(load(&shape).contains("has the shape [128, 64], allowed: [64, 64]"));
}

#[test]
fn weights_that_are_no_numbers_are_noticed() {
    let whole = bytes("tiny-f32.gguf");
    let header = parse(&whole).unwrap();
    let norm = &header.tensors["output_norm.weight"];
    let mut bytes = whole.clone();
    let start = norm.offset as usize;
    bytes[start..start + 4].copy_from_slice(&f32::NAN.to_le_bytes());
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&bytes).unwrap();
    let config = Config::read(&header.metadata).unwrap();
    let vocabulary = Tokenizer::read(&header.metadata)
        .unwrap()
        .vocabulary()
        .len();
    let weights = Weights::new(&header, Arc::new(file));
    let decoder = Decoder::load(config, vocabulary, &weights).unwrap();
    let mut cache = Cache::new(decoder.config(), Keep::Halves, 8);
    let part = Part {
        tokens: &[1],
        cache: &mut cache,
        wanted: Wanted::Last,
    };
    let pool = Pool::new(1).unwrap();
    let error = decoder.forward(&pool, &mut [part]).unwrap_err().to_string();
    assert!(error.contains("no finite number"), "{error}");
}
