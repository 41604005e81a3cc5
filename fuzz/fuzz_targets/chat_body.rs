//! Bodies of the routes that answer: each is refused in words, or is a request in range.

#![no_main]

use kos_infer::http::check_body;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    // The first byte is the route.
    let Some((route, body)) = data.split_first() else {
        return;
    };
    let path = match route {
        b'o' => "/api/chat",
        b'g' => "/api/generate",
        b'v' => "/v1/chat/completions",
        _ => "/v1/completions",
    };
    if let Err(text) = check_body(path, body) {
        assert!(!text.is_empty());
    }
});
