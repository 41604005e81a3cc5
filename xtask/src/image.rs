//! `cargo xtask image`: kernel and initramfs, the whole appliance without a model.
//!
//! The same inputs give the same bytes. What is written is small enough, and its services are
//! valid as a set; otherwise nothing is written.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use serde::Serialize;

use crate::board::Board;
use crate::cpio::Archive;
use crate::digest::Digest;
use crate::kernel::{self, Kernel, KernelArgs};
use crate::services;
use crate::stage::{Stage, Stages};
use crate::userland::{self, INFER};
use crate::workspace::Workspace;

/// The image without a model: what fits a small flash beside a second slot.
const SIZE_LIMIT: u64 = 32_000_000;
/// zstd's strongest level that needs no more than 8 MiB to unpack.
const COMPRESSION_LEVEL: i32 = 19;
/// Compressed archives that are kept: the normal and the test image's, of two states of the tree.
const ARCHIVES_KEPT: usize = 4;
/// Directories that PID 1 and its launcher mount on.
const MOUNT_POINTS: &[&str] = &["proc", "sys", "run", "data", "sandbox"];

/// Builds kernel, userland and initramfs, and writes them to target/kos.
#[derive(Debug, Args)]
pub struct ImageArgs {
    /// How the kernel is built.
    #[command(flatten)]
    pub kernel: KernelArgs,
    /// Also write the test image: the same with the tests' services and programs added.
    #[arg(long)]
    pub test: bool,
}

/// The files of an image.
#[derive(Debug, Clone)]
pub struct Image {
    /// What the boot loader starts.
    pub kernel: PathBuf,
    /// The whole userland.
    pub initramfs: PathBuf,
    /// The same with the tests' services and programs, where it was asked for.
    pub test_initramfs: Option<PathBuf>,
}

/// What is in an image: written beside it as JSON.
#[derive(Debug, Serialize)]
struct Record<'a> {
    name: &'static str,
    version: &'static str,
    arch: &'static str,
    commit: Option<&'a str>,
    total_bytes: u64,
    kernel: Part<'a>,
    initramfs: Part<'a>,
    files: Vec<FileRecord<'a>>,
}

#[derive(Debug, Serialize)]
struct Part<'a> {
    file: &'a str,
    bytes: u64,
    sha256: String,
}

#[derive(Debug, Serialize)]
struct FileRecord<'a> {
    path: &'a str,
    bytes: usize,
    sha256: String,
}

/// The `image` command.
pub fn run(
    workspace: &Workspace,
    stages: &mut Stages,
    board: &Board,
    args: &ImageArgs,
) -> Result<()> {
    let image = build(workspace, stages, board, args)?;
    println!("{}", image.kernel.display());
    println!("{}", image.initramfs.display());
    if let Some(test) = image.test_initramfs {
        println!("{}", test.display());
    }
    Ok(())
}

/// Builds everything that an image needs and writes it to `target/kos`.
pub fn build(
    workspace: &Workspace,
    stages: &mut Stages,
    board: &Board,
    args: &ImageArgs,
) -> Result<Image> {
    let kernel = kernel::build(workspace, stages, board, &args.kernel)?;
    userland::build(workspace, stages, board, args.test)?;
    stages.run("image", |stage| {
        let recipe = Recipe { workspace, board };
        recipe.write(stage, &kernel, args.test)
    })
}

/// The inputs of an initramfs.
pub struct Recipe<'a> {
    /// The checkout.
    pub workspace: &'a Workspace,
    /// The board.
    pub board: &'a Board,
}

