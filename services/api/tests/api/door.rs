//! Who gets in, and who does not.

use serde_json::json;

use crate::fixture::{Fixture, run};

#[test]
fn everything_but_the_health_check_needs_the_code() {
    run(async {
        let kos = Fixture::start().await;
        let health = kos.ask("GET", "/healthz").send().await;
        assert_eq!(health.status, 200);
        assert_eq!(health.text().await.trim(), "ok");
        for (method, path) in [
            ("GET", "/"),
            ("GET", "/console/stream"),
            ("GET", "/logs"),
            ("GET", "/logs/infer"),
            ("GET", "/api/v1/logs"),
            ("GET", "/api/v1/logs/follow"),
            ("GET", "/api/v1/logs/download"),
            ("GET", "/sessions"),
            ("POST", "/services/infer/stop"),
            ("POST", "/power/reboot"),
            ("GET", "/api/v1/services"),
            ("GET", "/api/v1/nothing"),
            ("POST", "/api/v1/system/reboot"),
            ("GET", "/api/tags"),
            ("POST", "/api/chat"),
        ] {
            let answer = kos.ask(method, path).send().await;
            assert_eq!(answer.status, 401, "{method} {path}");
            assert!(answer.json().await["error"].is_string());
        }
        assert_eq!(kos.ask_ollama("GET", "/").status().await, 401);
        assert_eq!(kos.ask_ollama("GET", "/api/tags").status().await, 401);
        assert!(kos.init.calls().is_empty());
        let page = kos.ask("GET", "/logs/infer").header("accept", "text/html");
        let page = page.send().await;
        assert_eq!(page.status, 303);
        assert_eq!(page.header("location"), "/pair?next=/logs/infer");
    });
}

#[test]
fn the_code_opens_however_it_is_typed() {
    run(async {
        let kos = Fixture::start().await;
        for code in ["AB12-CD34", "ab12cd34", "abl2-cd34"] {
            let ask = kos.ask("GET", "/api/v1/services");
            let ask = ask.header("authorization", &format!("Bearer {code}"));
            assert_eq!(ask.status().await, 200, "{code}");
        }
        let form = kos
            .ask("POST", "/pair")
            .form("code=abI2+cd34&next=/sessions");
        let answer = form.send().await;
        assert_eq!(answer.status, 200);
        assert!(answer.text().await.contains("0; url=/sessions"));
    });
}

#[test]
fn a_session_lives_until_it_is_ended() {
    run(async {
        let kos = Fixture::start().await;
        let answer = kos.ask("GET", "/pair?code=AB12-CD34").send().await;
        let cookie = answer.header("set-cookie");
        assert!(cookie.contains("HttpOnly"), "{cookie}");
        assert!(cookie.contains("SameSite=Strict"), "{cookie}");
        let token = kos.pair().await;
        assert_eq!(kos.ask("GET", "/").cookie(&token).status().await, 200);
        let bearer = kos.ask("GET", "/api/tags");
        let bearer = bearer.header("authorization", &format!("Bearer {token}"));
        assert_eq!(bearer.status().await, 200);

        let list = kos.ask("GET", "/api/v1/sessions").cookie(&token);
        let list = list.send().await.json().await;
        let sessions = list["sessions"].as_array().unwrap();
        assert_eq!(sessions.len(), 2);
        let own = sessions.iter().find(|session| session["current"] == true);
        let path = format!("/api/v1/sessions/{}", own.unwrap()["id"]);
        assert_eq!(kos.ask("DELETE", &path).cookie(&token).status().await, 204);
        assert_eq!(kos.ask("GET", "/").cookie(&token).status().await, 401);
        assert_eq!(kos.ask("DELETE", &path).code().status().await, 404);
    });
}

