//! A model of several files from anywhere: they are refused in words, or every tensor is inside its
//! file, the tokenizer takes any text, and the weights are found or missed by name.

#![no_main]

use std::os::fd::{AsRawFd, OwnedFd};

use kos_infer::model::{Config, Decoder, Encoder, EncoderConfig};
use kos_infer::safetensors::{Files, Package};
use kos_sys::sockets::memfd_sealed;
use libfuzzer_sys::fuzz_target;

/// The files as they stand in an input, each but the last with a zero byte behind it; an empty one
/// is not there.
const NAMES: [&str; 6] = [
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "modules.json",
    "1_Pooling/config.json",
    "model.safetensors",
];

fuzz_target!(|data: &[u8]| {
    let mut held: Vec<OwnedFd> = Vec::new();
    let mut files = Files::new();
    let mut length = 0;
    for (name, bytes) in NAMES
        .iter()
        .zip(data.splitn(NAMES.len(), |&byte| byte == 0))
    {
        if bytes.is_empty() {
            continue;
        }
        let bytes = if name.ends_with(".safetensors") {
            weights(bytes)
        } else {
            bytes.to_vec()
        };
        length = bytes.len() as u64;
        let file = memfd_sealed(name, &bytes).expect("memory for a file of some kilobytes");
        files.insert(
            (*name).to_owned(),
            format!("/proc/self/fd/{}", file.as_raw_fd()).into(),
        );
        held.push(file);
    }
    let package = match Package::open(&files) {
        Ok(package) => package,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return;
        }
    };
    for (name, tensor) in package.tensors() {
        let end = tensor.offset.checked_add(tensor.bytes);
        assert!(end.is_some_and(|end| end <= length), "{name}: {tensor:?}");
    }
    let tokenizer = match package.tokenizer() {
        Ok(tokenizer) => tokenizer,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return;
        }
    };
    let count = tokenizer.vocabulary().len();
    for text in [
        "Hello, w\u{f6}rld!  It's 1234\n\n",
        "\u{2581}\u{feff}\u{1f600}<|end|></s>",
        "",
    ] {
        if let Ok(tokens) = tokenizer.encode(text) {
            assert!(tokens.iter().all(|&token| (token as usize) < count));
        }
    }
    // As the engine does before the first request.
    if let Ok(config) = EncoderConfig::read(package.metadata()) {
        let _ = Encoder::load(config, count, &package);
    } else if let Ok(config) = Config::read(package.metadata()) {
        let _ = Decoder::load(config.with_halves(), count, &package);
    }
});

/// A header that begins with its JSON gets its length put before it, because chance seldom mends that.
fn weights(bytes: &[u8]) -> Vec<u8> {
    if bytes[0] != b'{' {
        return bytes.to_vec();
    }
    let length = bytes
        .iter()
        .position(|&byte| byte == 0)
        .unwrap_or(bytes.len());
    [&(length as u64).to_le_bytes()[..], bytes].concat()
}
