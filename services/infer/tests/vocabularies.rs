//! Tokenizers against llama.cpp's own expectations: the texts of its `models/ggml-vocab-*.gguf.inp` and
//! the tokens of the `.out` beside them.
//!
//! The vocabularies in `tests/models/vocabularies` are cut down to what these texts can touch (see
//! `reduce.py` there), so that they are small. With `KOS_VOCABULARIES=DIR` the same is done with the
//! whole vocabularies of llama.cpp's `models` directory:
//!
//!     KOS_VOCABULARIES=…/llama.cpp/models cargo test -p kos-infer --test vocabularies

#![allow(
    clippy::unwrap_used,
    reason = "a test says by its panic what went wrong"
)]

use std::path::{Path, PathBuf};

use kos_infer::gguf;
use kos_infer::tokenizer::{Tokenizer, Utf8Stream};

const SEPARATOR: &str = "\n__ggml_vocab_test__\n";

fn directory() -> PathBuf {
    match std::env::var_os("KOS_VOCABULARIES") {
        Some(directory) => directory.into(),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/models/vocabularies"),
    }
}

/// Name, texts, and the tokens of each text.
type Vocabulary = (String, Vec<String>, Vec<Vec<u32>>);

fn vocabularies() -> Vec<Vocabulary> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory()).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let Some(name) = name.strip_suffix(".gguf.out") else {
            continue;
        };
        let own = path.with_file_name(format!("{name}.gguf.inp"));
        let shared = path.with_file_name("texts.inp");
        let texts = std::fs::read_to_string(if own.exists() { own } else { shared }).unwrap();
        let mut texts: Vec<_> = texts.split(SEPARATOR).map(str::to_owned).collect();
        let tokens = std::fs::read_to_string(&path).unwrap();
        let line = |line: &str| {
            line.split_whitespace()
                .map(|n| n.parse().unwrap())
                .collect()
        };
        let tokens: Vec<Vec<u32>> = tokens.lines().map(line).collect();
        // Some files have the separator after the last text, too.
        if texts.len() == tokens.len() + 1 && texts.last().is_some_and(String::is_empty) {
            texts.pop();
        }
        assert_eq!(texts.len(), tokens.len(), "{name}");
        found.push((name.to_owned(), texts, tokens));
    }
    assert!(found.len() >= 14, "{} vocabularies", found.len());
    found.sort();
    found
}

fn tokenizer(name: &str) -> Tokenizer {
    let bytes = std::fs::read(directory().join(format!("{name}.gguf"))).unwrap();
    let header = gguf::File::read(bytes.as_slice(), bytes.len() as u64).unwrap();
    Tokenizer::read(&header.metadata).unwrap()
}

#[test]
fn texts_become_the_tokens_that_llama_cpp_makes() {
    let mut wrong = Vec::new();
    for (name, texts, expected) in vocabularies() {
        let tokenizer = tokenizer(&name);
        for (text, expected) in texts.iter().zip(&expected) {
            let found = tokenizer.encode_part(text, false).unwrap();
            if found != *expected {
                wrong.push(format!("{name} {text:?}\n  {found:?}\n  {expected:?}"));
            }
        }
        println!("{name}: {} texts", texts.len());
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What loses nothing gives the text back: all but WordPiece.
#[test]
fn tokens_become_the_texts_again() {
    for (name, texts, expected) in vocabularies() {
        if name.contains("bert") {
            continue;
        }
        let tokenizer = tokenizer(&name);
        // SentencePiece puts a space before a text.
        let prefix = match name.as_str() {
            "ggml-vocab-llama-spm" | "ggml-vocab-phi-3" | "ggml-vocab-baichuan" => " ",
            _ => "",
        };
        for (text, tokens) in texts
            .iter()
            .zip(&expected)
            .filter(|(text, _)| !text.is_empty())
        {
            let mut stream = Utf8Stream::default();
            let mut found: String = tokens
                .iter()
                .map(|&token| stream.push(&tokenizer.bytes(token)))
                .collect();
            found += &stream.finish();
            assert_eq!(found, [prefix, text].concat(), "{name}");
        }
    }
}

/// A million characters in one word are a lot of work, but work in proportion to their number.
#[test]
fn a_text_without_a_space_is_no_trouble() {
    for (name, ..) in vocabularies() {
        let tokenizer = tokenizer(&name);
        for word in ["a", "ab", "1", "!", "你", "\u{1F600}"] {
            let text = word.repeat(1_000_000 / word.len());
            let started = std::time::Instant::now();
            let tokens = tokenizer.encode(&text).unwrap();
            assert!(!tokens.is_empty(), "{name} {word:?}");
            println!("{name} {word:?}: {} ms", started.elapsed().as_millis());
        }
    }
}
