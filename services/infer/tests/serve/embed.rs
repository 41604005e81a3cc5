//! Vectors, and models that come as several files.

use serde_json::{Value, json};

use super::fixture::Service;
use super::package::{Expected, distance};
use super::store::digest;

/// Uploads a package and makes a model of it.
fn make(service: &Service, name: &str) -> Expected {
    let expected = Expected::read(name);
    let mut files = serde_json::Map::new();
    for (file, bytes) in expected.files() {
        let digest = digest(&bytes);
        let blob = format!("/api/blobs/{digest}");
        assert_eq!(service.call("POST", &blob, &bytes).0, 201);
        files.insert(file, digest.into());
    }
    // What is no part of a model does not hinder.
    files.insert("README.md".to_owned(), digest(b"nothing").into());
    let body = json!({"model": name, "files": files, "stream": false});
    let (status, answer) = service.post("/api/create", &body);
    assert_eq!((status, answer), (200, json!({"status": "success"})));
    expected
}

fn vector(value: &Value) -> Vec<f32> {
    let numbers = value.as_array().unwrap().iter();
    numbers.map(|n| n.as_f64().unwrap() as f32).collect()
}

fn length(vector: &[f32]) -> f32 {
    vector
        .iter()
        .map(|number| number * number)
        .sum::<f32>()
        .sqrt()
}

#[test]
fn an_encoder_is_made_of_files_and_embeds() {
    let service = Service::start(&[]);
    let expected = make(&service, "bert");
    let (_, shown) = service.post("/api/show", &json!({"model": "bert"}));
    assert_eq!(shown["capabilities"], json!(["embedding"]));
    assert_eq!(shown["details"]["format"], "safetensors");
    assert_eq!(shown["details"]["family"], "bert");
    assert_eq!(shown["model_info"]["bert.context_length"], 32);

    let texts: Vec<_> = expected.texts.iter().map(|text| &text.text).collect();
    let (status, answer) = service.post("/api/embed", &json!({"model": "bert", "input": texts}));
    assert_eq!(status, 200, "{answer}");
    let all = answer["embeddings"].as_array().unwrap();
    assert_eq!(all.len(), texts.len());
    for (found, text) in all.iter().zip(&expected.texts) {
        let found = distance(&vector(found), &text.vector);
        assert!(found < 1e-4, "{found} for {:?}", text.text);
    }
    let counts = expected
        .texts
        .iter()
        .map(|text| text.tokens.len().min(expected.context));
    assert_eq!(answer["prompt_eval_count"], counts.sum::<usize>());

    // The other routes say the same.
    let text = &expected.texts[0];
    let (_, old) = service.post(
        "/api/embeddings",
        &json!({"model": "bert", "prompt": text.text}),
    );
    assert!(distance(&vector(&old["embedding"]), &text.vector) < 1e-4);
    let (_, openai) = service.post(
        "/v1/embeddings",
        &json!({"model": "bert", "input": text.text}),
    );
    let found = vector(&openai["data"][0]["embedding"]);
    assert!(distance(&found, &text.vector) < 1e-4);
    assert_eq!(openai["usage"]["prompt_tokens"], text.tokens.len());

    // Fewer dimensions: the first ones, of length 1 again.
    let body = json!({"model": "bert", "input": text.text, "dimensions": 8});
    let (_, answer) = service.post("/api/embed", &body);
    let found = vector(&answer["embeddings"][0]);
    assert!((found.len(), (length(&found) - 1.0).abs() < 1e-5) == (8, true));
    let scale = length(&text.vector[..8]);
    let cut: Vec<_> = text.vector[..8]
        .iter()
        .map(|number| number / scale)
        .collect();
    assert!(distance(&found, &cut) < 1e-4);

    // A text beyond the context is cut, or refused with the numbers.
    let long = json!({"model": "bert", "input": ["a", "a ".repeat(99)], "truncate": false});
    let (status, answer) = service.post("/api/embed", &long);
    let text = answer["error"].as_str().unwrap();
    assert_eq!(status, 400);
    assert!(
        text.contains("input 1 has 101 tokens, allowed: at most 32"),
        "{text}"
    );
    let (status, answer) = service.post("/api/embed", &json!({"model": "bert", "input": ""}));
    assert_eq!((status, &answer["embeddings"]), (200, &json!([])));
}

