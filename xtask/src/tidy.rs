//! `cargo xtask tidy`: the rules of the house that a machine can check.
//!
//! The two tables of the design are the two constants below; what cargo says about the workspace
//! is held against them. The rest looks at the files that git knows.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::attack_table;
use crate::docs;
use crate::licence;
use crate::metadata::{self, Metadata};
use crate::sources::{self, Source};
use crate::stage::Stages;
use crate::workspace::Workspace;

/// Who may use whom, of our own crates, by a normal or build dependency.
const MAY_USE: &[(&str, &[&str])] = &[
    ("kos-manifest", &[]),
    ("kos-sys", &["kos-manifest"]),
    ("kos-launch", &["kos-manifest", "kos-sys"]),
    ("kos-init", &["kos-manifest", "kos-sys"]),
    ("kos-sdk", &["kos-manifest"]),
    ("kos-infer", &["kos-manifest", "kos-sdk"]),
    ("kos-api", &["kos-manifest", "kos-sdk"]),
    ("kos-net", &["kos-manifest", "kos-sdk"]),
    ("kos-training", &["kos-infer"]),
    ("kos-qemu", &[]),
    ("xtask", &["kos-manifest", "kos-qemu"]),
    ("kos-tests", &["kos-manifest", "kos-qemu"]),
    ("kos-test-programs", &["kos-manifest", "kos-sys"]),
];

/// Crates that must not be reached, by however many steps, and why.
const NEVER_USES: &[(&str, &[&str], &str)] = &[
    (
        "kos-init",
        &[
            "axum",
            "sqlx",
            "candle-core",
            "candle-nn",
            "rustls",
            "hyper",
            "h2",
            "reqwest",
            "ureq",
        ],
        "PID 1 must not die of a web bug",
    ),
    (
        "kos-launch",
        &["tokio", "zbus", "rayon"],
        "it works between fork and exec",
    ),
    (
        "kos-manifest",
        &["tokio", "rustix", "nix", "libc"],
        "it is pure, and used everywhere",
    ),
    (
        "kos-sys",
        &["tokio", "zbus"],
        "it is the floor: calls, not tasks",
    ),
];

/// Words that must not stand in the code below a directory, and why.
const NEVER_SAYS: &[(&str, &[&str], &str)] = &[
    (
        "init/pid1/src",
        &[
            "tokio::process",
            "rt-multi-thread",
            "new_multi_thread",
            "multi_thread",
        ],
        "one reaper owns waitpid; two race",
    ),
    (
        "init/launch/src",
        &["std::thread", "thread::spawn"],
        "it works between fork and exec",
    ),
    (
        "init/manifest/src",
        &[
            "std::fs",
            "std::net",
            "std::env",
            "std::process",
            "SystemTime",
            "Instant::now",
        ],
        "it does no I/O and reads no clock",
    ),
];

/// Features that a reached crate must not have.
const NEVER_HAS: &[(&str, &str, &[&str], &str)] = &[(
    "kos-init",
    "tokio",
    &["process", "rt-multi-thread"],
    "one reaper owns waitpid; two race",
)];

/// Crates whose lints are their own, because a room of theirs may hold `unsafe`.
const UNSAFE_CRATES: &[&str] = &["kos-sys", "kos-infer"];
/// Where `unsafe` may stand: with a reviewed reason at each place.
const UNSAFE_ROOMS: &[&str] = &["init/sys/", "services/infer/src/kernels/"];
/// Past this a file has a second noun.
const MAX_LINES: usize = 700;
/// A model that comes with the box: it is in every image, so it must stay small.
const MAX_MODEL_BYTES: usize = 6_000_000;
/// Binary files that belong here, by the beginning and the end of their path.
const BINARIES: &[(&str, &str)] = &[
    ("docs/", ".png"),
    ("tests/models/", ".gguf"),
    ("image/models/", ".gguf"),
    ("services/api/assets/", ".woff2"),
    ("services/api/assets/", ".png"),
    // What a fuzzer found worth keeping is bytes.
    ("fuzz/corpus/", ""),
];
/// Larger files make every clone slow for ever.
const MAX_BYTES: usize = 1_000_000;

