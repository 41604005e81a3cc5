//! Models as Hugging Face stores them, against `transformers` and `tokenizers`: tokens, greedy answers and
//! vectors.
//!
//! With `KOS_SENTENCES=DIR` an embedding model that somebody published is looked at, too:
//! `expected/packages/sentences.py DIR` writes what is expected of it into its directory.

#![allow(
    clippy::unwrap_used,
    reason = "a test says by its panic what went wrong"
)]

mod fixture;

use std::path::Path;

use fixture::{Expected, Text, distance};
use kos_infer::gguf::Value;
use kos_infer::kernels::{Keep, Pool};
use kos_infer::library::{Library, Opened};
use kos_infer::model::pooling::Pooled;
use kos_infer::model::{Cache, Decoder, Encoder, EncoderConfig, Part, Pooling, Tensors, Wanted};
use kos_infer::tokenizer::Tokenizer;

/// The decoders of `expected/packages`.
const DECODERS: [&str; 7] = [
    "llama", "mistral", "qwen2", "qwen3", "gemma2", "gemma3", "phi3",
];
const ENCODERS: [&str; 2] = ["bert", "bert-first"];

/// Largest difference of a vector's number.
const TOLERANCE: f32 = 1e-4;

/// Writes a model, and opens it by its name.
fn open(name: &str) -> (Expected, Opened, tempfile::TempDir) {
    let expected = Expected::read(name);
    let models = tempfile::tempdir().unwrap();
    for (file, bytes) in expected.files() {
        let path = models.path().join(name).join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
    let opened = Library::new(models.path()).find(name).unwrap().open();
    (expected, opened.unwrap(), models)
}

fn encoder(opened: &Opened) -> (Tokenizer, Encoder) {
    let tokenizer = opened.tokenizer().unwrap();
    let config = EncoderConfig::read(opened.metadata()).unwrap();
    let encoder = Encoder::load(config, tokenizer.vocabulary().len(), opened).unwrap();
    (tokenizer, encoder)
}

fn states(decoder: &Decoder, tokens: &[u32]) -> Vec<f32> {
    let mut cache = Cache::new(decoder.config(), Keep::Floats, tokens.len());
    let part = Part {
        tokens,
        cache: &mut cache,
        wanted: Wanted::All,
    };
    let pool = Pool::new(2).unwrap();
    decoder.states(&pool, &mut [part]).unwrap()
}

#[test]
fn texts_become_the_same_tokens() {
    for name in [&DECODERS[..], &ENCODERS].concat() {
        let (expected, opened, _models) = open(name);
        let tokenizer = opened.tokenizer().unwrap();
        for Text { text, tokens, .. } in &expected.texts {
            assert_eq!(tokenizer.encode(text).unwrap(), *tokens, "{name}: {text:?}");
        }
        if !expected.prompt.is_empty() {
            let found = tokenizer.encode(&expected.prompt).unwrap();
            assert_eq!(found, expected.prompt_tokens, "{name}");
        }
    }
}

#[test]
fn greedy_tokens_are_equal() {
    let pool = Pool::new(2).unwrap();
    for name in DECODERS {
        let (expected, opened, _models) = open(name);
        let vocabulary = opened.tokenizer().unwrap().vocabulary().len();
        let decoder = Decoder::load(opened.decoder().unwrap(), vocabulary, &opened).unwrap();
        let mut cache = Cache::new(decoder.config(), Keep::Floats, 512);
        let mut tokens = expected.prompt_tokens.clone();
        while tokens.len() < expected.prompt_tokens.len() + expected.greedy.len() {
            let part = Part {
                tokens: &tokens[cache.tokens()..],
                cache: &mut cache,
                wanted: Wanted::Last,
            };
            let logits = decoder.forward(&pool, &mut [part]).unwrap();
            let best = (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b]));
            tokens.push(best.unwrap() as u32);
        }
        assert_eq!(
            tokens[expected.prompt_tokens.len()..],
            expected.greedy,
            "{name}"
        );
    }
}

#[test]
fn the_mean_of_a_decoders_states_is_equal() {
    for name in DECODERS {
        let (expected, opened, _models) = open(name);
        let vocabulary = opened.tokenizer().unwrap().vocabulary().len();
        let decoder = Decoder::load(opened.decoder().unwrap(), vocabulary, &opened).unwrap();
        for text in &expected.texts {
            let mut pooled = Pooled::new(Pooling::Mean, decoder.config().embedding);
            pooled.add(&states(&decoder, &text.tokens));
            let found = distance(&pooled.finish(None).unwrap(), &text.vector);
            assert!(found < TOLERANCE, "{name}: {found} for {:?}", text.text);
        }
    }
}

