//! The door: who comes in, who does not, and what the box says about itself.

use anyhow::Result;
use kos_tests::Guest;
use serde_json::json;

#[test]
fn anyone_may_ask_whether_the_box_lives() -> Result<()> {
    let answer = Guest::shared()?
        .stranger()
        .request("GET", "/healthz", None)?;
    assert_eq!((answer.status, answer.text.trim()), (200, "ok"), "{answer}");
    Ok(())
}

#[test]
fn a_browser_without_the_code_is_sent_to_pair() -> Result<()> {
    let browser = Guest::shared()?.stranger().with("accept", "text/html");
    let answer = browser.request("GET", "/", None)?;
    assert_eq!(answer.status, 303, "{answer}");
    let pairing = answer.header("location").unwrap_or_default();
    assert_eq!(pairing, "/pair");
    let page = browser.request("GET", pairing, None)?.success()?;
    assert!(page.text.contains("<form"), "{page}");
    Ok(())
}

#[test]
fn the_console_shows_every_service_to_who_has_the_code() -> Result<()> {
    let guest = Guest::shared()?;
    let page = guest
        .api()
        .with("accept", "text/html")
        .request("GET", "/", None)?
        .success()?;
    assert!(
        page.header("content-type")
            .is_some_and(|kind| kind.starts_with("text/html"))
    );
    for service in guest.api().services()? {
        assert!(
            page.text.contains(&service.name),
            "{} is not on {page}",
            service.name
        );
    }
    Ok(())
}

#[test]
fn without_or_with_a_wrong_code_nothing_is_told_or_done() -> Result<()> {
    let stranger = Guest::shared()?.stranger();
    for (method, path) in [
        ("GET", "/api/v1/system"),
        ("GET", "/api/v1/services"),
        ("GET", "/api/v1/services/init/log"),
        ("POST", "/api/v1/services/infer/stop"),
        ("POST", "/api/v1/system/poweroff"),
        ("GET", "/api/tags"),
    ] {
        let answer = stranger.request(method, path, None)?;
        assert_eq!(answer.status, 401, "{answer}");
    }
    let answer = stranger
        .paired("0000-0000")
        .request("GET", "/api/v1/system", None)?;
    assert_eq!(answer.status, 401, "{answer}");
    Ok(())
}

#[test]
fn the_models_port_is_guarded_too() -> Result<()> {
    let guest = Guest::shared()?;
    let answer = guest
        .models()
        .without("authorization")
        .request("GET", "/api/tags", None)?;
    assert_eq!(answer.status, 401, "{answer}");
    let answer = guest.models().request("GET", "/", None)?.success()?;
    assert_eq!(answer.text.trim(), "Ollama is running");
    let answer = guest.models().request("GET", "/api/v1/services", None)?;
    assert_eq!(
        answer.status, 404,
        "the models' port has nothing else: {answer}"
    );
    Ok(())
}

#[test]
fn a_foreign_name_is_refused() -> Result<()> {
    let answer = Guest::shared()?
        .api()
        .with("host", "evil.example")
        .request("GET", "/api/v1/system", None)?;
    assert!([403, 421].contains(&answer.status), "{answer}");
    Ok(())
}

#[test]
fn a_foreign_page_can_change_nothing() -> Result<()> {
    let guest = Guest::shared()?;
    for (name, value) in [
        ("origin", "http://evil.example"),
        ("sec-fetch-site", "cross-site"),
    ] {
        let page = guest.api().with(name, value);
        let answer = page.request("POST", "/api/v1/services/infer/stop", None)?;
        assert_eq!(answer.status, 403, "{name}: {value}: {answer}");
    }
    assert_eq!(guest.api().service("infer")?.state, "ready");
    Ok(())
}

#[test]
fn the_system_says_how_it_booted_and_what_it_has() -> Result<()> {
    let system = Guest::shared()?.api().get("/api/v1/system")?;
    assert_eq!(system["data"]["kind"], "disk", "{system}");
    assert!(system["uptime_ms"].as_u64() > Some(0), "{system}");
    assert!(
        system["memory"]["total"].as_u64() > Some(400 << 20),
        "{system}"
    );
    let phases = system["boot"]["phases"].as_array().map_or(0, Vec::len);
    assert!(phases > 3, "{system}");
    Ok(())
}

#[test]
fn a_name_that_does_not_exist_is_said_to_be_unknown() -> Result<()> {
    let api = Guest::shared()?.api();
    for (method, path, body) in [
        ("GET", "/api/v1/services/nobody", None),
        ("POST", "/api/v1/services/nobody/start", None),
        ("GET", "/api/v1/services/nobody/log", None),
        (
            "POST",
            "/api/v1/services/nobody/kill",
            Some(json!({ "signal": "SIGKILL" })),
        ),
        ("GET", "/api/v1/nothing", None),
    ] {
        let answer = api.request(method, path, body)?;
        assert_eq!(answer.status, 404, "{answer}");
    }
    Ok(())
}
