//! OpenAI's routes.

use serde_json::{Value, json};

use super::fixture::Service;

fn chat(more: Value) -> Value {
    let mut body = json!({
        "model": "tiny-q4_0",
        "messages": [
            {"role": "developer", "content": "be kind"},
            {"role": "user", "content": [{"type": "text", "text": "hello"}]},
        ],
        "temperature": 0,
        "max_completion_tokens": 8,
    });
    let more = more.as_object().unwrap().clone();
    body.as_object_mut().unwrap().extend(more);
    body
}

/// The events of a stream, which must end as it should.
fn events(text: &str) -> Vec<Value> {
    let data = text
        .split_terminator("\n\n")
        .map(|e| e.strip_prefix("data: ").unwrap());
    let mut data: Vec<_> = data.collect();
    assert_eq!(data.pop(), Some("[DONE]"), "{text}");
    data.into_iter()
        .map(|e| serde_json::from_str(e).unwrap())
        .collect()
}

#[test]
fn a_chat_is_the_same_streamed_whole_and_by_ollamas_route() {
    let service = Service::start(&[]);
    let (status, whole) = service.post("/v1/chat/completions", &chat(json!({})));
    assert_eq!(status, 200, "{whole}");
    assert_eq!(whole["object"], "chat.completion");
    let said = whole["choices"][0]["message"]["content"].as_str().unwrap();
    assert_eq!(whole["choices"][0]["finish_reason"], "length");
    assert_eq!(whole["usage"]["completion_tokens"], 8);

    let wanted = chat(json!({"stream": true, "stream_options": {"include_usage": true}}));
    let (status, text) = service.call(
        "POST",
        "/v1/chat/completions",
        wanted.to_string().as_bytes(),
    );
    assert_eq!(status, 200, "{text}");
    let events = events(&text);
    let (usage, chunks) = events.split_last().unwrap();
    assert_eq!(usage["usage"], whole["usage"]);
    assert_eq!(usage["choices"], json!([]));
    let delta = |chunk: &Value| chunk["choices"][0]["delta"].clone();
    assert_eq!(delta(&chunks[0])["role"], "assistant");
    let texts = chunks
        .iter()
        .filter_map(|c| Some(delta(c)["content"].as_str()?.to_owned()));
    assert_eq!(texts.collect::<String>(), said);
    assert_eq!(
        chunks.last().unwrap()["choices"][0]["finish_reason"],
        "length"
    );

    let ollama = json!({
        "model": "tiny-q4_0", "stream": false,
        "messages": [
            {"role": "system", "content": "be kind"},
            {"role": "user", "content": "hello"},
        ],
        "options": {"temperature": 0, "num_predict": 8},
    });
    let (_, same) = service.post("/api/chat", &ollama);
    assert_eq!(same["message"]["content"], said);
}

#[test]
fn probabilities_add_up_and_the_likeliest_was_chosen() {
    let service = Service::start(&[]);
    let wanted = chat(json!({"logprobs": true, "top_logprobs": 3}));
    let (status, answer) = service.post("/v1/chat/completions", &wanted);
    assert_eq!(status, 200, "{answer}");
    let tokens = answer["choices"][0]["logprobs"]["content"]
        .as_array()
        .unwrap();
    assert_eq!(tokens.len(), 8);
    let mut bytes = Vec::new();
    for token in tokens {
        let top = token["top_logprobs"].as_array().unwrap();
        assert_eq!(top.len(), 3);
        assert_eq!(top[0]["token"], token["token"]);
        assert_eq!(top[0]["logprob"], token["logprob"]);
        let sum: f64 = top
            .iter()
            .map(|t| t["logprob"].as_f64().unwrap().exp())
            .sum();
        assert!(sum > 0.0 && sum <= 1.0 + 1e-5, "{sum}");
        bytes.extend(
            token["bytes"]
                .as_array()
                .unwrap()
                .iter()
                .map(|b| b.as_u64().unwrap() as u8),
        );
    }
    let said = answer["choices"][0]["message"]["content"].as_str().unwrap();
    assert_eq!(String::from_utf8_lossy(&bytes), said);
}