#[test]
fn an_encoders_vectors_are_equal_alone_and_together() {
    let pool = Pool::new(2).unwrap();
    for name in ENCODERS {
        let (expected, opened, _models) = open(name);
        let (_, encoder) = encoder(&opened);
        assert_eq!(encoder.config().context, expected.context);
        let cut = |tokens: &[u32]| -> Vec<u32> {
            let (last, most) = (*tokens.last().unwrap(), expected.context);
            match tokens.len() > most {
                true => [&tokens[..most - 1], &[last]].concat(),
                false => tokens.to_vec(),
            }
        };
        let texts: Vec<_> = expected
            .texts
            .iter()
            .map(|text| cut(&text.tokens))
            .collect();
        let texts: Vec<_> = texts.iter().map(Vec::as_slice).collect();
        let together = encoder.forward(&pool, &texts).unwrap();
        for ((text, tokens), together) in expected.texts.iter().zip(texts).zip(together) {
            let alone = encoder.forward(&pool, &[tokens]).unwrap().pop().unwrap();
            for found in [alone, together] {
                let found = distance(&found.finish(None).unwrap(), &text.vector);
                assert!(found < TOLERANCE, "{name}: {found} for {:?}", text.text);
            }
        }
    }
}

/// An opened model as a GGUF file of 32-bit floats, without a vocabulary.
fn gguf(opened: &Opened) -> Vec<u8> {
    let string = |text: &str| [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat();
    let tensors: Vec<_> = opened
        .tensors()
        .into_iter()
        .map(|(name, ..)| name)
        .collect();
    let metadata: Vec<_> = opened.metadata().iter().collect();
    let mut bytes = b"GGUF\x03\0\0\0".to_vec();
    bytes.extend((tensors.len() as u64).to_le_bytes());
    bytes.extend((metadata.len() as u64).to_le_bytes());
    for (key, value) in metadata {
        bytes.extend(string(key));
        let (kind, value) = match value {
            Value::Unsigned(number) => (10_u32, number.to_le_bytes().to_vec()),
            Value::Float(number) => (12, number.to_le_bytes().to_vec()),
            Value::Bool(truth) => (7, vec![u8::from(*truth)]),
            Value::String(text) => (8, string(text)),
            other => panic!("{other:?}"),
        };
        bytes.extend([&kind.to_le_bytes()[..], &value].concat());
    }
    let mut data = Vec::new();
    for name in tensors {
        let shape = opened.find(name).unwrap().shape;
        bytes.extend(string(name));
        bytes.extend((shape.len() as u32).to_le_bytes());
        let sizes = shape.iter().rev();
        sizes.for_each(|&size| bytes.extend((size as u64).to_le_bytes()));
        bytes.extend(0_u32.to_le_bytes());
        bytes.extend((data.len() as u64).to_le_bytes());
        let columns = *shape.last().unwrap();
        let rows = shape.iter().product::<usize>() / columns;
        let mut row = vec![0.0; columns];
        for place in 0..rows {
            match shape.len() {
                1 => row = opened.vector(name, columns).unwrap(),
                _ => opened
                    .matrix(name, rows, columns)
                    .unwrap()
                    .row(place, &mut row)
                    .unwrap(),
            }
            data.extend(row.iter().flat_map(|number| number.to_le_bytes()));
        }
        data.resize(data.len().next_multiple_of(32), 0);
    }
    bytes.resize(bytes.len().next_multiple_of(32), 0);
    [bytes, data].concat()
}

#[test]
fn an_encoder_from_gguf_makes_the_same_vectors() {
    let pool = Pool::new(2).unwrap();
    for name in ENCODERS {
        let (expected, opened, models) = open(name);
        std::fs::write(models.path().join("same.gguf"), gguf(&opened)).unwrap();
        let same = Library::new(models.path())
            .find("same")
            .unwrap()
            .open()
            .unwrap();
        assert_eq!(same.format(), "gguf");
        let config = EncoderConfig::read(same.metadata()).unwrap();
        let vocabulary = opened.tokenizer().unwrap().vocabulary().len();
        let encoder = Encoder::load(config, vocabulary, &same).unwrap();
        let short = |text: &&Text| text.tokens.len() <= expected.context;
        for text in expected.texts.iter().filter(short) {
            let mut found = encoder.forward(&pool, &[&text.tokens]).unwrap();
            let found = distance(&found.pop().unwrap().finish(None).unwrap(), &text.vector);
            assert!(found < TOLERANCE, "{name}: {found} for {:?}", text.text);
        }
    }
}

/// What is missing, too short or of another type is an error that says so, never a panic.
#[test]
fn damaged_packages_are_refused() {
    let load = |directory: &Path| -> Result<(), String> {
        let model = Library::new(directory)
            .find("m")
            .map_err(|e| e.to_string())?;
        let opened = model.open().map_err(|error| error.to_string())?;
        let tokenizer = opened.tokenizer().map_err(|error| error.to_string())?;
        let config = opened.decoder().map_err(|error| error.to_string())?;
        let vocabulary = tokenizer.vocabulary().len();
        let loaded = Decoder::load(config, vocabulary, &opened);
        loaded.map(|_| ()).map_err(|error| error.to_string())
    };
    let files = Expected::read("llama").files();
    let broken = |name: &str, change: &dyn Fn(&mut Vec<u8>)| {
        let models = tempfile::tempdir().unwrap();
        let directory = models.path().join("m");
        std::fs::create_dir(&directory).unwrap();
        for (file, bytes) in &files {
            let mut bytes = bytes.clone();
            if file == name {
                change(&mut bytes);
            }
            if !bytes.is_empty() {
                std::fs::write(directory.join(file), bytes).unwrap();
            }
        }
        load(models.path())
    };
    assert_eq!(broken("", &|_| {}), Ok(()));
    let first = "model-00001-of-00002.safetensors";
    for (name, part) in [
        ("config.json", "not found"),
        ("tokenizer.json", "no file 'tokenizer.json'"),
        (first, "no file 'model-00001-of-00002.safetensors'"),
    ] {
        let text = broken(name, &Vec::clear).unwrap_err();
        assert!(text.contains(part), "{name}: {text}");
    }
    let text = broken(first, &|bytes| bytes.truncate(bytes.len() - 1)).unwrap_err();
    assert!(text.contains("allowed: within the file's"), "{text}");
    let replace = |from: &'static str, to: &'static str| {
        move |bytes: &mut Vec<u8>| {
            let text = String::from_utf8(bytes.clone()).unwrap();
            assert!(text.contains(from));
            *bytes = text.replace(from, to).into_bytes();
        }
    };
    for (from, to, part) in [
        ("\"hidden_size\":64", "\"hidden_size\":72", "the shape"),
        (
            "\"vocab_size\":400",
            "\"vocab_size\":300",
            "the count of tokens",
        ),
        (
            "\"num_attention_heads\":4",
            "\"num_attention_heads\":0",
            "head_count",
        ),
        ("LlamaForCausalLM", "OtherForCausalLM", "OtherForCausalLM"),
    ] {
        let text = broken("config.json", &replace(from, to)).unwrap_err();
        assert!(text.contains(part), "{to}: {text}");
    }
    let text = broken("tokenizer.json", &|bytes| bytes.truncate(99)).unwrap_err();
    assert!(
        text.contains("tokenizer.json: it is no tokenizer"),
        "{text}"
    );
    // Anything may stand in a header.
    for place in 0..2000 {
        let _ = broken(first, &|bytes| bytes[place] ^= 1 << (place % 8));
    }
}

/// What `sentences.py` wrote.
#[derive(serde::Deserialize)]
struct Sentences {
    texts: Vec<Text>,
}

#[test]
#[ignore = "needs a published model: KOS_SENTENCES=DIR"]
fn a_published_model_makes_the_same_vectors() {
    let directory = std::env::var_os("KOS_SENTENCES").expect("KOS_SENTENCES=DIR");
    let directory = Path::new(&directory).canonicalize().unwrap();
    let expected = std::fs::read_to_string(directory.join("expected.json")).unwrap();
    let expected: Sentences = serde_json::from_str(&expected).unwrap();
    let name = directory.file_name().unwrap().to_str().unwrap();
    let library = Library::new(directory.parent().unwrap());
    let opened = library.find(name).unwrap().open().unwrap();
    let (tokenizer, encoder) = encoder(&opened);
    let pool = Pool::new(2).unwrap();
    let (mut worst, mut tokens) = (0.0_f32, 0);
    let started = std::time::Instant::now();
    for text in &expected.texts {
        let mut found = tokenizer.encode(&text.text).unwrap();
        if found.len() > encoder.config().context {
            let most = encoder.config().context - tokenizer.after().len();
            found.truncate(most);
            found.extend(tokenizer.after());
        }
        assert_eq!(found, text.tokens, "{:?}", text.text);
        tokens += found.len();
        let mut vectors = encoder.forward(&pool, &[&found]).unwrap();
        let vector = vectors.pop().unwrap().finish(None).unwrap();
        worst = worst.max(distance(&vector, &text.vector));
    }
    println!(
        "{} texts, {tokens} tokens, {} ms: the worst difference of a number is {worst:.1e}",
        expected.texts.len(),
        started.elapsed().as_millis()
    );
    assert!(worst < 1e-3, "{worst}");
}