#[test]
fn an_encoder_does_not_answer() {
    let service = Service::start(&[]);
    make(&service, "bert-first");
    let messages = json!([{"role": "user", "content": "hi"}]);
    for (path, body, part) in [
        (
            "/api/generate",
            json!({"prompt": "hi"}),
            "does not support generate",
        ),
        (
            "/api/chat",
            json!({"messages": messages}),
            "does not support chat",
        ),
        (
            "/v1/chat/completions",
            json!({"messages": messages}),
            "does not support chat",
        ),
        (
            "/v1/completions",
            json!({"prompt": "hi"}),
            "does not support generate",
        ),
    ] {
        let mut body = body;
        body["model"] = "bert-first".into();
        let (status, answer) = service.post(path, &body);
        assert_eq!(status, 400, "{path}: {answer}");
        assert!(answer.to_string().contains(part), "{path}: {answer}");
    }
    let embed = json!({"model": "bert-first", "input": "hi"});
    assert_eq!(service.post("/api/embed", &embed).0, 200);
    let loaded = || service.get("/api/ps")["models"].as_array().unwrap().len();
    assert_eq!(loaded(), 1);
    let unload = json!({"model": "bert-first", "keep_alive": 0, "stream": false});
    let (status, answer) = service.post("/api/generate", &unload);
    assert_eq!((status, &answer["done_reason"]), (200, &json!("unload")));
    assert_eq!(loaded(), 0);
}

#[test]
fn a_decoder_of_several_files_answers_and_embeds() {
    let service = Service::start(&[]);
    let expected = make(&service, "llama");
    let count = expected.greedy.len();
    let body = json!({
        "model": "llama", "prompt": expected.prompt, "raw": true, "stream": false,
        "options": {"temperature": 0, "num_predict": count, "repeat_penalty": 1},
    });
    let (status, answer) = service.post("/api/generate", &body);
    assert_eq!(status, 200, "{answer}");
    let tokens = [expected.prompt_tokens.as_slice(), &expected.greedy].concat();
    assert_eq!(answer["context"], json!(tokens));
    let texts: Vec<_> = expected.texts.iter().map(|text| &text.text).collect();
    let (status, answer) = service.post("/api/embed", &json!({"model": "llama", "input": texts}));
    assert_eq!(status, 200, "{answer}");
    for (found, text) in answer["embeddings"]
        .as_array()
        .unwrap()
        .iter()
        .zip(&expected.texts)
    {
        // Keys and values are kept as halves.
        let found = distance(&vector(found), &text.vector);
        assert!(found < 2e-3, "{found} for {:?}", text.text);
    }

    // A copy has the same files, which stay as long as one of them is there.
    let copy = json!({"source": "llama", "destination": "other"}).to_string();
    assert_eq!(service.call("POST", "/api/copy", copy.as_bytes()).0, 200);
    let delete = json!({"model": "llama"}).to_string();
    assert_eq!(
        service.call("DELETE", "/api/delete", delete.as_bytes()).0,
        200
    );
    let mut body = body;
    body["model"] = "other".into();
    assert_eq!(
        service.post("/api/generate", &body).1["context"],
        json!(tokens)
    );
}

#[test]
fn a_decoder_of_one_file_embeds_the_same_each_time() {
    let service = Service::start(&[]);
    let long = "The old cat looks at the box. ".repeat(60);
    let embed = |texts: Value| {
        let (status, answer) =
            service.post("/api/embed", &json!({"model": "tiny-q4_0", "input": texts}));
        assert_eq!(status, 200, "{answer}");
        answer["embeddings"]
            .as_array()
            .unwrap()
            .iter()
            .map(vector)
            .collect::<Vec<_>>()
    };
    let all = embed(json!(["Hello", long, "Hello"]));
    assert!(all.iter().all(|vector| (length(vector) - 1.0).abs() < 1e-5));
    assert_eq!(all[0], all[2]);
    assert_ne!(all[0], all[1]);
    assert_eq!(embed(json!([long])), all[1..2]);
    assert_eq!(embed(json!("Hello")), all[..1]);
}

#[test]
fn files_that_are_no_model_make_none() {
    let service = Service::start(&[]);
    let upload = |bytes: &[u8]| {
        let digest = digest(bytes);
        assert_eq!(
            service
                .call("POST", &format!("/api/blobs/{digest}"), bytes)
                .0,
            201
        );
        digest
    };
    let (config, weights) = (upload(b"{}"), upload(b"nothing at all"));
    for (files, part) in [
        (
            json!({"model.safetensors": weights}),
            "no file 'config.json'",
        ),
        (
            json!({"model.safetensors": weights, "config.json": config}),
            "config.json: 'architectures' is missing",
        ),
        (
            json!({"model.safetensors": digest(b"x"), "config.json": config}),
            "upload it first",
        ),
    ] {
        let body = json!({"model": "none", "files": files, "stream": false});
        let (status, answer) = service.post("/api/create", &body);
        let text = answer["error"].as_str().unwrap();
        assert_eq!(status, 400, "{text}");
        assert!(text.contains(part), "{text}");
    }
    let (status, _) = service.post("/api/show", &json!({"model": "none"}));
    assert_eq!(status, 404);
}
