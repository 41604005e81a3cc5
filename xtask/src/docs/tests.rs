//! What the pages say is true: the example is a manifest, defaults are the defaults, and a real
//! validator takes every manifest that there is.

use std::path::{Path, PathBuf};

use kos_manifest::service::ServiceSet;

use super::reference::{Doc, Value};
use super::*;
use crate::services;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("xtask is in the workspace")
        .to_owned()
}

fn reference() -> Reference {
    Reference::read(&root(), SOURCES, ROOT).unwrap()
}

fn parse(echo: &str) -> anyhow::Result<ServiceSet> {
    let directory = tempfile::tempdir()?;
    std::fs::copy(
        root().join("image/services/net.toml"),
        directory.path().join("net.toml"),
    )?;
    std::fs::write(directory.path().join("echo.toml"), echo)?;
    services::check(
        &[directory.path().to_owned()],
        &root().join("image/seccomp"),
    )
}

#[test]
fn the_complete_example_is_a_manifest() {
    let text = page::example(&reference()).unwrap();
    let set = parse(&text).unwrap();
    let echo = set.get("echo").unwrap();
    assert_eq!((echo.sockets.len(), echo.pressure.len()), (2, 1));
    assert!(echo.timer.is_some() && echo.sandbox.state);
}

#[test]
fn a_default_that_is_written_out_changes_nothing() {
    let base = "name = \"echo\"\ndescription = \"d\"\nprogram = \"/bin/echo\"\nuid = 1500\n";
    let plain = parse(base).unwrap();
    let reference = reference();
    let mut tried = 0;
    let mut tables = page::sections(&reference).unwrap();
    tables.push((String::new(), &reference.root));
    for (path, table) in tables {
        // The others cannot be opened without keys that say something.
        if path.starts_with("[[") || path == "[timer]" {
            continue;
        }
        for key in &table.keys {
            let Some(default) = key.doc.default_value() else {
                continue;
            };
            // Only for one kind of readiness.
            if path == "[readiness]" && key.name == "path" {
                continue;
            }
            let default = match key.value {
                Value::Kind(_) | Value::Choice(_) => format!("{default:?}"),
                _ => default.to_owned(),
            };
            let text = format!("{base}{path}\n{} = {default}\n", key.name);
            assert_eq!(parse(&text).unwrap(), plain, "{text}");
            tried += 1;
        }
    }
    assert!(tried > 25, "only {tried} defaults were found");
}

#[test]
fn comments_are_taken_apart() {
    let doc = Doc::parse(
        "One\nsentence. Two.\n\nDefault: `5`. Allowed: 1 to 100.\n\n```toml\na = 1\n```\n",
    )
    .unwrap();
    assert_eq!(doc.text, "One sentence. Two.");
    assert_eq!(
        (doc.default_value(), doc.range()),
        (Some("5"), Some((1.0, 100.0)))
    );
    assert_eq!(doc.example.as_deref(), Some("a = 1\n"));
    let doc = Doc::parse("x\n\nDefault: `30s`, or more.\n\nAllowed: `a`, `b`.").unwrap();
    assert_eq!((doc.default_value(), doc.range()), (None, None));
    assert_eq!(doc.allowed.as_deref(), Some("`a`, `b`"));
}

#[test]
fn the_schema_takes_what_the_parser_takes_and_not_its_typos() {
    let schema: serde_json::Value =
        serde_json::from_str(&schema::write(&reference()).unwrap()).unwrap();
    let mut compiler = boon::Compiler::new();
    let mut schemas = boon::Schemas::new();
    compiler.add_resource("service.json", schema).unwrap();
    let index = compiler.compile("service.json", &mut schemas).unwrap();
    let takes = |text: &str| {
        let value: serde_json::Value = toml::from_str(text).unwrap();
        schemas
            .validate(&value, index)
            .map_err(|error| error.to_string())
    };
    let mut texts = vec![(
        "the example".to_owned(),
        page::example(&reference()).unwrap(),
    )];
    for directory in ["image/services", "tests/services"] {
        texts.extend(services::read_texts(&root().join(directory)).unwrap());
    }
    for (file, text) in &texts {
        if let Err(error) = takes(text) {
            panic!("{file}: {error}");
        }
    }
    assert!(texts.len() > 12);
    let base = "name = \"echo\"\ndescription = \"d\"\nprogram = \"/bin/echo\"\n";
    assert!(takes(&format!("{base}instances = {{ a = 1500 }}\n")).is_ok());
    for wrong in [
        "",
        "uid = \"1500\"",
        "uid = 1500\ninstances = { a = 1501 }",
        "uid = 1500\nrestrat = 1",
        "uid = 1500\n[limits]\nmemory = \"12MB\"",
        "uid = 1500\n[limits]\npids = 2",
        "uid = 1500\n[restart]\npolicy = \"often\"",
        "uid = 1500\n[stop]\nsignal = \"SIGKILL\"",
        "uid = 1500\n[sandbox]\ncapabilities = [\"sys_admin\"]",
        "uid = 1500\n[sandbox]\nlisten = [0]",
        "uid = 1500\n[[sockets]]\nname = \"a\"",
    ] {
        assert!(takes(&format!("{base}{wrong}\n")).is_err(), "{wrong}");
    }
}

#[test]
fn the_committed_pages_are_what_the_sources_say() {
    for (path, text) in make(&root()).unwrap() {
        let committed = std::fs::read_to_string(root().join(path)).unwrap();
        assert!(committed == text, "{path}: run `cargo xtask docs`");
    }
}
