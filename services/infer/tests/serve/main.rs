//! The program itself, over its Unix socket: Ollama's routes, and clients that misbehave.

#![allow(
    clippy::unwrap_used,
    reason = "a test says by its panic what went wrong"
)]

mod abuse;
mod bodies;
mod embed;
mod fixture;
mod openai;
#[path = "../packages/fixture.rs"]
mod package;
mod store;

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use fixture::{LONG, Service, read_chunk, read_head};
use serde_json::{Value, json};

fn expected(name: &str) -> Value {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/models");
    let text = std::fs::read_to_string(models.join("expected.json")).unwrap();
    serde_json::from_str::<Value>(&text).unwrap()["models"][name].take()
}

fn raw(name: &str) -> Value {
    json!({
        "model": name,
        "prompt": expected(name)["prompt"],
        "raw": true,
        "options": {"temperature": 0, "num_predict": 32},
    })
}

/// A model of random weights that never heard of JSON answers in it all the same.
#[test]
fn an_answer_keeps_to_its_schema() {
    let service = Service::start(&[]);
    let schema = json!({
        "type": "object",
        "properties": {
            "state": {"enum": ["running", "stopped"]},
            "count": {"type": "integer", "minimum": 10, "maximum": 99},
            "names": {"type": "array", "items": {"type": "string", "maxLength": 4}, "maxItems": 3},
        },
        "required": ["state", "count", "names"],
    });
    for name in ["tiny-q4_0", "tiny-f32"] {
        for seed in 0..3 {
            let request = json!({
                "model": name,
                "prompt": "How is it?",
                "stream": false,
                "format": schema,
                "options": {"temperature": 1.5, "top_k": 0, "top_p": 1, "seed": seed},
            });
            let (status, text) =
                service.call("POST", "/api/generate", request.to_string().as_bytes());
            assert_eq!(status, 200, "{text}");
            let answer: Value = serde_json::from_str(&text).unwrap();
            assert_eq!(answer["done_reason"], "stop", "{text}");
            let value: Value = serde_json::from_str(answer["response"].as_str().unwrap()).unwrap();
            let state = value["state"].as_str().unwrap();
            assert!(["running", "stopped"].contains(&state), "{value}");
            assert!(
                (10..=99).contains(&value["count"].as_u64().unwrap()),
                "{value}"
            );
            let names = value["names"].as_array().unwrap();
            let short = |name: &Value| name.as_str().is_some_and(|name| name.chars().count() <= 4);
            assert!(names.len() <= 3 && names.iter().all(short), "{value}");
        }
    }
}

#[test]
fn a_generation_streams_what_is_expected() {
    let service = Service::start(&[]);
    let known = expected("tiny-q4_0");
    let (status, text) = service.call(
        "POST",
        "/api/generate",
        raw("tiny-q4_0").to_string().as_bytes(),
    );
    assert_eq!(status, 200, "{text}");
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let (last, texts) = lines.split_last().unwrap();
    let answer: String = texts
        .iter()
        .map(|line| line["response"].as_str().unwrap())
        .collect();
    assert_eq!(answer, known["greedy_text"].as_str().unwrap());
    assert!(texts.len() > 20, "it came in {} pieces", texts.len());
    assert!(
        texts
            .iter()
            .all(|line| line["done"] == false && line["model"] == "tiny-q4_0")
    );
    assert_eq!(last["done"], true);
    assert_eq!(last["done_reason"], "length");
    assert_eq!(last["eval_count"], 32);
    let prompt = known["prompt_tokens"].as_array().unwrap();
    assert_eq!(last["prompt_eval_count"], prompt.len());
    let tokens = [
        prompt.as_slice(),
        known["greedy_tokens"].as_array().unwrap(),
    ]
    .concat();
    assert_eq!(last["context"], Value::Array(tokens));
    let time = |key: &str| last[key].as_u64().unwrap();
    assert!(time("prompt_eval_duration") > 0 && time("eval_duration") > 0);
    assert!(
        time("total_duration")
            >= time("load_duration") + time("prompt_eval_duration") + time("eval_duration")
    );

    // The same in one object, and by the other tokenizer.
    for name in ["tiny-q4_0", "tiny-f32:latest"] {
        let mut request = raw(name.trim_end_matches(":latest"));
        request["model"] = name.into();
        request["stream"] = false.into();
        let (status, answer) = service.post("/api/generate", &request);
        assert_eq!(status, 200, "{answer}");
        let known = expected(name.trim_end_matches(":latest"));
        assert_eq!(answer["response"], known["greedy_text"], "{name}");
        assert_eq!(answer["model"], name);
    }
}

