//! `cargo xtask image`: the appliance as files to boot, to flash and to check.
//!
//! A board that QEMU starts by itself gets kernel and initramfs; every other one a whole disk, and
//! the slot that an update writes. Beside them stand a manifest of everything in them and
//! checksums. The same inputs give the same bytes; an image that is too large is not written.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;

use crate::board::{Board, BoardArgs};
use crate::cpio::Archive;
use crate::digest::Digest;
use crate::disk::write;
use crate::files::replace;
use crate::firmware::{Bootable, FirmwareFiles, Parts};
use crate::initramfs::{self, Recipe};
use crate::kernel::{self, Kernel, KernelArgs};
use crate::sbom;
use crate::stage::{Stage, Stages};
use crate::userland;
use crate::workspace::Workspace;

/// Kernel and initramfs, compressed: what fits a small flash beside a second slot.
const SIZE_LIMIT: u64 = 24_000_000;

/// Builds kernel, userland and a board's image, and writes them to target/kos.
#[derive(Debug, Args)]
pub struct ImageArgs {
    /// Which board's.
    #[command(flatten)]
    pub board: BoardArgs,
    /// How the kernel is built.
    #[command(flatten)]
    pub kernel: KernelArgs,
    /// Every board's, instead of one.
    #[arg(long, conflicts_with = "board")]
    pub all: bool,
    /// Also write the test image: the same with the tests' services and programs added.
    #[arg(long)]
    pub test: bool,
    /// Keep the disk uncompressed, too, for an emulator.
    #[arg(long)]
    pub raw: bool,
    /// Prints what was written as JSON.
    #[arg(long)]
    pub json: bool,
}

/// What an image is built of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Contents {
    /// The appliance.
    Normal,
    /// The appliance, and beside it one with the tests' services and programs added.
    WithTests,
}

/// The files of an image.
#[derive(Debug, Clone)]
pub struct Image {
    /// What a boot loader starts.
    pub kernel: PathBuf,
    /// The whole userland.
    pub initramfs: PathBuf,
    /// The same with the tests' services and programs, where it was asked for.
    pub test_initramfs: Option<PathBuf>,
    /// The kernel as it was built.
    pub built_kernel: Kernel,
    /// The whole disk, uncompressed, of a board that starts from one.
    pub disk: Option<PathBuf>,
    /// What is given to people: name and bytes on disk.
    pub outputs: Vec<PathBuf>,
    /// Kernel and initramfs, compressed.
    pub system_bytes: u64,
}

/// The `image` command.
pub fn run(workspace: &Workspace, stages: &mut Stages, args: &ImageArgs) -> Result<()> {
    let boards = match args.all {
        true => Board::all(workspace)?,
        false => vec![Board::read(workspace, &args.board.board)?],
    };
    let contents = match args.test {
        true => Contents::WithTests,
        false => Contents::Normal,
    };
    let mut written = Vec::new();
    for board in &boards {
        let image = build(workspace, stages, board, &args.kernel, contents)?;
        if let Some(disk) = &image.disk
            && !args.raw
        {
            std::fs::remove_file(disk).with_context(|| format!("remove {}", disk.display()))?;
        }
        written.extend(image.outputs);
        written.extend(image.disk.filter(|_| args.raw));
        written.extend(image.test_initramfs);
    }
    if args.json {
        println!("{}", serde_json::to_string_pretty(&written)?);
    } else {
        for path in written {
            println!("{}", path.display());
        }
    }
    Ok(())
}

/// Builds everything that a board's image needs and writes it to `target/kos`.
pub fn build(
    workspace: &Workspace,
    stages: &mut Stages,
    board: &Board,
    kernel: &KernelArgs,
    contents: Contents,
) -> Result<Image> {
    let kernel = kernel::build(workspace, stages, board, kernel)?;
    let tests = contents == Contents::WithTests;
    userland::build(workspace, stages, board.arch, tests)?;
    stages.run(&format!("image for {}", board.name), |stage| {
        let out = workspace.out()?;
        Assembly {
            workspace,
            board,
            kernel: &kernel,
            stage,
            out: &out,
        }
        .write(tests)
    })
}

/// One board's image in the making.
struct Assembly<'a> {
    workspace: &'a Workspace,
    board: &'a Board,
    kernel: &'a Kernel,
    stage: &'a Stage,
    out: &'a Path,
}

