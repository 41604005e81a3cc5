//! `cargo xtask kernel`: Linux from source, cached by everything that it was made of.
//!
//! The cache is shared by all checkouts of a user. A kernel appears in it by one rename, so what
//! is there is whole; a lock makes two builds take turns.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use serde::{Deserialize, Serialize};

use crate::board::{self, Board, BoardArgs};
use crate::digest::Digest;
use crate::fragments::Fragments;
use crate::hostpackages;
use crate::stage::{Stage, Stages};
use crate::workspace::Workspace;

const DEBIAN_PACKAGE: &str = "linux-source-6.12";
const DEBIAN_TARBALL: &str = "/usr/src/linux-source-6.12.tar.xz";

/// The kernel's text says when and by whom it was built; the same inputs must say the same.
const BUILD_IDENTITY: &[(&str, &str)] = &[
    ("KBUILD_BUILD_TIMESTAMP", "Thu Jan  1 00:00:00 UTC 1970"),
    ("KBUILD_BUILD_USER", "kos"),
    ("KBUILD_BUILD_HOST", "kos"),
    ("KBUILD_BUILD_VERSION", "1"),
    // A tree inside a git checkout would otherwise add its commit to the version.
    ("LOCALVERSION", ""),
    ("LC_ALL", "C"),
];

/// Builds the kernel from source, or finds it in the cache.
#[derive(Debug, Args)]
pub struct KernelCommandArgs {
    /// Which board's kernel.
    #[command(flatten)]
    pub board: BoardArgs,
    /// How it is built.
    #[command(flatten)]
    pub kernel: KernelArgs,
}

/// How the kernel is built.
#[derive(Debug, Clone, Default, Args)]
pub struct KernelArgs {
    /// Build this source tree instead of Debian's linux-source package.
    #[arg(long, value_name = "DIR")]
    pub kernel_source: Option<PathBuf>,
}

/// A kernel in the cache.
#[derive(Debug, Clone)]
pub struct Kernel {
    /// The image that a boot loader takes.
    pub image: PathBuf,
    /// The directory of its device trees, as `MAKER/BOARD.dtb`.
    pub device_trees: PathBuf,
    /// What building it took.
    pub record: KernelRecord,
}

/// What is remembered about a build, beside the kernel.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct KernelRecord {
    /// The version of the source.
    pub source: String,
    /// The release as `uname -r` says it.
    pub release: String,
    /// The compiler's own description.
    pub compiler: String,
    /// The compressed image's size.
    pub bytes: u64,
    /// User and system time of the whole build, unpacking included.
    pub cpu_seconds: u64,
    /// Wall time.
    pub wall_seconds: u64,
    /// What it was linked of, the largest first.
    pub parts: Vec<KernelPart>,
}

/// A directory of the kernel's source, in the kernel that was built.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct KernelPart {
    /// The directory.
    pub directory: String,
    /// Code and data, before compression.
    pub bytes: u64,
}

/// The `kernel` command.
pub fn run(
    workspace: &Workspace,
    stages: &mut Stages,
    board: &Board,
    args: &KernelCommandArgs,
) -> Result<()> {
    let kernel = build(workspace, stages, board, &args.kernel)?;
    println!("{}", kernel.image.display());
    Ok(())
}

/// The kernel for a board: from the cache, or built.
pub fn build(
    workspace: &Workspace,
    stages: &mut Stages,
    board: &Board,
    args: &KernelArgs,
) -> Result<Kernel> {
    hostpackages::ensure(
        stages,
        &[hostpackages::KERNEL, hostpackages::compiler(board.arch)],
    )?;
    if args.kernel_source.is_none() {
        hostpackages::ensure(stages, &[hostpackages::KERNEL_SOURCE])?;
    }
    let fragments = Fragments::read(&board.fragments)?;
    let device_trees = board::device_trees_beside(workspace, board)?;
    stages.run(&format!("kernel for {}", board.arch.name()), |stage| {
        let source = Source::find(args.kernel_source.as_deref())?;
        let build = Build {
            key: cache_key(board, &device_trees, &source)?,
            cache: workspace.cache()?.join("kernel"),
            compiler: first_line(&format!("{}gcc", board.arch.tool_prefix()), "--version")?,
            device_trees,
            board,
            fragments,
            source,
        };
        std::fs::create_dir_all(&build.cache)?;
        let (kernel, word) = match build.cached()? {
            Some(kernel) => (kernel, "cached"),
            None => (build.under_lock(stage)?, "built"),
        };
        stage.summary(format!(
            "{word}, {} ({:.1} MB; its build took {} CPU s)",
            kernel.record.source,
            kernel.record.bytes as f64 / 1e6,
            kernel.record.cpu_seconds
        ));
        Ok(kernel)
    })
}