#[test]
fn wrong_codes_are_limited_and_sessions_are_not() {
    run(async {
        let kos = Fixture::start().await;
        let token = kos.pair().await;
        for number in 0..10 {
            let answer = if number % 2 == 0 {
                let ask = kos.ask("POST", "/pair");
                ask.form(&format!("code=AAAA-000{number}")).status().await
            } else {
                let ask = kos.ask("GET", "/api/v1/services");
                ask.header("authorization", "Bearer AAAA-0000")
                    .status()
                    .await
            };
            assert_eq!(answer, 401);
        }
        let right = kos.ask("GET", "/pair?code=AB12-CD34").send().await;
        assert_eq!(right.status, 429);
        let wait: u64 = right.header("retry-after").parse().unwrap();
        assert!((1..=60).contains(&wait), "{wait}");
        let limited = kos.ask("GET", "/api/v1/services").code().send().await;
        assert_eq!(limited.status, 429);
        let ask = kos.ask("GET", "/api/v1/services").cookie(&token);
        assert_eq!(ask.status().await, 200);
    });
}

#[test]
fn foreign_names_and_pages_are_refused() {
    run(async {
        let kos = Fixture::start().await;
        // The box's own name is known once PID 1 has said it.
        let system = kos.ask("GET", "/api/v1/system").code().send().await;
        assert_eq!(system.json().await["hostname"], "attic");
        for host in [
            "evil.example",
            "attic.evil.example",
            "",
            "localhost.evil:80",
        ] {
            let answer = kos.ask("GET", "/healthz").header("host", host);
            let answer = answer.send().await;
            assert_eq!(answer.status, 421, "{host}");
            let error = answer.json().await["error"].to_string();
            assert!(error.contains("attic.local"), "{error}");
        }
        for host in [
            "attic",
            "ATTIC.local:8080",
            "localhost:1",
            "kos.local",
            "[::1]",
            "10.0.2.15",
        ] {
            let answer = kos.ask("GET", "/healthz").header("host", host);
            assert_eq!(answer.status().await, 200, "{host}");
        }
        for (name, value, expected) in [
            ("origin", "http://evil.example", 403),
            ("origin", "null", 403),
            ("origin", "http://kos.local:8080", 202),
            ("sec-fetch-site", "cross-site", 403),
            ("sec-fetch-site", "same-site", 403),
            ("sec-fetch-site", "same-origin", 202),
            ("accept", "*/*", 202),
        ] {
            let ask = kos.ask("POST", "/api/v1/services/infer/restart").code();
            let ask = ask.header("host", "kos.local:8080").header(name, value);
            assert_eq!(ask.status().await, expected, "{name}: {value}");
        }
        assert_eq!(kos.init.calls().len(), 3);
        let preflight = kos
            .ask("OPTIONS", "/api/chat")
            .header("origin", "http://evil.example");
        let preflight = preflight.send().await;
        assert!(
            !preflight
                .headers
                .contains_key("access-control-allow-origin")
        );
    });
}

#[test]
fn answers_tell_the_browser_to_be_careful() {
    run(async {
        let kos = Fixture::start().await;
        let page = kos.ask("GET", "/").code().send().await;
        assert_eq!(page.status, 200);
        assert!(
            page.header("content-security-policy")
                .contains("default-src 'self'")
        );
        assert_eq!(page.header("x-content-type-options"), "nosniff");
        assert_eq!(page.header("referrer-policy"), "same-origin");
        assert_eq!(page.header("x-frame-options"), "DENY");
        assert_eq!(page.header("cache-control"), "no-store");
        let html = page.text().await;
        assert!(html.contains("runs language models"), "{html}");
        assert!(!html.contains("style="), "the policy forbids inline styles");
        let long = "x".repeat(40 * 1024);
        let ask = kos.ask("GET", "/healthz").header("x-long", &long);
        assert_eq!(ask.status().await, 431);
        let ask = kos.ask("PUT", "/api/v1/settings").code();
        let ask = ask.json(&json!({ "default_model": "x".repeat(80 * 1024) }));
        assert_eq!(ask.status().await, 413);
    });
}