impl Assembly<'_> {
    fn write(&self, tests: bool) -> Result<Image> {
        let recipe = Recipe {
            workspace: self.workspace,
            arch: self.board.arch,
        };
        let archive = recipe.archive()?;
        let mut initramfs = initramfs::compress_cached(self.out, self.stage, &archive.to_bytes())?;
        initramfs.extend(initramfs::board_archive(self.board)?);
        let system_bytes = self.kernel.record.bytes + initramfs.len() as u64;
        check_size(system_bytes, self.kernel.record.bytes, &archive)?;

        let kernel_bytes = std::fs::read(&self.kernel.image)
            .with_context(|| format!("read the kernel {}", self.kernel.image.display()))?;
        let mut image = Image {
            kernel: self.file("vmlinuz"),
            initramfs: self.file("initramfs"),
            test_initramfs: None,
            built_kernel: self.kernel.clone(),
            disk: None,
            outputs: Vec::new(),
            system_bytes,
        };
        replace(&image.kernel, &kernel_bytes)?;
        replace(&image.initramfs, &initramfs)?;
        if tests {
            let addition = recipe.test_archive(&archive)?.to_bytes();
            let addition = initramfs::compress_cached(self.out, self.stage, &addition)?;
            let path = self.file("test.initramfs");
            replace(&path, &[initramfs.as_slice(), &addition].concat())?;
            image.test_initramfs = Some(path);
        }
        let version = self.workspace.version();
        let bootable = Parts {
            workspace: self.workspace,
            board: self.board,
            kernel: self.kernel,
            initramfs: &initramfs,
            version: &version,
        }
        .bootable(self.stage)?;
        let mut firmware = Vec::new();
        match bootable {
            None => image
                .outputs
                .extend([image.kernel.clone(), image.initramfs.clone()]),
            Some(bootable) => {
                firmware.clone_from(&bootable.firmware);
                image.disk = Some(self.write_disk(&bootable, &mut image.outputs)?);
            }
        }
        self.write_manifest(&archive, &firmware, &mut image.outputs)?;
        self.stage.summary(format!(
            "{:.1} MB (kernel {:.1}, initramfs {:.1})",
            system_bytes as f64 / 1e6,
            self.kernel.record.bytes as f64 / 1e6,
            initramfs.len() as f64 / 1e6
        ));
        Ok(image)
    }

    fn file(&self, ending: &str) -> PathBuf {
        self.out.join(format!("kos-{}.{ending}", self.board.name))
    }

    /// The disk and the slot. Compressing the disk is the longest part, and is not done again for
    /// the same disk.
    fn write_disk(&self, bootable: &Bootable, outputs: &mut Vec<PathBuf>) -> Result<PathBuf> {
        let disk = self.file("img");
        let compressed = self.file("img.zst");
        let digest_file = self.file("img.sha256");
        self.stage.note("writing the disk");
        write::write(&bootable.layout, &disk)?;
        let digest = Digest::of_large_file(&disk)?;
        let known = std::fs::read_to_string(&digest_file).unwrap_or_default();
        if known != digest || !compressed.is_file() {
            write::compress(&disk, &compressed, self.stage)?;
            replace(&digest_file, digest.as_bytes())?;
        }
        let (ending, bytes) = &bootable.slot;
        let slot = self.file(ending);
        replace(&slot, bytes)?;
        outputs.extend([compressed, slot]);
        Ok(disk)
    }

    fn write_manifest(
        &self,
        archive: &Archive,
        firmware: &[FirmwareFiles],
        outputs: &mut Vec<PathBuf>,
    ) -> Result<()> {
        let manifest = sbom::describe(self.workspace, self.board, self.kernel, archive, firmware)?;
        let path = self.file("cdx.json");
        replace(&path, manifest.as_bytes())?;
        outputs.push(path);
        let mut sums = String::new();
        for path in outputs.iter() {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            sums.push_str(&format!("{}  {name}\n", Digest::of_large_file(path)?));
        }
        let path = self.file("sha256sums");
        replace(&path, sums.as_bytes())?;
        outputs.push(path);
        Ok(())
    }
}

/// Makes a board's disk a second time, from the same inputs, and compares it with the first.
pub fn reproduce_disk(
    workspace: &Workspace,
    stage: &Stage,
    board: &Board,
    image: &Image,
) -> Result<()> {
    let Some(first) = &image.disk else {
        return Ok(());
    };
    let version = workspace.version();
    let bootable = Parts {
        workspace,
        board,
        kernel: &image.built_kernel,
        initramfs: &std::fs::read(&image.initramfs)?,
        version: &version,
    }
    .bootable(stage)?
    .context("a board with a disk without a layout")?;
    let again = first.with_extension("img.again");
    write::write(&bootable.layout, &again)?;
    let same = Digest::of_large_file(first)? == Digest::of_large_file(&again)?;
    std::fs::remove_file(&again)?;
    ensure!(
        same,
        "two disks of board {} from the same inputs differ",
        board.name
    );
    Ok(())
}

fn check_size(total: u64, kernel: u64, archive: &Archive) -> Result<()> {
    if total <= SIZE_LIMIT {
        return Ok(());
    }
    let mut files: Vec<_> = archive
        .files()
        .map(|(path, bytes)| (bytes.len() as u64, path))
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
