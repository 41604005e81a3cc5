//! A client's JSON Schema: it is refused in words or makes a grammar, in bounded time and memory;
//! and whatever bytes the grammar takes, it can be completed to JSON.

#![no_main]

use std::sync::Arc;

use kos_infer::constrain::{Constraint, Document, Grammar, Piece, Pieces};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    // On the first line the schema, behind it the bytes that a model would like to write.
    let (schema, wishes) = match data.iter().position(|&byte| byte == b'\n') {
        Some(end) => (&data[..end], &data[end + 1..]),
        None => (data, data),
    };
    let Ok(schema) = serde_json::from_slice::<Document>(schema) else {
        return;
    };
    let grammar = match Grammar::schema(&schema) {
        Ok(grammar) => Arc::new(grammar),
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return;
        }
    };
    let bytes = (0..=255_u8).map(|byte| Piece::Text(vec![byte]));
    let pieces = Arc::new(Pieces::new(bytes.chain([Piece::End])));
    let mut constraint = Constraint::new(grammar, pieces);
    let mut text = Vec::new();
    for &byte in wishes.iter().take(256) {
        let mut logits = [0.0; 257];
        assert!(constraint.mask(&mut logits));
        let allowed = logits[usize::from(byte)] == 0.0;
        assert_eq!(constraint.accept(byte.into()), allowed);
        if allowed {
            text.push(byte);
        }
    }
    if let Some(rest) = constraint.close() {
        text.extend(rest);
        if let Err(error) = serde_json::from_slice::<serde::de::IgnoredAny>(&text) {
            panic!("{error}: {}", String::from_utf8_lossy(&text));
        }
    }
});