impl Recipe<'_> {
    fn write(&self, stage: &Stage, kernel: &Kernel, test_too: bool) -> Result<Image> {
        let out = self.workspace.out()?;
        let arch = self.board.arch.name();
        let archive = self.archive()?;
        let initramfs_bytes = compress_cached(&out, stage, &archive.to_bytes())?;
        let kernel_bytes = std::fs::read(&kernel.image)
            .with_context(|| format!("read the kernel {}", kernel.image.display()))?;
        let total = (kernel_bytes.len() + initramfs_bytes.len()) as u64;
        check_size(total, kernel_bytes.len(), &archive)?;

        let image = Image {
            kernel: out.join(format!("kos-{arch}.vmlinuz")),
            initramfs: out.join(format!("kos-{arch}.initramfs")),
            test_initramfs: test_too.then(|| out.join(format!("kos-{arch}-test.initramfs"))),
        };
        let commit = self.workspace.commit();
        let record = Record {
            name: "kOS",
            version: env!("CARGO_PKG_VERSION"),
            arch,
            commit: commit.as_deref(),
            total_bytes: total,
            kernel: part("kernel", &kernel_bytes),
            initramfs: part("initramfs", &initramfs_bytes),
            files: archive
                .files()
                .map(|(path, bytes)| FileRecord {
                    path,
                    bytes: bytes.len(),
                    sha256: Digest::of_bytes(bytes),
                })
                .collect(),
        };
        replace(&image.kernel, &kernel_bytes)?;
        replace(&image.initramfs, &initramfs_bytes)?;
        let json = serde_json::to_vec_pretty(&record)?;
        replace(&out.join(format!("kos-{arch}.json")), &json)?;
        if let Some(path) = &image.test_initramfs {
            // The kernel unpacks archives that follow one another: the test image is the normal
            // one, byte for byte, and something behind it.
            let addition = compress_cached(&out, stage, &self.test_archive(&archive)?.to_bytes())?;
            replace(path, &[initramfs_bytes, addition].concat())?;
        }
        stage.summary(format!(
            "{:.1} MB (kernel {:.1}, initramfs {:.1})",
            total as f64 / 1e6,
            kernel_bytes.len() as f64 / 1e6,
            (total - kernel_bytes.len() as u64) as f64 / 1e6
        ));
        Ok(image)
    }

    /// The normal image's files.
    pub fn archive(&self) -> Result<Archive> {
        let image = self.workspace.image();
        let set = services::check(&[image.join("services")], &image.join("seccomp"))?;
        let mut archive = Archive::default();
        for directory in MOUNT_POINTS {
            archive.directory(directory, 0o755);
        }
        archive.directory("tmp", 0o1777);
        // Before PID 1 mounts devtmpfs the kernel opens its standard streams here.
        archive.character_device("dev/console", 0o600, 5, 1);
        archive.character_device("dev/null", 0o666, 1, 3);
        archive.file("init", 0o755, self.program("kos-init")?);
        for name in userland::PACKAGES
            .iter()
            .chain([&INFER])
            .filter(|name| **name != "kos-init")
        {
            archive.file(&format!("bin/{name}"), 0o755, self.program(name)?);
        }
        for directory in ["services", "seccomp"] {
            add_texts(&mut archive, directory, &image.join(directory))?;
        }
        archive.file("etc/kos/release.toml", 0o644, self.release().into_bytes());
        for service in set.iter() {
            ensure!(
                archive.contains(&service.program.to_string_lossy()),
                "service {}: program: found {}, which is not in the image",
                service.name,
                service.program.display()
            );
        }
        Ok(archive)
    }

    /// What the test image has besides: the tests' services, validated together with the normal
    /// ones, and their programs.
    fn test_archive(&self, normal: &Archive) -> Result<Archive> {
        let image = self.workspace.image();
        let tests = self.workspace.root().join("tests");
        let mut archive = Archive::default();
        let services = tests.join("services");
        if services.is_dir() {
            services::check(
                &[image.join("services"), services.clone()],
                &image.join("seccomp"),
            )?;
            add_texts(&mut archive, "services", &services)?;
        }
        for source in std::fs::read_dir(tests.join("programs/src/bin"))? {
            let file = source?.file_name().to_string_lossy().into_owned();
            let name = file.trim_end_matches(".rs");
            // bench's floor is a program of this crate too, and no test's.
            if name.starts_with("test-") {
                archive.file(&format!("bin/{name}"), 0o755, self.program(name)?);
            }
        }
        for (path, _) in archive.files() {
            ensure!(
                !normal.contains(path),
                "the test image would replace /{path} of the normal one"
            );
        }
        Ok(archive)
    }

    fn program(&self, name: &str) -> Result<Vec<u8>> {
        let path = userland::program(self.workspace, self.board, name);
        std::fs::read(&path).with_context(|| format!("read the program {}", path.display()))
    }

    fn release(&self) -> String {
        let mut text = format!(
            "name = \"kOS\"\nversion = \"{}\"\narch = \"{}\"\n",
            env!("CARGO_PKG_VERSION"),
            self.board.arch.name()
        );
        if let Some(commit) = self.workspace.commit() {
            text.push_str(&format!("commit = \"{commit}\"\n"));
        }
        text
    }
}