enum Source {
    Debian { version: String },
    Tree { directory: PathBuf, version: String },
}

impl Source {
    fn find(directory: Option<&Path>) -> Result<Source> {
        let Some(directory) = directory else {
            return Ok(Source::Debian {
                version: debian_version()?,
            });
        };
        let directory = directory
            .canonicalize()
            .with_context(|| format!("find the kernel source {}", directory.display()))?;
        ensure!(
            directory.join("Kconfig").is_file() && directory.join("Makefile").is_file(),
            "{} is not a kernel source tree: it has no Kconfig and Makefile",
            directory.display()
        );
        let version = tree_version(&directory)?;
        Ok(Source::Tree { directory, version })
    }

    fn version(&self) -> &str {
        match self {
            Source::Debian { version } | Source::Tree { version, .. } => version,
        }
    }
}

fn debian_version() -> Result<String> {
    let output = Command::new("dpkg-query")
        .args(["-W", "-f", "${Version}", DEBIAN_PACKAGE])
        .output();
    match output {
        Ok(output) if output.status.success() && !output.stdout.is_empty() => Ok(format!(
            "{DEBIAN_PACKAGE} {}",
            String::from_utf8_lossy(&output.stdout).trim()
        )),
        // The tarball came by other means: it is its own version.
        _ => Ok(format!(
            "{DEBIAN_PACKAGE} sha256 {}",
            Digest::of_file(Path::new(DEBIAN_TARBALL))?
        )),
    }
}

/// A source tree's version: its commit where nothing was changed, otherwise a digest of every
/// file's name, size and time (reading 1.5 GB at each run would cost more than a false rebuild).
fn tree_version(directory: &Path) -> Result<String> {
    let git = |arguments: &[&str]| {
        Command::new("git")
            .arg("-C")
            .arg(directory)
            .args(arguments)
            .output()
            .ok()
            .and_then(|output| {
                output
                    .status
                    .success()
                    .then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
            })
    };
    if directory.join(".git").exists()
        && let (Some(commit), Some(changes)) =
            (git(&["rev-parse", "HEAD"]), git(&["status", "--porcelain"]))
        && changes.is_empty()
    {
        return Ok(format!("git {commit}"));
    }
    let mut digest = Digest::default();
    let mut directories = vec![directory.to_path_buf()];
    while let Some(next) = directories.pop() {
        let mut entries = std::fs::read_dir(&next)
            .and_then(|entries| entries.collect::<std::io::Result<Vec<_>>>())
            .with_context(|| format!("read {}", next.display()))?;
        entries.sort_by_key(std::fs::DirEntry::file_name);
        for entry in entries {
            let metadata = entry.metadata()?;
            let name = entry.path();
            if metadata.is_dir() {
                if entry.file_name() != ".git" {
                    directories.push(name);
                }
                continue;
            }
            let modified = metadata.modified()?.duration_since(std::time::UNIX_EPOCH);
            digest.add(name.to_string_lossy().as_bytes());
            digest.add(&metadata.len().to_le_bytes());
            digest.add(&modified.map_or(0, |time| time.as_nanos()).to_le_bytes());
        }
    }
    Ok(format!("tree {}", &digest.finish()[..16]))
}

fn cache_key(board: &Board, device_trees: &[String], source: &Source) -> Result<String> {
    let mut digest = Digest::default();
    digest.add(b"kos kernel 3");
    digest.add(board.arch.name().as_bytes());
    digest.add(source.version().as_bytes());
    for tree in device_trees {
        digest.add(tree.as_bytes());
    }
    for file in &board.fragments {
        digest.add(&std::fs::read(file)?);
    }
    for program in ["gcc", "ld"] {
        let program = format!("{}{program}", board.arch.tool_prefix());
        digest.add(first_line(&program, "--version")?.as_bytes());
    }
    for (name, value) in BUILD_IDENTITY {
        digest.add(name.as_bytes());
        digest.add(value.as_bytes());
    }
    Ok(digest.finish()[..24].to_owned())
}

