//! What Buildroot left, checked and put into the board's image.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use super::rootfs;
use super::tree::Tree;
use crate::board::Board;
use crate::cpio::Archive;
use crate::disk::{seed, write};
use crate::files::replace;
use crate::firmware::Parts;
use crate::fragments::Fragments;
use crate::initramfs;
use crate::kernel::{Kernel, KernelRecord};
use crate::stage::Stage;
use crate::workspace::Workspace;

/// Checks kernel and root file system and writes the image below `output`/images: for a board
/// without firmware kernel and initramfs, for every other one a disk and a slot.
pub fn take(
    workspace: &Workspace,
    stage: &Stage,
    board: &Board,
    tree: &Tree,
    output: &Path,
) -> Result<Vec<PathBuf>> {
    let images = output.join("images");
    let read = |name: &str| {
        let path = images.join(name);
        std::fs::read(&path).with_context(|| format!("read Buildroot's {}", path.display()))
    };
    stage.note("checking kernel and root file system");
    let kernel = kernel(board, tree, output)?;
    rootfs::check(workspace, &read("rootfs.cpio")?)?;

    // Archives that follow one another are unpacked over each other.
    let mut initramfs = read(&format!("kos-{}.initramfs", board.arch.name()))?;
    let mut addition = Archive::default();
    addition.file("etc/kos/data.seed", 0o644, seed::make()?);
    initramfs.extend(initramfs::compress(&addition.to_bytes())?);
    initramfs.extend(initramfs::board_archive(board)?);
    stage.summary(format!(
        "{:.1} MB (kernel {:.1}, initramfs {:.1})",
        (kernel.record.bytes + initramfs.len() as u64) as f64 / 1e6,
        kernel.record.bytes as f64 / 1e6,
        initramfs.len() as f64 / 1e6
    ));

    let file = |ending: &str| images.join(format!("kos-{}.{ending}", board.name));
    let version = workspace.version();
    let parts = Parts {
        workspace,
        board,
        kernel: &kernel,
        initramfs: &initramfs,
        version: &version,
    };
    let Some(bootable) = parts.bootable(stage)? else {
        let (vmlinuz, path) = (file("vmlinuz"), file("initramfs"));
        let bytes = std::fs::read(&kernel.image)
            .with_context(|| format!("read {}", kernel.image.display()))?;
        replace(&vmlinuz, &bytes)?;
        replace(&path, &initramfs)?;
        return Ok(vec![vmlinuz, path]);
    };
    let (disk, compressed) = (file("img"), file("img.zst"));
    stage.note("writing the disk");
    write::write(&bootable.layout, &disk)?;
    write::compress(&disk, &compressed, stage)?;
    std::fs::remove_file(&disk).with_context(|| format!("remove {}", disk.display()))?;
    let (ending, bytes) = &bootable.slot;
    replace(&file(ending), bytes)?;
    Ok(vec![compressed, file(ending)])
}

/// The kernel, once its configuration is known to hold every line of the board's fragments:
/// Buildroot drops one that Kconfig does not take without a word.
fn kernel(board: &Board, tree: &Tree, output: &Path) -> Result<Kernel> {
    let text = |path: PathBuf| {
        std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))
    };
    let config = text(output.join(".config"))?;
    let version = symbol(&config, "BR2_LINUX_KERNEL_VERSION")?;
    let build = output.join("build").join(format!("linux-{version}"));
    let kernel_config = text(build.join(".config"))?;
    Fragments::read(&board.fragments)?.check_taken(&kernel_config)?;
    ensure!(
        !kernel_config.lines().any(|line| line.ends_with("=m")),
        "the final configuration has modules, and an image has no place for them"
    );
    let release = text(build.join("include/config/kernel.release"))?;
    let images = output.join("images");
    let (image, compressed) = board.arch.kernel_images();
    let compressed = images.join(compressed);
    let bytes = std::fs::metadata(&compressed)
        .with_context(|| format!("look at {}", compressed.display()))?
        .len();
    Ok(Kernel {
        image: images.join(image),
        device_trees: images,
        record: KernelRecord {
            source: format!("linux {version} (Buildroot {})", tree.version()),
            release: release.trim().to_owned(),
            compiler: format!("gcc {}", symbol(&config, "BR2_GCC_VERSION")?),
            bytes,
            // Buildroot builds the kernel among everything else and does not say.
            cpu_seconds: 0,
            wall_seconds: 0,
            parts: Vec::new(),
        },
    })
}

/// A symbol of a `.config` whose value is a text.
fn symbol<'a>(config: &'a str, name: &str) -> Result<&'a str> {
    config
        .lines()
        .find_map(|line| {
            line.strip_prefix(name)?
                .strip_prefix("=\"")?
                .strip_suffix('"')
        })
        .with_context(|| format!("Buildroot's .config does not set {name}"))
}

#[cfg(test)]
mod tests {
    use super::symbol;

    #[test]
    fn a_symbol_is_found_by_its_whole_name() {
        let config = "BR2_GCC_VERSION_14_X=y\nBR2_GCC_VERSION=\"14.4.0\"\n";
        assert_eq!(symbol(config, "BR2_GCC_VERSION").unwrap(), "14.4.0");
        assert!(symbol(config, "BR2_GCC").is_err());
    }
}
