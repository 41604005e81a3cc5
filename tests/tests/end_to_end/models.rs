//! Models that are uploaded: made, used by both APIs, and there again after a reboot.

use anyhow::{Context, Result, ensure};
use kos_tests::{Boot, DataDisk, Guest, Image, environment};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

const NAME: &str = "me/uploaded:1";

#[test]
fn a_model_that_was_uploaded_answers_before_and_after_a_reboot() -> Result<()> {
    let disk = DataDisk::create()?;
    let mut guest = Boot::new("models-upload", Image::Normal)
        .disk(&disk)
        .end_on_reboot(false)
        .start()?;
    let file = std::fs::read(environment::model()?)?;
    let digest = upload(&guest, &file)?;
    let made = json!({
        "model": NAME,
        "files": { "tiny.gguf": digest },
        "parameters": { "temperature": 0, "num_predict": 6 },
        "stream": false,
    });
    guest.models().post_json("/api/create", made)?;
    let before = both_answer(&guest)?;
    let log = guest.api().log("infer")?;
    let hears = |line: &String| line.contains("hears when memory is short from the machine's PSI");
    ensure!(log.iter().any(hears), "{log:#?}");

    guest.send_down("/api/v1/system/reboot", None)?;
    guest.wait_reboot()?;
    assert_eq!(both_answer(&guest)?, before);

    let models = guest.models();
    let body = json!({ "model": NAME });
    let gone = models.request("DELETE", "/api/delete", Some(body))?;
    assert_eq!(gone.status, 200, "{gone}");
    let path = format!("/v1/models/{NAME}");
    let missing = models.request("GET", &path, None)?;
    assert_eq!(missing.status, 404, "{missing}");
    assert_eq!(missing.json()?["error"]["code"], "model_not_found");
    guest.power_off()?;
    disk.file_system().check_left_clean()
}

/// The machine's memory is short and somebody waits for it: the model that nobody uses goes, and is loaded
/// again when it is asked.
#[test]
fn a_model_that_nobody_uses_goes_when_memory_is_short() -> Result<()> {
    let disk = DataDisk::create()?;
    let guest = Boot::new("models-short", Image::Test).disk(&disk).start()?;
    let digest = upload(&guest, &std::fs::read(environment::model()?)?)?;
    let made = json!({ "model": NAME, "files": { "tiny.gguf": digest }, "stream": false });
    let models = guest.models();
    models.post_json("/api/create", made)?;
    let asked = json!({
        "model": NAME, "prompt": "hello", "stream": false, "keep_alive": -1,
        "options": { "num_predict": 2 },
    });
    models.post_json("/api/generate", asked.clone())?;
    let loaded = || -> Result<bool> {
        let seen = models.get("/api/ps")?;
        let all = seen["models"].as_array().context("no list")?;
        Ok(all.iter().any(|model| model["model"] == NAME))
    };
    ensure!(loaded()?, "it stays in memory without an end");

    // One fills the machine but for a twelfth, and one waits for what it may not have.
    guest.api().start("filler")?;
    guest.wait_log("filler", |line| line.starts_with("took "))?;
    let waiter = "name = \"waiter\"\ndescription = \"Waits for memory\"\n\
         program = \"/bin/test-supervised\"\nargs = [\"thrash\"]\nuid = 20013\n\n\
         [readiness]\nkind = \"none\"\n\n\
         [limits]\nmemory = \"64M\"\nmemory-high = \"8M\"\ncpu = 0.5\n";
    let manifest = "/api/v1/services/waiter/manifest";
    guest.api().put_text(manifest, waiter)?.success()?;
    let unloaded = format!("unloaded {NAME}: memory is short");
    guest.wait_log("infer", |line| line.contains(&unloaded))?;
    ensure!(!loaded()?, "it is still listed");

    guest.api().request("DELETE", manifest, None)?.success()?;
    guest.api().stop("filler")?;
    let again = models.post_json("/api/generate", asked)?.json()?;
    assert_eq!(again["eval_count"], 2, "{again}");
    ensure!(loaded()?, "it is loaded again");
    Ok(())
}

