//! A chat template out of a model's file, and a conversation: it is refused, fails, or makes a prompt, in
//! bounded time and memory.

#![no_main]

use kos_infer::template::{Conversation, Message, Template, describe};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

fuzz_target!(|data: &[u8]| {
    // Behind the template come the messages.
    let (source, said) = match data.iter().position(|&byte| byte == 0) {
        Some(end) => (&data[..end], &data[end + 1..]),
        None => (data, &[][..]),
    };
    let Ok(source) = std::str::from_utf8(source) else {
        return;
    };
    let template = match Template::compile(source, ("<s>", "</s>")) {
        Ok(template) => template,
        Err(error) => {
            assert!(!describe(&error).is_empty());
            return;
        }
    };
    let said: Vec<Value> = serde_json::from_slice(said).unwrap_or_default();
    let text = |message: &Value, key: &str| message[key].as_str().unwrap_or_default().to_owned();
    let messages = said.iter().map(|message| Message {
        role: text(message, "role"),
        content: text(message, "content"),
        tool_calls: message["tool_calls"]
            .as_array()
            .cloned()
            .unwrap_or_default(),
        ..Message::default()
    });
    let conversation = Conversation {
        messages: messages.collect(),
        tools: said
            .iter()
            .filter(|message| message["tool"].is_object())
            .cloned()
            .collect(),
        think: said.first().and_then(|message| message["think"].as_bool()),
    };
    if let Err(error) = template.render(&conversation) {
        assert!(!describe(&error).is_empty());
    }
});
