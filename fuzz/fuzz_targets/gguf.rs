//! A model's file from anywhere: its header is refused in words, or everything that it names is inside the
//! file; and a tokenizer that comes out of it takes any text.

#![no_main]

use kos_infer::gguf::File;
use kos_infer::model::Config;
use kos_infer::tokenizer::Tokenizer;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let file = match File::read(data, data.len() as u64) {
        Ok(file) => file,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return;
        }
    };
    for tensor in file.tensors.values() {
        let end = tensor.offset.checked_add(tensor.bytes);
        assert!(
            end.is_some_and(|end| end <= data.len() as u64),
            "{tensor:?}"
        );
    }
    if let Ok(config) = Config::read(&file.metadata) {
        // As the engine does before it loads.
        let _ = config.cache_bytes(kos_infer::kernels::Keep::Halves, 4096.min(config.context));
    }
    let Ok(tokenizer) = Tokenizer::read(&file.metadata) else {
        return;
    };
    let count = tokenizer.vocabulary().len() as u32;
    for text in [
        "Hello, w\u{f6}rld!  It's 1234\n\n",
        "\u{2581}\u{feff}\u{1f600}<|end|></s>",
        "",
    ] {
        if let Ok(tokens) = tokenizer.encode(text) {
            assert!(tokens.iter().all(|&token| token < count));
        }
    }
    for token in 0..count.saturating_add(2) {
        let _ = tokenizer.bytes(token);
    }
});
