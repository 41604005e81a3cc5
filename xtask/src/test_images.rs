//! What `cargo xtask test` boots: the images of an architecture, built, compared with a second
//! build, and named to the suites in their environment.

use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};

use crate::arch::Arch;
use crate::board::Board;
use crate::debian::{self, Wanted};
use crate::image::{self, Contents, Image};
use crate::initramfs::{self, Recipe};
use crate::kernel::KernelArgs;
use crate::stage::{Stage, Stages};
use crate::workspace::Workspace;

/// The model of the end-to-end tests, made by tests/models/generate.py.
const MODEL: &str = "tests/models/tiny-q8_0.gguf";

/// What the end-to-end tests of one architecture boot.
pub struct Images {
    arch: Arch,
    /// By board.
    boards: Vec<(Board, Image)>,
    /// A U-Boot for QEMU's virt machine.
    u_boot: Option<PathBuf>,
}

impl Images {
    /// The board that QEMU starts by itself, and every kind of disk.
    fn names(arch: Arch) -> &'static [&'static str] {
        match arch {
            Arch::X86_64 => &["qemu-x86_64", "pc-x86_64"],
            Arch::Aarch64 => &["qemu-aarch64", "generic-aarch64", "rpi4", "rockpro64"],
        }
    }

    /// Builds all of them.
    pub fn build(
        workspace: &Workspace,
        stages: &mut Stages,
        kernel: &KernelArgs,
        arch: Arch,
    ) -> Result<Images> {
        let mut boards = Vec::new();
        for (index, name) in Images::names(arch).iter().enumerate() {
            let board = Board::read(workspace, name)?;
            let contents = match index {
                0 => Contents::WithTests,
                _ => Contents::Normal,
            };
            let image = image::build(workspace, stages, &board, kernel, contents)?;
            boards.push((board, image));
        }
        let u_boot = match arch {
            Arch::X86_64 => None,
            Arch::Aarch64 => Some(stages.run("u-boot for the tests", |stage| {
                let wanted = Wanted {
                    name: "u-boot-qemu",
                    arch: None,
                };
                let unpacked = debian::unpacked(workspace, stage, "u-boot-qemu", &[wanted])?;
                Ok(unpacked.root.join("usr/lib/u-boot/qemu_arm64/u-boot.bin"))
            })?),
        };
        Ok(Images {
            arch,
            boards,
            u_boot,
        })
    }

    fn image(&self, name: &str) -> Result<&Image> {
        self.boards
            .iter()
            .find(|(board, _)| board.name == name)
            .map(|(_, image)| image)
            .with_context(|| format!("the image for {name} was not built"))
    }

    /// Builds the initramfs and every disk a second time, from their inputs, and compares bytes.
    pub fn reproduce(&self, workspace: &Workspace, stage: &Stage) -> Result<()> {
        let recipe = Recipe {
            workspace,
            arch: self.arch,
        };
        stage.note("writing and compressing the initramfs again");
        let again = initramfs::compress(&recipe.archive()?.to_bytes())?;
        for (board, image) in &self.boards {
            stage.note(format!("making the image for {} again", board.name));
            let first = std::fs::read(&image.initramfs)?;
            let again = [again.as_slice(), &initramfs::board_archive(board)?].concat();
            ensure!(
                first == again,
                "two builds of the initramfs for {} from the same inputs differ: {} and {} bytes",
                board.name,
                first.len(),
                again.len()
            );
            image::reproduce_disk(workspace, stage, board, image)?;
        }
        stage.summary(format!("{} images, twice the same", self.boards.len()));
        Ok(())
    }

    /// What the suites find their inputs by.
    pub fn environment(&self, workspace: &Workspace) -> Result<Vec<(&'static str, PathBuf)>> {
        let logs = workspace.logs()?.join("guests").join(self.arch.name());
        std::fs::create_dir_all(&logs)?;
        let [direct, uefi, ..] = Images::names(self.arch) else {
            bail!("no boards to test");
        };
        let direct = self.image(direct)?;
        let disk = |name: &str| -> Result<PathBuf> {
            let image = self.image(name)?;
            image
                .disk
                .clone()
                .with_context(|| format!("{name} has no disk"))
        };
        let mut environment = vec![
            ("KOS_ARCH", PathBuf::from(self.arch.name())),
            ("KOS_KERNEL", direct.kernel.clone()),
            ("KOS_INITRD", direct.initramfs.clone()),
            (
                "KOS_TEST_INITRD",
                direct
                    .test_initramfs
                    .clone()
                    .context("the test image was not built")?,
            ),
            ("KOS_DISK_IMAGE", disk(uefi)?),
            ("KOS_TEST_MODEL", workspace.root().join(MODEL)),
            ("KOS_LOGS", logs),
            (
                "KOS_XTASK",
                std::env::current_exe().context("find xtask's own program")?,
            ),
        ];
        if let Some(u_boot) = &self.u_boot {
            environment.push(("KOS_RPI_IMAGE", disk("rpi4")?));
            environment.push(("KOS_UBOOT_IMAGE", disk("rockpro64")?));
            environment.push(("KOS_UBOOT", u_boot.clone()));
        }
        Ok(environment)
    }
}
