//! `cargo xtask bench image`: what an image's bytes are, so that growth has a name.
//!
//! The last result is kept in `docs/image-sizes.json`; each line shows what has changed since.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;
use serde::{Deserialize, Serialize};

use crate::board::Board;
use crate::image::{self, Contents};
use crate::initramfs::{self, Recipe};
use crate::kernel::KernelArgs;
use crate::stage::{Stage, Stages};
use crate::workspace::Workspace;

/// The boards whose images are measured: one of each architecture, as people flash them.
const BOARDS: &[&str] = &["pc-x86_64", "generic-aarch64"];
/// Files smaller than this are counted together.
const LEAST_SHOWN: usize = 4096;
/// A directory of the kernel smaller than this is counted with the rest.
const LEAST_KERNEL_PART: u64 = 100_000;
/// Changes smaller than this are a compiler's mood.
const LEAST_CHANGE: i64 = 1024;

/// Shows the sizes of an image's parts, and what has grown since the last kept result.
#[derive(Debug, Args)]
pub struct ImageArgs {
    /// Keeps this result in docs/image-sizes.json.
    #[arg(long)]
    pub keep: bool,
    /// Prints JSON instead of tables.
    #[arg(long)]
    pub json: bool,
    /// How the kernel is built.
    #[command(flatten)]
    pub kernel: KernelArgs,
}

/// By board.
type Report = BTreeMap<String, Sizes>;

#[derive(Debug, Serialize, Deserialize)]
struct Sizes {
    /// Kernel and initramfs, compressed: what the limit of 24 MB is for.
    system_bytes: u64,
    /// The whole disk, compressed.
    disk_bytes: u64,
    /// Each part, compressed by itself.
    compressed: BTreeMap<String, u64>,
    /// Each directory of the kernel, before compression.
    kernel: BTreeMap<String, u64>,
}

/// The `bench image` command.
pub fn run(workspace: &Workspace, stages: &mut Stages, args: &ImageArgs) -> Result<()> {
    let mut report = Report::new();
    for name in BOARDS {
        let board = Board::read(workspace, name)?;
        let image = image::build(workspace, stages, &board, &args.kernel, Contents::Normal)?;
        let sizes = stages.run(&format!("sizes of {name}"), |stage| {
            measure(workspace, stage, &board, &image)
        })?;
        report.insert((*name).to_owned(), sizes);
    }
    let path = kept_path(workspace);
    let kept: Report = match std::fs::read_to_string(&path) {
        Ok(text) => serde_json::from_str(&text)
            .with_context(|| format!("read {}", workspace.shown(&path)))?,
        Err(_) => Report::new(),
    };
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        for (board, sizes) in &report {
            print_table(board, sizes, kept.get(board));
        }
    }
    if args.keep {
        let text = serde_json::to_string_pretty(&report)? + "\n";
        std::fs::write(&path, text).with_context(|| format!("write {}", workspace.shown(&path)))?;
    }
    Ok(())
}

fn kept_path(workspace: &Workspace) -> PathBuf {
    workspace.root().join("docs/image-sizes.json")
}

fn measure(
    workspace: &Workspace,
    stage: &Stage,
    board: &Board,
    image: &image::Image,
) -> Result<Sizes> {
    let recipe = Recipe {
        workspace,
        arch: board.arch,
    };
    let kernel = &image.built_kernel.record;
    let mut compressed = BTreeMap::from([("kernel".to_owned(), kernel.bytes)]);
    let mut small = Vec::new();
    for (path, bytes) in recipe.archive()?.files() {
        if bytes.len() < LEAST_SHOWN {
            small.extend_from_slice(bytes);
            continue;
        }
        stage.note(format!("compressing /{path} by itself"));
        let size = initramfs::compress(bytes)?.len() as u64;
        compressed.insert(format!("/{path}"), size);
    }
    let size = initramfs::compress(&small)?.len() as u64;
    compressed.insert("manifests and other small files".to_owned(), size);
    let mut parts = BTreeMap::new();
    for part in &kernel.parts {
        let name = match part.bytes < LEAST_KERNEL_PART {
            true => "the rest",
            false => &part.directory,
        };
        *parts.entry(name.to_owned()).or_insert(0) += part.bytes;
    }
    let disk_bytes = match image.outputs.iter().find(|path| is_disk(path)) {
        Some(path) => std::fs::metadata(path)?.len(),
        None => 0,
    };
    Ok(Sizes {
        system_bytes: image.system_bytes,
        disk_bytes,
        compressed,
        kernel: parts,
    })
}

/// Whether a file is the compressed disk.
fn is_disk(path: &Path) -> bool {
    path.to_string_lossy().ends_with(".img.zst")
}

fn print_table(board: &str, sizes: &Sizes, kept: Option<&Sizes>) {
    println!(
        "\n{board}: kernel and initramfs {:.2} MB, whole disk {:.2} MB, both compressed",
        megabytes(sizes.system_bytes),
        megabytes(sizes.disk_bytes)
    );
    print_parts(
        "compressed by itself",
        &sizes.compressed,
        kept.map(|kept| &kept.compressed),
    );
    print_parts(
        "in the kernel, not compressed",
        &sizes.kernel,
        kept.map(|kept| &kept.kernel),
    );
}

fn print_parts(title: &str, parts: &BTreeMap<String, u64>, kept: Option<&BTreeMap<String, u64>>) {
    println!("\n  {title:<38} {:>9} {:>12}", "", "since kept");
    let mut sorted: Vec<_> = parts.iter().collect();
    sorted.sort_by(|a, b| b.1.cmp(a.1));
    for (name, bytes) in sorted {
        let change = kept.and_then(|kept| change(kept.get(name).copied().unwrap_or(0), *bytes));
        println!(
            "  {name:<38} {:>6.2} MB {:>12}",
            megabytes(*bytes),
            change.unwrap_or_default()
        );
    }
    let gone = kept.into_iter().flatten();
    for (name, bytes) in gone.filter(|(name, _)| !parts.contains_key(*name)) {
        println!(
            "  {name:<38} {:>9} {:>12}",
            "gone",
            format!("{:+.1} kB", -(*bytes as f64) / 1e3)
        );
    }
}

/// What is worth telling of a change.
fn change(before: u64, now: u64) -> Option<String> {
    let difference = now as i64 - before as i64;
    (difference.abs() >= LEAST_CHANGE).then(|| format!("{:+.1} kB", difference as f64 / 1e3))
}

fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use super::change;

    #[test]
    fn small_changes_are_not_told() {
        assert_eq!(change(10_000, 10_500), None);
        assert_eq!(change(10_000, 12_000).as_deref(), Some("+2.0 kB"));
        assert_eq!(change(12_000, 0).as_deref(), Some("-12.0 kB"));
    }
}