/// Checks the rules of the repository: who uses whom, lints, files, licences.
#[derive(Debug, Args)]
pub struct TidyArgs {}

/// The `tidy` command.
pub fn run(workspace: &Workspace, stages: &mut Stages) -> Result<()> {
    stages.run("tidy", |stage| {
        stage.note("cargo metadata");
        let metadata = Metadata::read(workspace)?;
        let mut wrong = Vec::new();
        direct_uses(&metadata, &mut wrong);
        stage.note("cargo tree");
        reached_uses(workspace, &mut wrong)?;
        lints(&metadata, &mut wrong)?;
        stage.note("reading the files");
        let sources = sources::read(workspace)?;
        licence::check(&metadata, &mut wrong);
        docs::check(workspace, &mut wrong)?;
        for source in &sources {
            file(source, &mut wrong);
            words(source, &mut wrong);
        }
        attack_table::check(&sources, &mut wrong);
        if !wrong.is_empty() {
            bail!(
                "{} rules are broken:\n  {}",
                wrong.len(),
                wrong.join("\n  ")
            );
        }
        stage.summary(format!(
            "{} files and {} crates are tidy",
            sources.len(),
            metadata.count()
        ));
        Ok(())
    })
}

fn direct_uses(metadata: &Metadata, wrong: &mut Vec<String>) {
    let ours: BTreeSet<&str> = metadata
        .members()
        .map(|member| member.name.as_str())
        .collect();
    for member in metadata.members() {
        let Some((_, allowed)) = MAY_USE.iter().find(|(name, _)| *name == member.name) else {
            wrong.push(format!(
                "{}: not in the table of who may use whom (xtask/src/tidy.rs, design)",
                member.name
            ));
            continue;
        };
        for used in member.uses().filter(|used| ours.contains(used)) {
            if !allowed.contains(&used) {
                wrong.push(format!(
                    "{}: uses {used}, allowed: {}",
                    member.name,
                    if allowed.is_empty() {
                        "nothing of ours".into()
                    } else {
                        allowed.join(", ")
                    }
                ));
            }
        }
    }
}

fn reached_uses(workspace: &Workspace, wrong: &mut Vec<String>) -> Result<()> {
    let names: BTreeSet<&str> = NEVER_USES
        .iter()
        .map(|(name, ..)| *name)
        .chain(NEVER_HAS.iter().map(|(name, ..)| *name))
        .collect();
    for name in names {
        let reached = metadata::reached_from(workspace, name)?;
        for (_, never, why) in NEVER_USES.iter().filter(|(member, ..)| *member == name) {
            for found in never.iter().filter(|found| reached.contains_key(**found)) {
                wrong.push(format!(
                    "{name}: reaches {found} ({why}); see cargo tree -p {name} -i {found}"
                ));
            }
        }
        for (_, used, never, why) in NEVER_HAS.iter().filter(|(member, ..)| *member == name) {
            for feature in reached.get(*used).into_iter().flatten() {
                if never.contains(&feature.as_str()) {
                    wrong.push(format!("{name}: reaches {used} with \"{feature}\" ({why})"));
                }
            }
        }
    }
    Ok(())
}

fn lints(metadata: &Metadata, wrong: &mut Vec<String>) -> Result<()> {
    for member in metadata.members() {
        let text = std::fs::read_to_string(&member.manifest_path)
            .with_context(|| format!("read {}", member.manifest_path.display()))?;
        let manifest: toml::Table = toml::from_str(&text)
            .with_context(|| format!("read {}", member.manifest_path.display()))?;
        let inherits = manifest
            .get("lints")
            .and_then(|lints| lints.get("workspace"))
            .is_some_and(|workspace| workspace.as_bool() == Some(true));
        if !inherits && !UNSAFE_CRATES.contains(&member.name.as_str()) {
            wrong.push(format!(
                "{}: does not inherit the workspace's lints",
                member.name
            ));
        }
    }
    Ok(())
}

