//! Models that are uploaded, made, copied and deleted.

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::fixture::Service;

fn names(service: &Service) -> Vec<String> {
    let tags = service.get("/api/tags");
    let models = tags["models"].as_array().unwrap().iter();
    let mut names: Vec<_> = models
        .map(|m| m["name"].as_str().unwrap().to_owned())
        .collect();
    names.sort();
    names
}

pub fn digest(bytes: &[u8]) -> String {
    let hash = Sha256::digest(bytes);
    let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

#[test]
fn a_model_is_uploaded_made_used_copied_and_deleted() {
    let service = Service::start(&[]);
    let path =
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/models/tiny-q8_0.gguf");
    let file = std::fs::read(path).unwrap();
    let digest = digest(&file);
    let blob = format!("/api/blobs/{digest}");
    assert_eq!(service.call("HEAD", &blob, b"").0, 404);
    assert_eq!(service.call("POST", &blob, &file[1..]).0, 400);
    assert_eq!(service.call("POST", &blob, &file).0, 201);
    assert_eq!(service.call("HEAD", &blob, b"").0, 200);
    let made = json!({
        "model": "me/mine:1",
        "files": {"mine.gguf": digest},
        "system": "be kind",
        "template": "{% for m in messages %}[{{ m.role }}] {{ m.content }}{% endfor %}",
        "parameters": {"temperature": 0, "num_predict": 3},
        "license": "none",
    });
    let (status, text) = service.call("POST", "/api/create", made.to_string().as_bytes());
    assert_eq!(status, 200, "{text}");
    assert_eq!(
        text.lines().last(),
        Some("{\"status\":\"success\"}"),
        "{text}"
    );
    assert!(names(&service).contains(&"me/mine:1".to_owned()));
    let (_, shown) = service.post("/api/show", &json!({"model": "me/mine:1"}));
    assert_eq!(shown["system"], "be kind");
    assert_eq!(shown["license"], "none");
    assert!(
        shown["template"]
            .as_str()
            .unwrap()
            .contains("[{{ m.role }}]")
    );
    assert!(
        shown["parameters"]
            .as_str()
            .unwrap()
            .contains("num_predict")
    );

    // Its template, its system text and its parameters are what answers go by.
    let question = json!({"model": "me/mine:1", "prompt": "hello", "stream": false});
    let (status, answer) = service.post("/api/generate", &question);
    assert_eq!(
        (status, &answer["eval_count"]),
        (200, &json!(3)),
        "{answer}"
    );
    let raw = json!({
        "model": "me/mine:1", "prompt": "[system] be kind[user] hello", "raw": true,
        "stream": false,
    });
    let (_, same) = service.post("/api/generate", &raw);
    assert_eq!(same["response"], answer["response"]);
    assert_eq!(same["prompt_eval_count"], answer["prompt_eval_count"]);

    let copy = json!({"source": "me/mine:1", "destination": "other"});
    assert_eq!(
        service
            .call("POST", "/api/copy", copy.to_string().as_bytes())
            .0,
        200
    );
    let delete = |name: &str| {
        let body = json!({"model": name}).to_string();
        service.call("DELETE", "/api/delete", body.as_bytes()).0
    };
    assert_eq!(delete("me/mine:1"), 200);
    // The copy still has the file.
    assert_eq!(service.call("HEAD", &blob, b"").0, 200);
    assert_eq!(delete("other"), 200);
    assert_eq!(service.call("HEAD", &blob, b"").0, 404);
    assert_eq!(delete("other"), 404);
}

#[test]
fn models_are_made_from_plain_files_which_can_be_deleted() {
    let service = Service::start(&[]);
    let made = json!({"model": "kind", "from": "tiny-q4_0", "system": "be kind", "stream": false});
    let (status, answer) = service.post("/api/create", &made);
    assert_eq!((status, answer), (200, json!({"status": "success"})));
    let body = json!({"model": "tiny-q4_0"}).to_string();
    assert_eq!(
        service.call("DELETE", "/api/delete", body.as_bytes()).0,
        200
    );
    assert_eq!(
        names(&service),
        ["cut:latest", "kind:latest", "tiny-f32:latest"]
    );
    let question = json!({
        "model": "kind", "prompt": "hello", "stream": false,
        "options": {"temperature": 0, "num_predict": 3},
    });
    assert_eq!(service.post("/api/generate", &question).0, 200);
}

#[test]
fn what_cannot_be_made_is_told() {
    let service = Service::start(&[]);
    let zeros = format!("sha256:{}", "0".repeat(64));
    let make = |more: Value| {
        let mut body = json!({"model": "new", "stream": false});
        body.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        let (status, answer) = service.post("/api/create", &body);
        (
            status,
            answer["error"].as_str().unwrap_or_default().to_owned(),
        )
    };
    for (more, status, part) in [
        (json!({}), 400, "neither 'from' nor 'files'"),
        (json!({"from": "none"}), 404, "'none' not found"),
        (json!({"files": {"a": zeros}}), 400, "upload it first"),
        (json!({"files": {"a": "md5:1"}}), 400, "invalid digest"),
        (
            json!({"model": "../x", "from": "tiny-q4_0"}),
            400,
            "not valid",
        ),
        (
            json!({"from": "tiny-q4_0", "quantize": "q4_0"}),
            400,
            "quantize is not supported",
        ),
        (
            json!({"from": "tiny-q4_0", "template": "{{ .Prompt }}"}),
            400,
            "Jinja",
        ),
        (
            json!({"from": "tiny-q4_0", "parameters": {"top_p": 9}}),
            400,
            "top_p is 9",
        ),
    ] {
        let (found, text) = make(more.clone());
        assert_eq!(found, status, "{more}: {text}");
        assert!(text.contains(part), "{more}: {text}");
    }
    let text = b"this is no model".as_slice();
    let blob = format!("/api/blobs/{}", digest(text));
    assert_eq!(service.call("POST", &blob, text).0, 201);
    let (status, text) = make(json!({"files": {"a": digest(text)}}));
    assert_eq!(status, 400);
    assert!(text.contains("is no model"), "{text}");
    assert_eq!(names(&service).len(), 3);
}

/// What a pull does: blobs, then the registry's manifest.
#[test]
fn a_registrys_manifest_makes_a_model_of_blobs_that_are_here() {
    let service = Service::start(&[]);
    let path =
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/models/tiny-q8_0.gguf");
    let file = std::fs::read(path).unwrap();
    let upload = |bytes: &[u8]| {
        let digest = digest(bytes);
        let blob = format!("/api/blobs/{digest}");
        assert_eq!(service.call("POST", &blob, bytes).0, 201);
        (digest, bytes.len())
    };
    let layer = |kind: &str, (digest, size): &(String, usize)| {
        let kind = format!("application/vnd.ollama.image.{kind}");
        json!({"mediaType": kind, "digest": digest, "size": size})
    };
    let (config, system) = (upload(b"{}"), upload(b"be kind"));
    let model = upload(&file);
    let manifest = |layers: &[Value]| json!({"schemaVersion": 2, "config": layer("config", &config), "layers": layers});
    let put = |text: &str| {
        let place = "/api/manifests/box:5000/me/pulled:1";
        service.call("PUT", place, text.as_bytes())
    };
    let missing = (format!("sha256:{}", "0".repeat(64)), 1);
    let long = (model.0.clone(), model.1 + 1);
    for (text, part) in [
        ("<html>".to_owned(), "cannot be read"),
        (
            manifest(&[layer("system", &system)]).to_string(),
            "names no model file",
        ),
        (
            manifest(&[layer("model", &missing)]).to_string(),
            "which is not here",
        ),
        (
            manifest(&[layer("model", &long)]).to_string(),
            "bytes; it has",
        ),
        (
            manifest(&[layer("model", &system)]).to_string(),
            "is no model",
        ),
    ] {
        let (status, answer) = put(&text);
        assert_eq!(status, 400, "{answer}");
        assert!(answer.contains(part), "{answer}");
    }
    let whole = manifest(&[layer("model", &model), layer("system", &system)]);
    assert_eq!(put(&whole.to_string()).0, 201);
    let (_, shown) = service.post("/api/show", &json!({"model": "box:5000/me/pulled:1"}));
    assert_eq!(shown["system"], "be kind");

    // What a push does: the same back, of a plain file, too.
    let back = service.get("/api/manifests/box:5000/me/pulled:1");
    assert_eq!(back["layers"], whole["layers"]);
    let (status, bytes) = service.call("GET", &format!("/api/blobs/{}", system.0), b"");
    assert_eq!((status, bytes.as_str()), (200, "be kind"));
    let plain = service.get("/api/manifests/tiny-q4_0");
    assert_eq!(
        plain["layers"][0]["mediaType"],
        "application/vnd.ollama.image.model"
    );
    assert_eq!(service.call("GET", "/api/manifests/none", b"").0, 404);
}