#[test]
fn models_are_listed_and_errors_are_in_openais_words() {
    let service = Service::start(&[]);
    let list = service.get("/v1/models");
    assert_eq!(list["data"].as_array().unwrap().len(), 3);
    assert_eq!(
        service.get("/v1/models/tiny-q4_0")["id"],
        "tiny-q4_0:latest"
    );
    let error = |path: &str, body: Value| {
        let (status, answer) = service.post(path, &body);
        let error = &answer["error"];
        assert!(
            error["message"].is_string() && error["type"].is_string(),
            "{answer}"
        );
        (
            status,
            error["code"].clone(),
            error["message"].as_str().unwrap().to_owned(),
        )
    };
    let (status, code, _) = error("/v1/chat/completions", chat(json!({"model": "none"})));
    assert_eq!((status, code), (404, json!("model_not_found")));
    let long = json!({"messages": [{"role": "user", "content": "long ".repeat(3000)}]});
    let (status, code, _) = error("/v1/chat/completions", chat(long));
    assert_eq!((status, code), (400, json!("context_length_exceeded")));
    for (more, part) in [
        (json!({"temperature": "hot"}), "temperature: invalid type"),
        (json!({"top_p": 7}), "top_p is 7, allowed"),
        (json!({"n": 2}), "n is 2, allowed: 1"),
        (
            json!({"max_tokens": 0, "max_completion_tokens": null}),
            "max_tokens is 0",
        ),
        (json!({"messages": []}), "0 messages"),
        (json!({"messages": [{"role": "king"}]}), "\"king\""),
        (
            json!({"messages": [{"role": "user", "content": 5}]}),
            "messages[0].content",
        ),
        (json!({"top_logprobs": 2}), "top_logprobs needs"),
        (
            json!({"logit_bias": {"x": 1}}),
            "logit_bias has the key \"x\"",
        ),
        (
            json!({"response_format": {"type": "xml"}}),
            "response_format",
        ),
    ] {
        let (status, _, text) = error("/v1/chat/completions", chat(more.clone()));
        assert_eq!(status, 400, "{more}: {text}");
        assert!(text.contains(part), "{more}: {text}");
    }
    let (status, _, _) = error("/v1/nothing", json!({}));
    assert_eq!(status, 404);
    let embeddings = json!({"model": "tiny-q4_0", "input": "x", "encoding_format": "hex"});
    let (status, _, text) = error("/v1/embeddings", embeddings);
    assert_eq!(status, 400);
    assert!(text.contains("encoding_format is \"hex\""), "{text}");
}

#[test]
fn a_completion_goes_on_from_its_prompt() {
    let service = Service::start(&[]);
    let body = json!({"model": "tiny-q4_0", "prompt": "Hello", "temperature": 0, "max_tokens": 8});
    let (status, answer) = service.post("/v1/completions", &body);
    assert_eq!(status, 200, "{answer}");
    let ollama = json!({
        "model": "tiny-q4_0", "prompt": "Hello", "raw": true, "stream": false,
        "options": {"temperature": 0, "num_predict": 8},
    });
    let (_, same) = service.post("/api/generate", &ollama);
    assert_eq!(answer["choices"][0]["text"], same["response"]);
    assert_eq!(answer["object"], "text_completion");
}

/// A model whose template knows tools, in the way that `mark` tells.
fn with_tools(service: &Service, mark: &str) -> &'static str {
    let template = format!(
        "{{% for m in messages %}}{{{{ m.role }}}}: {{{{ m.content }}}}\n{{% endfor %}}\
         {{% for t in tools or [] %}}{{{{ t.function.name }}}}{{{{ {mark:?} }}}}{{% endfor %}}"
    );
    let made =
        json!({"model": "tools", "from": "tiny-q4_0", "template": template, "stream": false});
    let (status, answer) = service.post("/api/create", &made);
    assert_eq!(status, 200, "{answer}");
    "tools"
}

fn tools() -> Value {
    let tool = |name: &str, properties: Value| {
        let required: Vec<_> = properties.as_object().unwrap().keys().cloned().collect();
        json!({"type": "function", "function": {"name": name, "parameters": {
            "type": "object", "properties": properties, "required": required,
        }}})
    };
    json!([
        tool(
            "weather",
            json!({"room": {"enum": ["hall", "kitchen"]}, "days": {"type": "integer", "maximum": 9, "minimum": 1}})
        ),
        tool("light", json!({"on": {"type": "boolean"}})),
    ])
}

