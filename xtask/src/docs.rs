//! `cargo xtask docs`: the pages that are made from the sources.
//!
//! The reference of service manifests is written once, as doc comments of the types that read them
//! (`init/manifest/src/raw.rs`). From these come `docs/manifest.md` for people and
//! `docs/service.schema.json` for editors; both are committed, and `cargo xtask tidy` holds them
//! against what this command would make.

mod page;
mod reference;
mod schema;
#[cfg(test)]
mod tests;

use std::path::Path;

use anyhow::{Context, Result};
use clap::Args;

use crate::workspace::Workspace;
use reference::Reference;

/// Sources of the reference, in the order of the page.
const SOURCES: &[&str] = &[
    "init/manifest/src/raw.rs",
    "init/manifest/src/raw/supervision.rs",
    "init/manifest/src/raw/limits.rs",
    "init/manifest/src/raw/sandbox.rs",
];
/// The type that a whole manifest is read into.
const ROOT: &str = "RawService";

/// Writes the pages that are made from the sources: docs/manifest.md and docs/service.schema.json.
#[derive(Debug, Args)]
pub struct DocsArgs {}

/// The `docs` command.
pub fn run(workspace: &Workspace) -> Result<()> {
    for (path, text) in make(workspace.root())? {
        std::fs::write(workspace.root().join(path), text)
            .with_context(|| format!("write {path}"))?;
        println!("{path}");
    }
    Ok(())
}

/// Adds a complaint for every committed page that is not what [`run`] would write.
pub fn check(workspace: &Workspace, wrong: &mut Vec<String>) -> Result<()> {
    for (path, text) in make(workspace.root())? {
        let committed = std::fs::read_to_string(workspace.root().join(path)).unwrap_or_default();
        if committed != text {
            wrong.push(format!(
                "{path}: is not what its sources say; run `cargo xtask docs`"
            ));
        }
    }
    Ok(())
}

/// The pages: path and text.
fn make(root: &Path) -> Result<[(&'static str, String); 2]> {
    let reference = Reference::read(root, SOURCES, ROOT)?;
    Ok([
        ("docs/manifest.md", page::write(&reference)?),
        ("docs/service.schema.json", schema::write(&reference)?),
    ])
}
