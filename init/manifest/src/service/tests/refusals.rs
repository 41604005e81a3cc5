//! A case for every error: what is refused, where, by which key, with what was found and allowed.

use super::*;

/// What is added to [`GOOD`] (whose next line is 6), and what is said about it.
const CASES: &str = include_str!("refusals.txt");

#[test]
fn every_error_names_place_key_found_and_allowed() {
    let good = GOOD.trim_end();
    let cases = CASES.split("\n\n").filter(|case| !case.starts_with('#'));
    let mut wrong = Vec::new();
    for case in cases.clone() {
        let (extra, wanted) = case.split_once("\n=> ").unwrap();
        let found = match parse(&[("echo.toml", &format!("{good}\n{extra}\n"))]) {
            Ok(_) => "accepted".to_owned(),
            Err(error) => error.to_string(),
        };
        let mut words = wanted.trim_end().split(" | ");
        let start = format!("echo.toml:{}", words.next().unwrap());
        if !found.starts_with(&start) || !words.all(|word| found.contains(word)) {
            wrong.push(format!("{extra}\n  wanted {wanted}\n  found  {found}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(cases.count() > 100);
}

#[test]
fn lists_have_an_end() {
    let step = "[[steps.pre-start]]\nprogram = \"/bin/a\"\n";
    let error = refused(&format!("{GOOD}{}", step.repeat(9)));
    assert!(
        error.contains(":23:11: steps.pre-start: found 9, allowed: at most 8"),
        "{error}"
    );
    let socket = "[[sockets]]\nname = \"a\"\nlisten = \"tcp:0.0.0.0:1\"\n";
    let error = refused(&format!("{GOOD}{}", socket.repeat(17)));
    assert!(
        error.contains("sockets: found 17, allowed: at most 16"),
        "{error}"
    );
    let trigger = "[[pressure]]\nresource = \"io\"\nthreshold = \"1s\"\naction = \"tell\"\n";
    let error = refused(&format!("{GOOD}{}", trigger.repeat(9)));
    assert!(
        error.contains("pressure: found 9, allowed: at most 8"),
        "{error}"
    );
    let error = refused(&GOOD.replace("Says what", &"x".repeat(200)));
    assert!(
        error.contains(":3:15: description: found 209 bytes, allowed: at most 200"),
        "{error}"
    );
    let error = refused(&GOOD.replace("Says what", "\\u001b[2J"));
    assert!(
        error.contains("description: found '\\u{1b}' in it"),
        "{error}"
    );
    let error = refused(&format!("{GOOD}# {}", "x".repeat(64 << 10)));
    assert!(error.contains("allowed: 65536"), "{error}");
    let many: Vec<(String, String)> = (0..=MAX_SERVICES)
        .map(|index| {
            let name = format!("s{index}");
            let uid = 1000 + index;
            let text = GOOD
                .replace("\"echo\"", &format!("\"{name}\""))
                .replace("uid = 1001", &format!("uid = {uid}"));
            (format!("{name}.toml"), text)
        })
        .collect();
    let error = ServiceSet::parse(many, &sets()).unwrap_err().to_string();
    assert!(error.contains("allowed: 1024"), "{error}");
}

#[test]
fn templates_and_their_instances() {
    let template = |rest: &str| {
        let text =
            format!("name = \"echo@\"\ndescription = \"d\"\nprogram = \"/bin/echo\"\n{rest}\n");
        parse(&[("echo@.toml", &text)]).unwrap_err().to_string()
    };
    for (rest, error) in [
        (
            "uid = 1001",
            "echo@.toml:4:7: uid: found one, allowed: none in a template",
        ),
        (
            "",
            "echo@.toml:1:8: instances: found none, allowed: at least one",
        ),
        (
            "instances = { A = 1001 }",
            "echo@.toml:4:15: instances: found \"A\", allowed: at most 24",
        ),
        (
            "instances = { a = 20001 }",
            "echo@.toml:4:19: instances: found 20001, allowed: 1000 to",
        ),
        (
            "instances = { a = 1001, b = 1001 }",
            "echo@.toml:4:29: instances: found 1001, which is the uid of 'echo@a' already",
        ),
        (
            "args = [\"%i\"]\ninstances = { a = 1001 }\n[sandbox]\nread = [\"%i/a\"]",
            "echo@.toml:7:9: sandbox.read: found 'a/a'",
        ),
    ] {
        let found = template(rest);
        assert!(
            found.starts_with(error),
            "{rest}\n  wanted {error}\n  got    {found}"
        );
    }
    let error = refused(&GOOD.replace("uid = 1001", ""));
    assert!(
        error.starts_with("echo.toml:2:8: uid: found none"),
        "{error}"
    );
    // An instance has no file of its own.
    let one = GOOD.replace("\"echo\"", "\"echo@a\"");
    let error = parse(&[("echo@a.toml", &one)]).unwrap_err().to_string();
    assert!(
        error.contains("name: found \"echo@a\", allowed: at most 32"),
        "{error}"
    );
}

#[test]
fn what_belongs_to_one_service_is_refused_to_a_second() {
    let two = GOOD.replace("\"echo\"", "\"two\"").replace("1001", "1002");
    let error = parse(&[("a/echo.toml", GOOD), ("b/echo.toml", GOOD)])
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with("b/echo.toml:2:8: name: found 'echo', which a/echo.toml"),
        "{error}"
    );
    let web = "[[sockets]]\nname = \"web\"\nlisten = \"tcp:0.0.0.0:80\"\n";
    let one = format!("{GOOD}{web}");
    let error = parse(&[("echo.toml", &one), ("two.toml", &format!("{two}{web}"))])
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with("two.toml:8:10: sockets.listen"),
        "{error}"
    );
    assert!(
        error.contains("collides with a socket of 'echo'"),
        "{error}"
    );
    let listens = format!("{two}[sandbox]\nnetwork = \"host\"\nlisten = [80]\n");
    let error = parse(&[("echo.toml", &one), ("two.toml", &listens)])
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("whose port is in 'sandbox.listen' of 'two'"),
        "{error}"
    );
}

#[test]
fn the_order_of_stopping_has_no_circle_either() {
    let named = |name: &str, uid: &str, extra: &str| {
        let text = GOOD
            .replace("\"echo\"", &format!("\"{name}\""))
            .replace("1001", uid);
        (format!("{name}.toml"), format!("{text}{extra}\n"))
    };
    let parse = |files: [(String, String); 3]| ServiceSet::parse(files, &sets());
    // The door stays open for the answer: it is stopped before the network, which it does not need.
    let fine = [
        named("api", "1001", "stop-before = [\"net\"]"),
        named("net", "1002", ""),
        named("infer", "1003", "after = [\"net\"]"),
    ];
    assert!(parse(fine).is_ok());
    let circle = [
        named("api", "1001", "stop-before = [\"infer\"]"),
        named("net", "1002", "after = [\"api\"]"),
        named("infer", "1003", "stop-before = [\"net\"]"),
    ];
    let error = parse(circle).unwrap_err().to_string();
    assert!(error.starts_with("api.toml:6:16: stop-before"), "{error}");
    assert!(error.contains("api -> net -> infer -> api"), "{error}");
}