/// A model of random weights calls a tool, when it has to, in the way that its template knows.
#[test]
fn a_tool_is_called_when_it_has_to_be() {
    let service = Service::start(&[]);
    let mut whole = 0;
    for mark in ["", "<tool_call>", "[TOOL_CALLS]", "[TOOL_CALLS][ARGS]"] {
        let model = with_tools(&service, mark);
        for (choice, parallel) in [
            (json!("required"), false),
            (json!("required"), true),
            (
                json!({"type": "function", "function": {"name": "light"}}),
                true,
            ),
        ] {
            let named = choice.is_object();
            let wanted = chat(json!({
                "model": model, "tools": tools(), "tool_choice": choice, "temperature": 1, "seed": 5,
                "parallel_tool_calls": parallel, "max_completion_tokens": null,
            }));
            let (status, answer) = service.post("/v1/chat/completions", &wanted);
            assert_eq!(status, 200, "{answer}");
            let message = &answer["choices"][0]["message"];
            let reason = &answer["choices"][0]["finish_reason"];
            // Random weights may fill the context with white space before their eighth call ends.
            if parallel && reason == "length" {
                continue;
            }
            whole += 1;
            assert_eq!(reason, "tool_calls", "{answer}");
            assert_eq!(message["content"], Value::Null);
            let calls = message["tool_calls"].as_array().unwrap();
            let most = if parallel && !named { 8 } else { 1 };
            assert!((1..=most).contains(&calls.len()), "{mark}: {answer}");
            for call in calls {
                let function = &call["function"];
                let arguments = function["arguments"].as_str().unwrap();
                let arguments: Value = serde_json::from_str(arguments).unwrap();
                match function["name"].as_str().unwrap() {
                    "weather" if !named => assert!(arguments["room"].is_string()),
                    "light" => assert!(arguments["on"].is_boolean()),
                    other => panic!("{other}"),
                }
            }
        }
    }
    assert!(whole >= 8, "{whole} of 12 answers came to their end");
    let (status, _) = service.post(
        "/v1/chat/completions",
        &chat(json!({"tools": tools(), "tool_choice": "required"})),
    );
    assert_eq!(status, 400, "its template knows no tools");
}

#[test]
fn a_response_streamed_is_the_same_as_whole() {
    let service = Service::start(&[]);
    let asked = |more: Value| {
        let mut body = json!({
            "model": "tiny-q4_0", "input": "hello", "instructions": "be kind", "temperature": 0,
            "max_output_tokens": 8, "metadata": {"mine": "1"},
        });
        let more = more.as_object().unwrap().clone();
        body.as_object_mut().unwrap().extend(more);
        body
    };
    let (status, whole) = service.post("/v1/responses", &asked(json!({})));
    assert_eq!(status, 200, "{whole}");
    let (_, same) = service.post("/v1/chat/completions", &chat(json!({})));
    let text = &whole["output"][0]["content"][0]["text"];
    assert_eq!(*text, same["choices"][0]["message"]["content"]);
    assert_eq!(whole["status"], "incomplete");
    assert_eq!(whole["incomplete_details"]["reason"], "max_output_tokens");
    assert_eq!(whole["usage"]["output_tokens"], 8);
    assert_eq!(whole["metadata"], json!({"mine": "1"}));

    let body = asked(json!({"stream": true})).to_string();
    let (status, stream) = service.call("POST", "/v1/responses", body.as_bytes());
    assert_eq!(status, 200, "{stream}");
    let mut said = String::new();
    let mut last = Value::Null;
    for (number, event) in stream.split_terminator("\n\n").enumerate() {
        let (kind, data) = event.split_once('\n').unwrap();
        last = serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap();
        assert_eq!(last["sequence_number"], number);
        assert_eq!(kind.strip_prefix("event: "), last["type"].as_str());
        if last["type"] == "response.output_text.delta" {
            said.push_str(last["delta"].as_str().unwrap());
        }
    }
    assert_eq!(said, *text);
    assert_eq!(last["type"], "response.incomplete");
    assert_eq!(
        last["response"]["output"][0]["content"],
        whole["output"][0]["content"]
    );

    let model = with_tools(&service, "<tool_call>");
    let [weather, _] = tools().as_array().unwrap().clone().try_into().unwrap();
    let mut tool = weather["function"].clone();
    tool["type"] = "function".into();
    let call = asked(json!({
        "model": model, "tools": [tool], "tool_choice": "required", "max_output_tokens": 200,
        "parallel_tool_calls": false,
    }));
    let (status, answer) = service.post("/v1/responses", &call);
    assert_eq!(status, 200, "{answer}");
    assert_eq!(answer["status"], "completed");
    assert_eq!(answer["output"].as_array().unwrap().len(), 1, "{answer}");
    assert_eq!(answer["output"][0]["type"], "function_call");
    assert_eq!(answer["output"][0]["name"], "weather");
}
