//! The initramfs: the whole operating system as archives that the kernel unpacks over each other.
//!
//! The first is the architecture's and the largest, compressed. Behind it stands the board's, a few
//! lines; a test image has the tests' services and programs behind that, and is the normal image
//! byte for byte up to there. The same inputs give the same bytes.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use kos_manifest::board_info::{BoardInfo, Firmware as BoardFirmware};

use crate::arch::Arch;
use crate::board::{Board, Firmware};
use crate::cpio::Archive;
use crate::digest::Digest;
use crate::disk::seed;
use crate::files::replace;
use crate::services;
use crate::stage::Stage;
use crate::userland;
use crate::workspace::Workspace;

/// zstd's strongest level that needs no more than 8 MiB to unpack.
const COMPRESSION_LEVEL: i32 = 19;
/// Compressed archives that are kept: the normal one and the tests' of both architectures, of two
/// states of the tree.
const ARCHIVES_KEPT: usize = 8;
/// Directories that PID 1 and its launcher mount on.
pub const MOUNT_POINTS: &[&str] = &["proc", "sys", "run", "data", "boot", "sandbox"];

/// The inputs of an architecture's initramfs.
pub struct Recipe<'a> {
    /// The checkout.
    pub workspace: &'a Workspace,
    /// The architecture.
    pub arch: Arch,
}

impl Recipe<'_> {
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
            .filter(|name| **name != "kos-init")
        {
            archive.file(&format!("bin/{name}"), 0o755, self.program(name)?);
        }
        for directory in ["services", "seccomp"] {
            add_texts(&mut archive, directory, &image.join(directory))?;
        }
        for path in built_in_models(self.workspace)? {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let bytes = std::fs::read(&path)
                .with_context(|| format!("read the model {}", path.display()))?;
            archive.file(&format!("etc/kos/models/{name}"), 0o644, bytes);
        }
        archive.file("etc/kos/release.toml", 0o644, self.release().into_bytes());
        archive.file("etc/kos/data.seed", 0o644, seed::make()?);
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
    pub fn test_archive(&self, normal: &Archive) -> Result<Archive> {
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
        let path = userland::program(self.workspace, self.arch, name);
        std::fs::read(&path).with_context(|| format!("read the program {}", path.display()))
    }

    fn release(&self) -> String {
        let mut text = format!(
            "name = \"kOS\"\nversion = \"{}\"\narch = \"{}\"\n",
            env!("CARGO_PKG_VERSION"),
            self.arch.name()
        );
        if let Some(commit) = self.workspace.commit() {
            text.push_str(&format!("commit = \"{commit}\"\n"));
        }
        text
    }
}

/// The models that come with the box, in the order of their names.
pub fn built_in_models(workspace: &Workspace) -> Result<Vec<PathBuf>> {
    let directory = workspace.image().join("models");
    let entries =
        std::fs::read_dir(&directory).with_context(|| format!("list {}", directory.display()))?;
    let mut models = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "gguf")
        {
            models.push(path);
        }
    }
    models.sort();
    Ok(models)
}

/// The board's own archive, not compressed: it is smaller than what compressing adds.
pub fn board_archive(board: &Board) -> Result<Vec<u8>> {
    let info = BoardInfo {
        name: board.name.clone(),
        description: board.description.clone(),
        arch: board.arch.name().to_owned(),
        firmware: match board.firmware {
            Firmware::None => BoardFirmware::None,
            Firmware::Uefi => BoardFirmware::Uefi,
            Firmware::RaspberryPi { .. } => BoardFirmware::RaspberryPi,
            Firmware::UBoot { .. } => BoardFirmware::UBoot,
        },
        status_led: board.status_led.clone(),
        watchdog: board.watchdog.clone(),
    };
    let text = toml::to_string(&info).context("write the board's description")?;
    // What PID 1 will read is read here first.
    BoardInfo::parse("board.toml", &text)?;
    let mut archive = Archive::default();
    archive.file("etc/kos/board.toml", 0o644, text.into_bytes());
    Ok(archive.to_bytes())
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

/// Compresses an archive, unless the same one was compressed before.
pub fn compress_cached(out: &Path, stage: &Stage, archive: &[u8]) -> Result<Vec<u8>> {
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
