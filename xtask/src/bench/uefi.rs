//! `cargo xtask bench uefi`: what starting from a disk by UEFI costs, beside the same kernel and
//! initramfs given to QEMU directly.
//!
//! The clock starts where the firmware hands over, which it says on the serial line, and where
//! QEMU starts a kernel without firmware; it stops when the API is ready. Boots of both take turns.

use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;
use kos_qemu::{Accelerator, Disk, Firmware, Guest, Machine};
use serde::Serialize;

use super::median::median;
use crate::arch::Arch;
use crate::board::Board;
use crate::hostpackages;
use crate::image::{self, Contents, Image};
use crate::kernel::KernelArgs;
use crate::run::guest_arch;
use crate::stage::{Stage, Stages};
use crate::workspace::Workspace;

/// What EDK II prints when it starts a boot entry.
const HAND_OVER: &str = "BdsDxe: starting Boot";
/// PID 1's word for the API's readiness.
const READY: &str = "kos: service api ready";
/// Only against a hang: an emulated boot takes seconds, on a busy host a minute.
const LIMIT: Duration = Duration::from_secs(240);

/// Measures the way from the firmware's hand-over to the API, beside a direct kernel boot.
#[derive(Debug, Args)]
pub struct UefiArgs {
    /// Which architecture.
    #[arg(long, value_enum, default_value_t = Arch::X86_64)]
    pub arch: Arch,
    /// Boots of each kind; the medians are compared.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=100))]
    pub boots: u16,
    /// Prints JSON instead of a line.
    #[arg(long)]
    pub json: bool,
    /// How the kernel is built.
    #[command(flatten)]
    pub kernel: KernelArgs,
}

#[derive(Serialize)]
struct Report {
    arch: &'static str,
    accelerator: &'static str,
    boots: u16,
    uefi_seconds: f64,
    direct_seconds: f64,
    ratio: f64,
    uefi_all: Vec<f64>,
    direct_all: Vec<f64>,
}

/// The `bench uefi` command.
pub fn run(workspace: &Workspace, stages: &mut Stages, args: &UefiArgs) -> Result<()> {
    hostpackages::ensure(
        stages,
        &[
            hostpackages::machine(args.arch),
            hostpackages::uefi(args.arch),
            hostpackages::FILE_SYSTEM,
        ],
    )?;
    let name = match args.arch {
        Arch::X86_64 => "pc-x86_64",
        Arch::Aarch64 => "generic-aarch64",
    };
    let board = Board::read(workspace, name)?;
    let image = image::build(workspace, stages, &board, &args.kernel, Contents::Normal)?;
    let logs = workspace.logs()?;
    let bench = Bench {
        board: &board,
        image: &image,
        disk: image
            .disk
            .as_deref()
            .context("a UEFI board without a disk")?,
        log: logs.join("bench-uefi-serial.log"),
    };
    let (uefi, direct) = stages.run("boots", |stage| bench.boots(stage, args.boots))?;
    let report = Report {
        arch: args.arch.name(),
        accelerator: Accelerator::detect(guest_arch(&board)).name(),
        boots: args.boots,
        uefi_seconds: median(&uefi),
        direct_seconds: median(&direct),
        ratio: median(&uefi) / median(&direct),
        uefi_all: uefi,
        direct_all: direct,
    };
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        println!(
            "{}: firmware hand-over to API ready {:.2} s, direct kernel boot {:.2} s, ratio {:.2} \
             (medians of {}, {})",
            report.arch,
            report.uefi_seconds,
            report.direct_seconds,
            report.ratio,
            report.boots,
            report.accelerator
        );
    }
    Ok(())
}

struct Bench<'a> {
    board: &'a Board,
    image: &'a Image,
    disk: &'a std::path::Path,
    log: std::path::PathBuf,
}

impl Bench<'_> {
    fn boots(&self, stage: &Stage, boots: u16) -> Result<(Vec<f64>, Vec<f64>)> {
        let (mut uefi, mut direct) = (Vec::new(), Vec::new());
        for boot in 1..=boots {
            stage.note(format!("by UEFI, {boot} of {boots}"));
            uefi.push(self.uefi()?.as_secs_f64());
            stage.note(format!("directly, {boot} of {boots}"));
            direct.push(self.direct()?.as_secs_f64());
        }
        Ok((uefi, direct))
    }

    fn uefi(&self) -> Result<Duration> {
        let guest = self
            .machine()
            .firmware(Firmware::uefi(guest_arch(self.board)))
            .start()?;
        let ready = until_ready(&guest)?;
        let hand_over = guest
            .line_time(|line| line.contains(HAND_OVER))
            .context("the firmware did not say that it hands over")?;
        Ok(ready.saturating_sub(hand_over))
    }

    fn direct(&self) -> Result<Duration> {
        let guest = self
            .machine()
            .kernel(&self.image.kernel)
            .initrd(&self.image.initramfs)
            .append(&self.board.kernel_arguments)
            .append(&format!("kos.disk={}", self.disk_guid()?))
            .start()?;
        until_ready(&guest)
    }

    /// The same disk in both, and every boot sees it as it was made.
    fn machine(&self) -> Machine {
        Machine::new(guest_arch(self.board))
            .memory_mib(512)
            .cpus(2)
            .serial_log(&self.log)
            .argument("-snapshot")
            .disk(Disk::new(self.disk))
    }

    fn disk_guid(&self) -> Result<uuid::Uuid> {
        use crate::disk::gpt::{PRIMARY_SECTORS, SECTOR, Table};
        let mut primary = vec![0; (PRIMARY_SECTORS * SECTOR) as usize];
        let mut file = std::fs::File::open(self.disk).context("open the disk")?;
        std::io::Read::read_exact(&mut file, &mut primary).context("read the disk's table")?;
        Ok(Table::from_bytes(&primary)?.disk_guid)
    }
}

/// When the API was ready, since QEMU's start.
fn until_ready(guest: &Guest) -> Result<Duration> {
    guest.wait_line("the API's readiness", |line| line.contains(READY), LIMIT)?;
    guest
        .line_time(|line| line.contains(READY))
        .context("the line was there a moment ago")
}