/// Compresses an archive; a pure function, which the test of reproducibility relies on.
pub fn compress(archive: &[u8]) -> Result<Vec<u8>> {
    let mut encoder = zstd::Encoder::new(Vec::new(), COMPRESSION_LEVEL)?;
    encoder.include_checksum(true)?;
    encoder.set_pledged_src_size(Some(archive.len() as u64))?;
    std::io::Write::write_all(&mut encoder, archive)?;
    let mut bytes = encoder.finish()?;
    // The kernel looks for the next archive at a multiple of four.
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    Ok(bytes)
}

fn compress_cached(out: &Path, stage: &Stage, archive: &[u8]) -> Result<Vec<u8>> {
    let directory = out.join("archives");
    std::fs::create_dir_all(&directory)?;
    let name = format!(
        "{}.cpio.{COMPRESSION_LEVEL}.zst",
        &Digest::of_bytes(archive)[..24]
    );
    let path = directory.join(name);
    if let Ok(bytes) = std::fs::read(&path) {
        return Ok(bytes);
    }
    stage.note(format!("compressing {:.1} MB", archive.len() as f64 / 1e6));
    let bytes = compress(archive)?;
    replace(&path, &bytes)?;
    let mut kept: Vec<_> = std::fs::read_dir(&directory)?
        .filter_map(|entry| {
            let entry = entry.ok()?;
            Some((entry.metadata().ok()?.modified().ok()?, entry.path()))
        })
        .collect();
    kept.sort();
    for (_, old) in kept.iter().rev().skip(ARCHIVES_KEPT) {
        std::fs::remove_file(old).with_context(|| format!("remove {}", old.display()))?;
    }
    Ok(bytes)
}

/// Writes a file so that a reader sees the old or the new one, never half of it.
fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let new = path.with_file_name(format!(".{name}.{}", std::process::id()));
    std::fs::write(&new, bytes)
        .and_then(|()| std::fs::rename(&new, path))
        .with_context(|| format!("write {}", path.display()))
}

fn add_texts(archive: &mut Archive, kind: &str, directory: &Path) -> Result<()> {
    for (path, text) in services::read_texts(directory)? {
        let name = Path::new(&path)
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        archive.file(&format!("etc/kos/{kind}/{name}"), 0o644, text.into_bytes());
    }
    Ok(())
}

fn part<'a>(file: &'a str, bytes: &[u8]) -> Part<'a> {
    Part {
        file,
        bytes: bytes.len() as u64,
        sha256: Digest::of_bytes(bytes),
    }
}

fn check_size(total: u64, kernel: usize, archive: &Archive) -> Result<()> {
    if total <= SIZE_LIMIT {
        return Ok(());
    }
    let mut files: Vec<_> = archive
        .files()
        .map(|(path, bytes)| (bytes.len(), path))
        .collect();
    files.push((kernel, "(the kernel, compressed)"));
    files.sort_unstable_by(|a, b| b.cmp(a));
    let biggest: String = files
        .iter()
        .take(8)
        .map(|(bytes, path)| format!("\n  {:>6.2} MB  {path}", *bytes as f64 / 1e6))
        .collect();
    bail!(
        "the image has {:.2} MB, and at most {:.0} MB are allowed; its biggest files, unpacked:\
         {biggest}",
        total as f64 / 1e6,
        SIZE_LIMIT as f64 / 1e6
    )
}