fn file(source: &Source, wrong: &mut Vec<String>) {
    let path = &source.path;
    let Some(text) = &source.text else {
        if !BINARIES
            .iter()
            .any(|(start, end)| path.starts_with(start) && path.ends_with(end))
        {
            wrong.push(format!(
                "{path}: a binary file with no place in a repository"
            ));
        }
        let most = match path.starts_with("image/models/") {
            true => MAX_MODEL_BYTES,
            false => MAX_BYTES,
        };
        if source.bytes > most {
            wrong.push(format!("{path}: {} bytes, allowed: {most}", source.bytes));
        }
        return;
    };
    if text.contains("\r\n") {
        wrong.push(format!("{path}: has line ends of Windows"));
    }
    if Path::new(path)
        .extension()
        .is_some_and(|extension| extension == "rs")
    {
        let lines = text.lines().count();
        if lines > MAX_LINES {
            wrong.push(format!(
                "{path}: {lines} lines, allowed: {MAX_LINES} (look for the second noun)"
            ));
        }
        if !text.starts_with("//!") {
            wrong.push(format!(
                "{path}: does not open with `//!`, what this file is for"
            ));
        }
    }
}

fn words(source: &Source, wrong: &mut Vec<String>) {
    let Some(text) = source
        .text
        .as_ref()
        .filter(|_| source.path.ends_with(".rs"))
    else {
        return;
    };
    for (index, line) in text.lines().enumerate() {
        let code = line.split("//").next().unwrap_or_default();
        let place = format!("{}:{}", source.path, index + 1);
        let room = |rooms: &[&str]| rooms.iter().any(|room| source.path.starts_with(room));
        if has_unsafe(code) && !room(UNSAFE_ROOMS) {
            wrong.push(format!(
                "{place}: `unsafe` outside {}",
                UNSAFE_ROOMS.join(" and ")
            ));
        }
        for (directory, never, why) in NEVER_SAYS {
            for word in never
                .iter()
                .filter(|word| room(&[directory]) && code.contains(**word))
            {
                wrong.push(format!("{place}: says {word} ({why})"));
            }
        }
    }
}

/// Whether a line opens an unsafe block, function, trait, implementation or attribute.
fn has_unsafe(code: &str) -> bool {
    let forms = ["{", "fn ", "impl ", "extern ", "trait ", "("];
    code.split_once("unsafe").is_some_and(|(before, after)| {
        !before.ends_with(|letter: char| letter.is_alphanumeric() || "_\"'`".contains(letter))
            && forms
                .iter()
                .any(|form| after.trim_start().starts_with(form))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaints(path: &str, text: &str) -> Vec<String> {
        let source = Source {
            path: path.into(),
            bytes: text.len(),
            text: Some(text.into()),
        };
        let mut wrong = Vec::new();
        file(&source, &mut wrong);
        words(&source, &mut wrong);
        wrong
    }

    #[test]
    fn code_is_told_from_talk_about_it() {
        // Assembled here, so that this file does not break the rule itself.
        let block = format!("//! x\nlet a = {}safe {{ f() }};", "un");
        assert_eq!(complaints("services/net/src/a.rs", &block).len(), 1);
        assert!(complaints("init/sys/src/a.rs", &block).is_empty());
        assert!(
            complaints(
                "services/net/src/a.rs",
                "//! no unsafe { }\nunsafe_code = 1"
            )
            .is_empty()
        );
    }

    #[test]
    fn files_are_held_to_the_house_rules() {
        let long = "//! x\n".repeat(MAX_LINES + 1);
        assert!(complaints("a.rs", &long)[0].contains("701 lines"));
        assert!(complaints("a.rs", "fn main() {}")[0].contains("//!"));
        assert!(complaints("a.toml", "a = 1\r\n")[0].contains("Windows"));
        let fs = format!("//! x\nuse std::{};", "fs");
        assert!(complaints("init/manifest/src/a.rs", &fs)[0].contains("no I/O"));
    }

    #[test]
    fn a_binary_needs_a_place() {
        let mut wrong = Vec::new();
        file(
            &Source {
                path: "core".into(),
                bytes: 10,
                text: None,
            },
            &mut wrong,
        );
        file(
            &Source {
                path: "docs/a.png".into(),
                bytes: 10,
                text: None,
            },
            &mut wrong,
        );
        assert_eq!(wrong.len(), 1, "{wrong:?}");
    }
}