/// The disk has some 80 MiB, of which 64 are not for models.
#[test]
fn a_model_that_does_not_fit_is_refused_and_the_box_goes_on() -> Result<()> {
    let disk = DataDisk::create()?;
    let guest = Boot::new("models-full", Image::Normal)
        .disk(&disk)
        .start()?;
    let large = vec![7; 40 << 20];
    let answer = guest
        .models()
        .post_bytes(&format!("/api/blobs/{}", digest_of(&large)), large)?;
    assert_eq!(answer.status, 507, "{answer}");
    assert!(answer.text.contains("the disk has no room"), "{answer}");
    assert_eq!(guest.model_count()?, 1);
    Ok(())
}

#[test]
fn openais_routes_need_the_code_and_speak_openais_words() -> Result<()> {
    let guest = Guest::shared()?;
    for port in [guest.models(), guest.api()] {
        let listed = guest.explain(port.get("/v1/models"))?;
        assert_eq!(listed["object"], "list");
        let stranger = port.without("authorization");
        let refused = stranger.request("GET", "/v1/models", None)?;
        assert_eq!(refused.status, 401, "{refused}");
        assert_eq!(refused.json()?["error"]["type"], "authentication_error");
        let head = port.request("HEAD", "/api/tags", None)?;
        assert_eq!((head.status, head.text.as_str()), (200, ""));
    }
    Ok(())
}

/// Nothing leaves the box to a port that its manifest does not name, even if a pull asks for it.
#[test]
fn a_pull_reaches_only_the_ports_that_it_may() -> Result<()> {
    let guest = Guest::shared()?;
    // QEMU's host, where somebody might listen.
    let asked = json!({ "model": "10.0.2.2:5000/me/tiny", "insecure": true, "stream": false });
    let answer = guest.models().request("POST", "/api/pull", Some(asked))?;
    assert_eq!(answer.status, 500, "{answer}");
    assert!(
        answer.text.contains("may not connect to port 5000"),
        "{answer}"
    );
    Ok(())
}

fn digest_of(bytes: &[u8]) -> String {
    let hash = Sha256::digest(bytes);
    let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

/// Uploads a file as clients do; returns its digest.
fn upload(guest: &Guest, file: &[u8]) -> Result<String> {
    let digest = digest_of(file);
    let path = format!("/api/blobs/{digest}");
    let models = guest.models();
    let missing = models.request("HEAD", &path, None)?;
    assert_eq!(missing.status, 404, "{missing}");
    assert_eq!(missing.header("upload-offset"), Some("0"));
    let stored = models.post_bytes(&path, file.to_vec())?;
    assert_eq!(stored.status, 201, "{stored}");
    assert_eq!(models.request("HEAD", &path, None)?.status, 200);
    Ok(digest)
}

/// The model's answer by Ollama's route, which OpenAI's gives, too.
fn both_answer(guest: &Guest) -> Result<String> {
    let messages = json!([{ "role": "user", "content": "hello" }]);
    let asked = json!({ "model": NAME, "messages": messages, "stream": false });
    let answer = guest.models().post_json("/api/chat", asked)?.json()?;
    let said = text(&answer["message"]["content"])?;
    assert_eq!(answer["eval_count"], 6, "{answer}");
    let asked = json!({
        "model": NAME, "messages": messages, "temperature": 0, "max_tokens": 6,
    });
    let answer = guest.models().post_json("/v1/chat/completions", asked)?;
    let same = text(&answer.json()?["choices"][0]["message"]["content"])?;
    assert_eq!(same, said);
    Ok(said)
}

fn text(value: &Value) -> Result<String> {
    let text = value
        .as_str()
        .with_context(|| format!("no text: {value}"))?;
    Ok(text.to_owned())
}