#[test]
fn options_shape_the_answer() {
    let service = Service::start(&[]);
    let ask = |options: Value| {
        let mut request = raw("tiny-q4_0");
        request["stream"] = false.into();
        request["options"] = options;
        let (status, answer) = service.post("/api/generate", &request);
        assert_eq!(status, 200, "{answer}");
        answer
    };
    let greedy = ask(json!({"temperature": 0, "num_predict": 32}));
    let text = greedy["response"].as_str().unwrap();
    let stop = &text[10..14];
    let stopped = ask(json!({"temperature": 0, "num_predict": 32, "stop": [stop]}));
    assert_eq!(stopped["response"], text[..text.find(stop).unwrap()]);
    assert_eq!(stopped["done_reason"], "stop");
    let warm = |seed: u64| {
        let options = json!({"temperature": 2.0, "num_predict": 16, "seed": seed, "top_k": 0});
        ask(options)["response"].clone()
    };
    assert_eq!(warm(1), warm(1));
    assert_ne!(warm(1), warm(2));
    let short = ask(json!({"temperature": 0, "num_ctx": 30}));
    assert_eq!(short["done_reason"], "length");
    let count = |key: &str| short[key].as_u64().unwrap();
    assert_eq!(count("prompt_eval_count") + count("eval_count"), 31);
    let penalized = ask(json!({"temperature": 0, "num_predict": 32, "repeat_penalty": 5.0}));
    assert_ne!(penalized["response"], greedy["response"]);
}

#[test]
fn a_chat_goes_by_the_models_template() {
    let service = Service::start(&[]);
    let request = json!({
        "model": "tiny-q4_0",
        "messages": [
            {"role": "system", "content": "be kind"},
            {"role": "user", "content": " hello "},
        ],
        "options": {"temperature": 0, "num_predict": 3},
    });
    let (status, text) = service.call("POST", "/api/chat", request.to_string().as_bytes());
    assert_eq!(status, 200, "{text}");
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert!(
        lines
            .iter()
            .all(|line| line["message"]["role"] == "assistant")
    );
    assert_eq!(lines.last().unwrap()["done_reason"], "length");
    // The same prompt written out has as many tokens and the same answer.
    let prompt = "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nbe kind<|eot_id|>\
                  <|start_header_id|>user<|end_header_id|>\n\nhello<|eot_id|>\
                  <|start_header_id|>assistant<|end_header_id|>\n\n";
    let raw = json!({
        "model": "tiny-q4_0", "prompt": prompt, "raw": true, "stream": false,
        "options": {"temperature": 0, "num_predict": 3},
    });
    let (_, answer) = service.post("/api/generate", &raw);
    let said: String = lines
        .iter()
        .map(|line| line["message"]["content"].as_str().unwrap())
        .collect();
    assert_eq!(answer["response"], said);
    assert_eq!(
        answer["prompt_eval_count"],
        lines.last().unwrap()["prompt_eval_count"]
    );
    let question = json!({
        "model": "tiny-q4_0", "system": "be kind", "prompt": "hello", "stream": false,
        "options": {"temperature": 0, "num_predict": 3},
    });
    let (_, answer) = service.post("/api/generate", &question);
    assert_eq!(answer["response"], said);
}

