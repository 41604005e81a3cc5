//! Bodies of requests: what clients leave empty, and what is refused and how well the refusal says so.

use serde_json::{Value, json};

use super::fixture::Service;
use super::raw;

#[test]
fn what_clients_send_and_have_not_is_as_if_they_had_not_sent_it() {
    let service = Service::start(&[]);
    let model = "tiny-q4_0";
    // As Ollama's own client in Go does.
    for (path, body) in [
        ("/api/show", json!({"model": model, "name": ""})),
        (
            "/api/show",
            json!({"model": "", "name": model, "verbose": null}),
        ),
        (
            "/api/embed",
            json!({"model": model, "input": "x", "options": null, "keep_alive": null}),
        ),
        (
            "/api/embeddings",
            json!({"model": model, "prompt": "x", "options": null}),
        ),
        (
            "/api/generate",
            json!({"model": model, "prompt": "x", "system": null, "suffix": null, "template": null,
                   "context": null, "raw": null, "images": null, "format": null, "think": null,
                   "options": {"num_predict": 1, "num_ctx": 64.0}, "stream": false}),
        ),
        ("/api/chat", json!({"model": model, "messages": null})),
    ] {
        let (status, answer) = service.post(path, &body);
        assert_eq!(status, 200, "{path} {body}: {answer}");
    }
    let delete = json!({"model": "none", "name": ""}).to_string();
    let (status, text) = service.call("DELETE", "/api/delete", delete.as_bytes());
    assert_eq!(status, 404, "{text}");
}

#[test]
fn bad_requests_get_an_error_that_says_why() {
    let service = Service::start(&[]);
    let error = |path: &str, body: Value| {
        let (status, answer) = service.post(path, &body);
        (
            status,
            // OpenAI's are objects.
            [&answer["error"], &answer["error"]["message"]]
                .into_iter()
                .find_map(Value::as_str)
                .unwrap_or_default()
                .to_owned(),
        )
    };
    let prompt = |more: Value| {
        let mut body = json!({"model": "tiny-q4_0", "prompt": "x"});
        body.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        body
    };
    for (path, body, status, part) in [
        (
            "/api/generate",
            json!({"model": "none", "prompt": "x"}),
            404,
            "'none' not found",
        ),
        (
            "/api/chat",
            json!({"model": "../x", "messages": []}),
            400,
            "not valid",
        ),
        (
            "/api/show",
            json!({"model": "none"}),
            404,
            "'none' not found",
        ),
        ("/api/show", json!({"model": "cut"}), 500, "truncated"),
        (
            "/api/generate",
            json!({"model": "cut", "prompt": "x"}),
            500,
            "cut.gguf",
        ),
        ("/api/generate", json!({"prompt": "x"}), 400, "model"),
        ("/api/generate", json!([1]), 400, "bad JSON"),
        (
            "/api/generate",
            prompt(json!({"options": {"temperature": "hot"}})),
            400,
            "options.temperature: invalid type",
        ),
        (
            "/api/generate",
            prompt(json!({"options": {"top_p": 7}})),
            400,
            "top_p is 7, allowed",
        ),
        (
            "/api/generate",
            prompt(json!({"keep_alive": "soon"})),
            400,
            "keep_alive",
        ),
        (
            "/api/generate",
            prompt(json!({"format": {"properties": {"a": {"not": {}}}}})),
            400,
            "format: schema #/properties/a: the keyword \"not\" is not supported",
        ),
        (
            "/api/generate",
            prompt(json!({"format": "yaml"})),
            400,
            "allowed: \"json\" or a JSON Schema",
        ),
        (
            "/api/generate",
            prompt(json!({"context": [70000]})),
            400,
            "token 70000",
        ),
        (
            "/api/generate",
            prompt(json!({"prompt": "long ".repeat(3000)})),
            400,
            "allowed: at most 511",
        ),
        (
            "/api/generate",
            prompt(json!({"options": {"num_ctx": 1}})),
            400,
            "at most 0",
        ),
        (
            "/api/chat",
            json!({"model": "tiny-q4_0", "messages": [{"role": "king", "content": "x"}]}),
            400,
            "allowed: system, user",
        ),
        (
            "/api/chat",
            json!({"model": "tiny-q4_0", "messages": [{"role": "user"}], "tools": [{}]}),
            400,
            "tools[0].function.name is missing",
        ),
        (
            "/api/chat",
            json!({"model": "tiny-q4_0", "messages": [{"role": "user"}],
                   "tools": [{"type": "function", "function": {"name": "f"}}]}),
            400,
            "does not support tools",
        ),
        (
            "/api/chat",
            json!({"model": "tiny-q4_0", "messages": [], "think": true}),
            400,
            "does not support thinking",
        ),
        (
            "/api/chat",
            json!({"model": "tiny-q4_0", "messages": [{"role": "user", "content": 5}]}),
            400,
            "messages[0].content: invalid type: integer `5`",
        ),
        (
            "/api/show",
            json!({"model": "", "name": ""}),
            400,
            "missing field `model`",
        ),
        (
            "/api/create",
            json!({"model": "made", "modelfile": "FROM x"}),
            400,
            "modelfile is not read here",
        ),
        (
            "/v1/completions",
            json!({"model": "tiny-q4_0", "prompt": "x", "echo": true}),
            400,
            "echo is not supported",
        ),
        (
            "/v1/completions",
            json!({"model": "tiny-q4_0", "prompt": "x", "best_of": 2}),
            400,
            "best_of is not supported",
        ),
        (
            "/v1/chat/completions",
            json!({"model": "tiny-q4_0", "messages": [{"role": "user", "content": "x"}],
                   "functions": [{"name": "f"}]}),
            400,
            "functions is not supported",
        ),
        (
            "/api/embed",
            json!({"model": "tiny-q4_0", "input": ["x"], "dimensions": -1}),
            400,
            "dimensions: invalid value: integer `-1`",
        ),
    ] {
        let (found, text) = error(path, body.clone());
        assert_eq!(found, status, "{path} {body}: {text}");
        assert!(text.contains(part), "{path} {body}: {text}");
    }
    let (status, text) = service.call("POST", "/api/generate", b"{\"model\": ");
    assert_eq!(status, 400);
    assert!(text.contains("bad JSON"), "{text}");
    assert_eq!(service.call("POST", "/api/generate", b"").0, 400);
    assert_eq!(
        service
            .call("POST", "/api/generate", &vec![b' '; 9 << 20])
            .0,
        413
    );
    assert_eq!(service.call("GET", "/api/generate", b"").0, 405);
    assert_eq!(service.call("GET", "/api/nothing", b"").0, 404);
    // Deep nesting, and bytes that are no text.
    assert_eq!(
        service
            .call("POST", "/api/chat", "[".repeat(200_000).as_bytes())
            .0,
        400
    );
    assert_eq!(
        service
            .call("POST", "/api/chat", b"{\"model\": \"\xFF\"}")
            .0,
        400
    );
    // After all that it still answers.
    assert_eq!(
        service
            .call(
                "POST",
                "/api/generate",
                raw("tiny-q4_0").to_string().as_bytes()
            )
            .0,
        200
    );
}