fn first_line(program: &str, argument: &str) -> Result<String> {
    let output = Command::new(program)
        .arg(argument)
        .output()
        .with_context(|| format!("run {program}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines()
        .next()
        .map(str::to_owned)
        .with_context(|| format!("{program} says nothing"))
}

struct Build<'a> {
    key: String,
    cache: PathBuf,
    compiler: String,
    device_trees: Vec<String>,
    board: &'a Board,
    fragments: Fragments,
    source: Source,
}

impl Build<'_> {
    fn cached(&self) -> Result<Option<Kernel>> {
        let directory = self.cache.join(&self.key);
        let Ok(text) = std::fs::read_to_string(directory.join("kernel.json")) else {
            return Ok(None);
        };
        let record = serde_json::from_str(&text)
            .with_context(|| format!("read {}/kernel.json", directory.display()))?;
        Ok(Some(Kernel {
            image: directory.join("kernel"),
            device_trees: directory.join("device-trees"),
            record,
        }))
    }

    fn under_lock(&self, stage: &Stage) -> Result<Kernel> {
        let lock = File::create(self.cache.join("lock")).context("create the kernel's lock")?;
        if lock.try_lock().is_err() {
            stage.note("waiting: another kernel is being built");
            lock.lock().context("wait for the kernel's lock")?;
        }
        // Whoever held the lock may have built just this one.
        if let Some(kernel) = self.cached()? {
            return Ok(kernel);
        }
        // Under the lock: so whatever is here was left by a build that was killed.
        let work = self.cache.join("work");
        if work.exists() {
            std::fs::remove_dir_all(&work).context("remove an earlier build's remains")?;
        }
        std::fs::create_dir_all(&work)?;
        let kernel = self.build_in(stage, &work);
        if kernel.is_ok() {
            stage.note("removing the object tree");
            std::fs::remove_dir_all(&work).context("remove the object tree")?;
        }
        kernel
    }

    fn build_in(&self, stage: &Stage, work: &Path) -> Result<Kernel> {
        let started = std::time::Instant::now();
        let cpu_before = crate::stage::children_cpu_time();
        let source = match &self.source {
            Source::Tree { directory, .. } => directory.clone(),
            Source::Debian { version } => self.unpacked(stage, version)?,
        };
        let objects = work.join("objects");
        std::fs::create_dir_all(&objects)?;
        let make = |goals: &[&str]| {
            let mut make = Command::new("nice");
            make.args(["-n", "10", "make"])
                .arg(format!("O={}", objects.display()))
                .arg(format!("ARCH={}", self.board.arch.kernel_name()))
                .arg(format!("CROSS_COMPILE={}", self.board.arch.tool_prefix()))
                .args(goals)
                .current_dir(&source)
                .envs(BUILD_IDENTITY.iter().copied());
            // cargo's own job server is not make's.
            make.env_remove("MAKEFLAGS").env_remove("CARGO_MAKEFLAGS");
            make
        };
        self.configure(stage, &objects, make)?;
        let jobs = std::thread::available_parallelism().map_or(1, |count| count.get());
        let (image, compressed) = self.board.arch.kernel_images();
        let mut goals = vec![format!("-j{jobs}"), image.to_owned()];
        if compressed != image {
            goals.push(compressed.to_owned());
        }
        goals.extend(self.device_trees.iter().map(|tree| format!("{tree}.dtb")));
        let goals: Vec<&str> = goals.iter().map(String::as_str).collect();
        stage.run(&mut make(&goals))?;

        let ready = work.join("ready");
        std::fs::create_dir_all(&ready)?;
        let boot = objects
            .join("arch")
            .join(self.board.arch.kernel_name())
            .join("boot");
        let keep = |from: &Path, to: &str| {
            let to = ready.join(to);
            std::fs::create_dir_all(to.parent().unwrap_or(&ready))?;
            std::fs::copy(from, &to).with_context(|| format!("keep {}", from.display()))
        };
        keep(&boot.join(image), "kernel")?;
        let bytes = keep(&boot.join(compressed), "kernel.compressed")?;
        for tree in &self.device_trees {
            let tree = format!("{tree}.dtb");
            keep(
                &boot.join("dts").join(&tree),
                &format!("device-trees/{tree}"),
            )?;
        }
        std::fs::copy(objects.join(".config"), ready.join("config"))?;
        let release = std::fs::read_to_string(objects.join("include/config/kernel.release"))
            .context("read the kernel's release")?;
        let record = KernelRecord {
            source: self.source.version().to_owned(),
            release: release.trim().to_owned(),
            compiler: self.compiler.clone(),
            bytes,
            cpu_seconds: crate::stage::children_cpu_time()
                .saturating_sub(cpu_before)
                .as_secs(),
            wall_seconds: started.elapsed().as_secs(),
            parts: self.parts(&objects)?,
        };
        std::fs::write(
            ready.join("kernel.json"),
            serde_json::to_vec_pretty(&record)?,
        )?;
        std::fs::rename(&ready, self.cache.join(&self.key))
            .context("put the kernel in the cache")?;
        self.cached()?
            .context("the kernel that was just built is not in the cache")
    }

    /// Debian's source, unpacked once and kept: 80,000 files are slow to remove on some disks,
    /// and the next configuration needs them again. `cargo xtask clean` removes them.
    fn unpacked(&self, stage: &Stage, version: &str) -> Result<PathBuf> {
        let name = version.replace(|letter: char| !letter.is_ascii_alphanumeric(), "-");
        let ready = self.cache.join("source").join(name);
        if ready.is_dir() {
            return Ok(ready);
        }
        stage.note(format!("unpacking {DEBIAN_TARBALL}"));
        // What a killed run left here is overwritten file by file.
        let partial = ready.with_extension("partial");
        std::fs::create_dir_all(&partial)?;
        let mut tar = Command::new("tar");
        tar.args(["-xf", DEBIAN_TARBALL, "--strip-components=1", "-C"])
            .arg(&partial);
        stage.run(&mut tar)?;
        std::fs::rename(&partial, &ready).context("keep the unpacked kernel source")?;
        Ok(ready)
    }

    /// Sizes by directory: the whole tree's first level, and the second of where drivers, file
    /// systems and protocols are chosen one by one.
    fn parts(&self, objects: &Path) -> Result<Vec<KernelPart>> {
        const CHOSEN: &[&str] = &["drivers", "fs", "net"];
        let directories = |below: &str| -> Result<Vec<String>> {
            let listing = std::fs::read_dir(objects.join(below))
                .with_context(|| format!("list {below} of the kernel's objects"))?;
            Ok(listing
                .filter_map(|entry| {
                    let name = entry.ok()?.file_name().into_string().ok()?;
                    let path = match below {
                        "" => name,
                        _ => format!("{below}/{name}"),
                    };
                    objects
                        .join(&path)
                        .join("built-in.a")
                        .is_file()
                        .then_some(path)
                })
                .collect())
        };
        let mut names = directories("")?;
        names.push(format!("arch/{}", self.board.arch.kernel_name()));
        names.retain(|name| !CHOSEN.contains(&name.as_str()));
        for chosen in CHOSEN {
            names.extend(directories(chosen)?);
        }
        let mut parts = Vec::new();
        for directory in names {
            let output = Command::new(format!("{}size", self.board.arch.tool_prefix()))
                .args(["--totals", "built-in.a"])
                .current_dir(objects.join(&directory))
                .output()
                .context("run size")?;
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            // "   text    data     bss     dec     hex filename", the totals last.
            let bytes = text.lines().last().map_or(0, |line| {
                line.split_whitespace()
                    .take(2)
                    .filter_map(|word| word.parse::<u64>().ok())
                    .sum()
            });
            parts.push(KernelPart { directory, bytes });
        }
        parts.retain(|part| part.bytes > 0);
        parts.sort_by(|a, b| (b.bytes, &a.directory).cmp(&(a.bytes, &b.directory)));
        Ok(parts)
    }

    fn configure(
        &self,
        stage: &Stage,
        objects: &Path,
        make: impl Fn(&[&str]) -> Command,
    ) -> Result<()> {
        let config = objects.join(".config");
        stage.note("make tinyconfig");
        stage.run(&mut make(&["tinyconfig"]))?;
        let base = std::fs::read_to_string(&config).context("read tinyconfig's .config")?;
        std::fs::write(&config, self.fragments.merge_over(&base))?;
        stage.run(&mut make(&["olddefconfig"]))?;
        let final_config = std::fs::read_to_string(&config).context("read the final .config")?;
        self.fragments.check_taken(&final_config)?;
        if final_config.lines().any(|line| line.ends_with("=m")) {
            bail!("the final configuration has modules, and an image has no place for them");
        }
        Ok(())
    }
}