#[test]
fn models_are_listed_shown_loaded_and_unloaded() {
    let service = Service::start(&[]);
    assert_eq!(
        service.call("GET", "/", b""),
        (200, "Ollama is running".to_owned())
    );
    assert_eq!(service.call("HEAD", "/", b"").0, 200);
    assert_eq!(service.call("HEAD", "/api/tags", b"").0, 200);
    assert_eq!(service.call("GET", "/healthz", b"").0, 200);
    let version = service.get("/api/version")["version"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(
        version.split('.').all(|part| part.parse::<u32>().is_ok()),
        "{version}"
    );

    let tags = service.get("/api/tags");
    let names: Vec<_> = tags["models"]
        .as_array()
        .unwrap()
        .iter()
        .map(|m| &m["name"])
        .collect();
    assert_eq!(names.len(), 3, "{names:?}");
    let entry = tags["models"]
        .as_array()
        .unwrap()
        .iter()
        .find(|m| m["name"] == "tiny-q4_0:latest");
    let entry = entry.unwrap();
    assert_eq!(entry["details"]["quantization_level"], "Q4_0");
    assert_eq!(entry["details"]["family"], "llama");
    assert_eq!(entry["digest"].as_str().unwrap().len(), 64);

    let (status, shown) = service.post("/api/show", &json!({"model": "tiny-q4_0"}));
    assert_eq!(status, 200);
    assert_eq!(shown["model_info"]["general.architecture"], "llama");
    assert_eq!(shown["model_info"]["llama.context_length"], 512);
    assert_eq!(shown["model_info"]["tokenizer.ggml.tokens"], Value::Null);
    assert!(
        shown["template"]
            .as_str()
            .unwrap()
            .contains("start_header_id")
    );
    assert_eq!(shown["capabilities"], json!(["completion"]));

    assert_eq!(service.get("/api/ps"), json!({"models": []}));
    let load = json!({"model": "tiny-q4_0", "keep_alive": "10m"});
    let (status, loaded) = service.post("/api/generate", &load);
    assert_eq!((status, &loaded["done_reason"]), (200, &json!("load")));
    let running = &service.get("/api/ps")["models"][0];
    assert_eq!(running["name"], "tiny-q4_0:latest");
    assert_eq!(running["context_length"], 512);
    assert!(running["expires_at"].as_str().unwrap().ends_with('Z'));
    // Another beside it, with a time of its own.
    let other = json!({"model": "tiny-f32", "keep_alive": -1});
    assert_eq!(service.post("/api/generate", &other).0, 200);
    let running = service.get("/api/ps")["models"].take();
    let names = [0, 1].map(|place| running[place]["name"].as_str().unwrap());
    assert_eq!(names, ["tiny-q4_0:latest", "tiny-f32:latest"]);
    assert!(
        running[1]["expires_at"]
            .as_str()
            .unwrap()
            .starts_with("2318")
    );
    let unload = json!({"model": "tiny-f32", "keep_alive": 0});
    assert_eq!(
        service.post("/api/generate", &unload).1["done_reason"],
        "unload"
    );
    assert_eq!(
        service.get("/api/ps")["models"][0]["name"],
        "tiny-q4_0:latest"
    );
    let unload = json!({"model": "tiny-q4_0", "messages": [], "keep_alive": 0});
    let (status, unloaded) = service.post("/api/chat", &unload);
    assert_eq!((status, &unloaded["done_reason"]), (200, &json!("unload")));
    assert_eq!(service.get("/api/ps"), json!({"models": []}));
}

#[test]
fn the_operator_answers_beside_the_models() {
    let built_in = concat!(env!("CARGO_MANIFEST_DIR"), "/../../image/models");
    let service = Service::start(&["--built-in", built_in]);
    let (status, tags) = service.call("GET", "/api/tags", b"");
    assert_eq!(status, 200, "{tags}");
    assert!(
        tags.contains("\"operator:latest\"") && tags.contains("\"kos-operator\""),
        "{tags}"
    );
    assert!(tags.contains("\"tiny-f32:latest\""), "{tags}");
    let ask = |say: &str| {
        let body = json!({
            "model": "operator",
            "stream": false,
            "messages": [{"role": "user", "content": say}],
        });
        let (status, text) = service.call("POST", "/api/chat", body.to_string().as_bytes());
        assert_eq!(status, 200, "{text}");
        let answer: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(answer["done_reason"], "stop");
        serde_json::from_str::<Value>(answer["message"]["content"].as_str().unwrap()).unwrap()
    };
    assert_eq!(
        ask("restart qux-relay-7"),
        json!({
            "call": "restart", "service": "qux-relay-7",
            "request": "POST /api/v1/services/qux-relay-7/restart", "changes": true,
        })
    );
    let logs = ask("errors of qux-relay-7 in the last 2 hours");
    assert_eq!(
        (
            &logs["call"],
            &logs["level"],
            &logs["since"],
            &logs["changes"]
        ),
        (&json!("logs"), &json!("err"), &json!("-2h"), &json!(false))
    );
    assert_eq!(ask("write a poem about the sea")["call"], "none");
    // As a stream, and as a text to go on with.
    let body = br#"{"model": "operator:latest", "prompt": "how much memory is free?"}"#;
    let (status, text) = service.call("POST", "/api/generate", body);
    assert_eq!(status, 200, "{text}");
    assert!(
        text.contains("GET /api/v1/system") && text.lines().count() == 2,
        "{text}"
    );
}

#[test]
fn a_client_that_leaves_stops_its_generation() {
    let service = Service::start(&[]);
    // Without a limit, and it never ends by itself before the context is full.
    let mut endless = raw("tiny-f32");
    endless["options"] = json!({"temperature": 0});
    for _ in 0..20 {
        let mut reader = service.send("POST", "/api/generate", endless.to_string().as_bytes());
        assert_eq!(read_head(&mut reader), (200, true));
        assert!(read_chunk(&mut reader).is_some());
    }
    // Some were told from those whose answer was at its end.
    service.wait_for_log("the client left");
    // Those that never read, streamed or not, and one that leaves before its answer begins.
    for stream in [true, false] {
        endless["stream"] = stream.into();
        drop(service.send("POST", "/api/generate", endless.to_string().as_bytes()));
    }
    let started = Instant::now();
    let mut short = raw("tiny-q4_0");
    short["stream"] = false.into();
    let (status, answer) = service.post("/api/generate", &short);
    assert_eq!((status, &answer["eval_count"]), (200, &json!(32)));
    assert!(started.elapsed() < LONG);
}

#[test]
fn a_full_queue_refuses() {
    let service = Service::start(&[]);
    let mut endless = raw("tiny-f32");
    endless["options"] = json!({"temperature": 0});
    let body = endless.to_string();
    let mut statuses = Vec::new();
    let mut open = Vec::new();
    // The queue holds 32, and one runs; some may finish while others are sent.
    for _ in 0..200 {
        open.push(service.send("POST", "/api/generate", body.as_bytes()));
    }
    for reader in open.iter_mut().rev() {
        let (status, _) = read_head(reader);
        statuses.push(status);
        if status == 503 {
            break;
        }
    }
    assert!(statuses.contains(&503), "{statuses:?}");
    drop(open);
    // The clients have left: their jobs go by, and there is room again.
    let started = Instant::now();
    let body = raw("tiny-q4_0").to_string();
    while service.call("POST", "/api/generate", body.as_bytes()).0 != 200 {
        assert!(started.elapsed() < LONG);
        std::thread::yield_now();
    }
}

#[test]
fn sigterm_ends_a_running_answer_with_an_error_and_exits_well() {
    let mut service = Service::start(&[]);
    let mut endless = raw("tiny-f32");
    endless["options"] = json!({"temperature": 0});
    let mut reader = service.send("POST", "/api/generate", endless.to_string().as_bytes());
    assert_eq!(read_head(&mut reader), (200, true));
    assert!(read_chunk(&mut reader).is_some());
    service.terminate();
    let mut last = String::new();
    while let Some(chunk) = read_chunk(&mut reader) {
        last = chunk;
    }
    // It may have reached the end of its context by itself.
    assert!(
        last.contains("stopping") || last.contains("\"done\":true"),
        "{last}"
    );
    assert_eq!(service.child.wait().unwrap().code(), Some(0));
    assert!(!service.socket().exists());
}

#[test]
fn a_memory_limit_refuses_a_model_and_not_the_service() {
    let service = Service::start(&["--memory-limit", "2M"]);
    let (status, answer) = service.post("/api/generate", &raw("tiny-q4_0"));
    assert_eq!(status, 500);
    let text = answer["error"].as_str().unwrap();
    assert!(
        text.contains("requires more system memory") && text.contains("limit"),
        "{text}"
    );
    assert_eq!(service.call("GET", "/", b"").0, 200);
}

#[test]
fn help_and_wrong_usage() {
    let run = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kos-infer"));
        command.args(arguments).output().unwrap()
    };
    let help = run(&["--help"]);
    assert!(help.status.success());
    assert!(
        String::from_utf8(help.stdout)
            .unwrap()
            .contains("--memory-limit")
    );
    let wrong = run(&["--modles", "x"]);
    assert_eq!(wrong.status.code(), Some(2));
    assert!(
        String::from_utf8(wrong.stdout)
            .unwrap()
            .contains("--modles")
    );
    assert_eq!(run(&["--memory-limit", "lots"]).status.code(), Some(2));
}
