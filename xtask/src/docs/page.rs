//! `docs/manifest.md`: the reference of service manifests for people.

use std::fmt::Write;

use anyhow::Result;

use super::reference::{Key, Reference, Table, Value};

const HEAD: &str = "\
# Service manifests

<!-- Made by `cargo xtask docs` from the doc comments of init/manifest/src/raw.rs. Do not edit. -->

A service is described by one TOML file. The image's are in `image/services/`, the box's owner adds
others through the console's API or D-Bus; both are checked by the same code, when the image is built
(`cargo xtask check-services DIR…` does it for any directory), when the box boots, and before a reload
changes anything. An error names the file, line and column, the key, what was found and what is
allowed. Keys that do not exist are refused.

For help while typing, let the first line of a manifest be a path or address of the schema, which
taplo and the editors built on it (\"Even Better TOML\") read:

```toml
#:schema ../../docs/service.schema.json
```

";

const OWNER: &str = "\
## What the owner's manifests may have

The owner's manifests lie over the image's, which hold together without them. One of a **new name**
gets less than an image's may have: a uid of 20000 to 59999, no capabilities, no credentials, never
`essential`, `control` at most `observe`, programs (its steps' and `execute` too) only below `/bin` and
`/data/programs`, `write` only below its own directories, `read` only below those, `/data/models` and
the runtime directories of the image's services. One with the **name of an image's service** takes
that one's place with the same program, uid, credentials and sandbox, and steps among the image's
programs; all else may differ.

## What a reload restarts

A change of `program`, `args`, `uid`, `environment`, `credentials`, `sockets` or anything in `sandbox`
takes a new process, and so do `limits.open-files`, `file-size`, `locked-memory` and `stack`, and a
`watchdog` that becomes shorter. Everything else is taken over by the running service. It is not told:
`$KOS_MEMORY_LIMIT` (in bytes) and `$KOS_CPU_LIMIT` (in processors) stay what `limits.memory` and
`limits.cpu` were at its start, and one that plans by them needs a restart to use more.

";

/// Writes the page.
pub fn write(reference: &Reference) -> Result<String> {
    let mut page = HEAD.to_owned();
    let _infallible = write!(
        page,
        "## A complete example\n\nEvery table of this page, in one file named `echo.toml`.\n\n\
         ```toml\n{}```\n\n",
        example(reference)?
    );
    section(
        reference,
        &mut page,
        "The service itself",
        "",
        &reference.root,
    )?;
    for (path, table) in sections(reference)? {
        section(reference, &mut page, &format!("`{path}`"), &path, table)?;
    }
    page.push_str(OWNER);
    kinds(reference, &mut page);
    Ok(page)
}

/// All examples of the reference, which are parts of one manifest.
pub fn example(reference: &Reference) -> Result<String> {
    let mut examples: Vec<&str> = reference.root.doc.example.as_deref().into_iter().collect();
    for (_, table) in sections(reference)? {
        examples.extend(table.doc.example.as_deref());
    }
    Ok(examples.join("\n"))
}

/// Tables below the root, as they are opened in a manifest, in the order of their keys.
pub fn sections(reference: &Reference) -> Result<Vec<(String, &Table)>> {
    let mut sections = Vec::new();
    add(reference, &reference.root, "", &mut sections)?;
    Ok(sections)
}

fn add<'r>(
    reference: &'r Reference,
    parent: &Table,
    prefix: &str,
    sections: &mut Vec<(String, &'r Table)>,
) -> Result<()> {
    for key in &parent.keys {
        let path = format!("{prefix}{}", key.name);
        let (name, shown) = match &key.value {
            Value::Table(name) => (name, format!("[{path}]")),
            Value::List(inner) => match &**inner {
                Value::Table(name) => (name, format!("[[{path}]]")),
                _ => continue,
            },
            _ => continue,
        };
        let table = reference.table(name)?;
        sections.push((shown, table));
        add(reference, table, &format!("{path}."), sections)?;
    }
    Ok(())
}

fn section(
    reference: &Reference,
    page: &mut String,
    title: &str,
    path: &str,
    table: &Table,
) -> Result<()> {
    let _infallible = write!(page, "## {title}\n\n{}\n\n", table.doc.text);
    if let Some(example) = table.doc.example.as_deref().filter(|_| !path.is_empty()) {
        let _infallible = write!(page, "```toml\n{example}```\n\n");
    }
    page.push_str("| key | type | default | allowed | meaning |\n|---|---|---|---|---|\n");
    for key in &table.keys {
        row(reference, page, key)?;
    }
    page.push('\n');
    Ok(())
}

fn row(reference: &Reference, page: &mut String, key: &Key) -> Result<()> {
    let default = match (&key.doc.default, key.required) {
        (Some(default), _) => default.clone(),
        (None, true) => "**required**".to_owned(),
        (None, false) => "none".to_owned(),
    };
    let mut meaning = key.doc.text.clone();
    let mut allowed = key.doc.allowed.clone().unwrap_or_default();
    if let Value::Choice(name) = &key.value {
        let words = reference.choices.get(name).map_or(&[][..], Vec::as_slice);
        for choice in words {
            let _infallible = write!(meaning, "<br>`{}`: {}", choice.word, choice.doc.text);
        }
        if allowed.is_empty() {
            let words: Vec<String> = words.iter().map(|w| format!("`{}`", w.word)).collect();
            allowed = words.join(", ");
        }
    }
    let _infallible = writeln!(
        page,
        "| `{}` | {} | {} | {} | {} |",
        key.name,
        shown(&key.value),
        cell(&default),
        cell(&allowed),
        cell(&meaning)
    );
    Ok(())
}

/// A bar would end the cell.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

fn shown(value: &Value) -> String {
    match value {
        Value::Bool => "boolean".to_owned(),
        Value::Integer => "integer".to_owned(),
        Value::Float => "number".to_owned(),
        Value::Kind(name) => words(name),
        Value::Choice(_) => "word".to_owned(),
        Value::Table(_) => "table".to_owned(),
        Value::List(inner) => match &**inner {
            Value::Table(_) => "list of tables".to_owned(),
            inner => format!("list: {}", shown(inner)),
        },
        Value::Map(inner) => format!("names, each with: {}", shown(inner)),
    }
}

/// The name of a kind in words: `SizeOrNone` is a "size or none".
fn words(kind: &str) -> String {
    if kind == "String" {
        return "text".to_owned();
    }
    let mut words = String::new();
    for letter in kind.chars() {
        if letter.is_ascii_uppercase() && !words.is_empty() {
            words.push(' ');
        }
        words.push(letter.to_ascii_lowercase());
    }
    words
}

fn kinds(reference: &Reference, page: &mut String) {
    page.push_str("## How values are written\n\n| type | form |\n|---|---|\n");
    for (name, kind) in &reference.kinds {
        let allowed = kind.doc.allowed.as_ref();
        let allowed = allowed.map_or(String::new(), |allowed| format!(" Allowed: {allowed}."));
        let _infallible = writeln!(
            page,
            "| {} | {}{} |",
            words(name),
            cell(&kind.doc.text),
            cell(&allowed)
        );
    }
}
