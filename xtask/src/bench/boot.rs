//! `cargo xtask bench boot`: how long and how much, beside a floor measured in the same run.
//!
//! The floor is the same kernel and image with an init (`kos-floor`, added for the occasion) that
//! only becomes kos-api. Boots of both take turns, so that a busy host troubles both alike. What
//! counts is the ratio: the seconds depend on the machine.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;
use kos_qemu::{Accelerator, Guest, Machine};
use serde::Serialize;

use super::median::median;
use crate::board::{Board, BoardArgs};
use crate::cpio::Archive;
use crate::datadisk::Disk;
use crate::hostpackages;
use crate::http::Client;
use crate::image::{self, Contents, Image};
use crate::initramfs;
use crate::kernel::KernelArgs;
use crate::model::Model;
use crate::run::guest_arch;
use crate::stage::{Stage, Stages};
use crate::userland;
use crate::workspace::Workspace;

/// The floor's init, one of the tests' programs.
pub const FLOOR: &str = "kos-floor";
const FLOOR_CODE: &str = "0000-0000";
const MODEL: &str = "tests/models/tiny-q8_0.gguf";
/// Only against a hang: an emulated boot takes seconds, on a busy host a minute.
const LIMIT: Duration = Duration::from_secs(240);
/// Both sides settle this long before their memory is read (kos-floor waits by itself).
const SETTLED: Duration = Duration::from_secs(10);

/// Measures boot and memory, each as a ratio to a floor measured in the same run.
#[derive(Debug, Args)]
pub struct BootArgs {
    /// Which board, of those that QEMU starts without firmware.
    #[command(flatten)]
    pub board: BoardArgs,
    /// Boots of each kind; the medians are compared.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=100))]
    pub boots: u16,
    /// Prints JSON instead of a table.
    #[arg(long)]
    pub json: bool,
    /// How the kernel is built.
    #[command(flatten)]
    pub kernel: KernelArgs,
}

#[derive(Serialize)]
struct Report {
    accelerator: &'static str,
    boots: u16,
    measures: Vec<Measure>,
}

/// One quantity, on both sides.
#[derive(Serialize)]
struct Measure {
    name: &'static str,
    unit: &'static str,
    kos: f64,
    floor: f64,
    ratio: f64,
    /// Every value that the medians are of.
    kos_all: Vec<f64>,
    floor_all: Vec<f64>,
}

/// The `bench boot` command.
pub fn run(workspace: &Workspace, stages: &mut Stages, args: &BootArgs) -> Result<()> {
    let board = &Board::read(workspace, &args.board.board)?;
    hostpackages::ensure(
        stages,
        &[hostpackages::machine(board.arch), hostpackages::FILE_SYSTEM],
    )?;
    let image = image::build(workspace, stages, board, &args.kernel, Contents::WithTests)?;
    let scratch = tempfile::Builder::new()
        .prefix("bench-")
        .tempdir_in(workspace.out()?)?;
    let bench = Bench::prepare(workspace, stages, board, image, scratch.path())?;
    let mut measures = stages.run("boots", |stage| bench.boots(stage, args.boots))?;
    measures.push(stages.run("memory", |stage| bench.memory(stage))?);
    measures.push(bench.size()?);
    let report = Report {
        accelerator: Accelerator::detect(guest_arch(board)).name(),
        boots: args.boots,
        measures,
    };
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print_table(&report);
    }
    Ok(())
}

struct Bench<'a> {
    board: &'a Board,
    image: Image,
    floor: PathBuf,
    floor_only_bytes: usize,
    disk: Disk,
    model: String,
    logs: PathBuf,
}

/// What is being booted.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Kos,
    Floor,
}

impl Bench<'_> {
    fn prepare<'a>(
        workspace: &Workspace,
        stages: &mut Stages,
        board: &'a Board,
        image: Image,
        scratch: &Path,
    ) -> Result<Bench<'a>> {
        stages.run("floor", |_| {
            let program = |name: &str| {
                let path = userland::program(workspace, board.arch, name);
                std::fs::read(&path).with_context(|| format!("read {}", path.display()))
            };
            let floor_program = program(FLOOR)?;
            let mut addition = Archive::default();
            addition.file(&format!("bin/{FLOOR}"), 0o755, floor_program.clone());
            let floor = scratch.join("floor.initramfs");
            let normal = std::fs::read(&image.initramfs)?;
            std::fs::write(
                &floor,
                [normal, initramfs::compress(&addition.to_bytes())?].concat(),
            )?;

            let mut least = Archive::default();
            least.file("init", 0o755, floor_program);
            least.file("bin/kos-api", 0o755, program("kos-api")?);
            let floor_only_bytes = initramfs::compress(&least.to_bytes())?.len();

            let model = Model::check(&workspace.root().join(MODEL))?;
            let disk = Disk::open_or_create(&scratch.join("data.img"), 256 << 20)?;
            disk.put(&model)?;
            Ok(Bench {
                board,
                image,
                floor,
                floor_only_bytes,
                disk,
                model: model.name.trim_end_matches(".gguf").to_owned(),
                logs: workspace.logs()?,
            })
        })
    }

    fn boots(&self, stage: &Stage, boots: u16) -> Result<Vec<Measure>> {
        let mut init = Pair::new("QEMU's start to init", "s");
        let mut api = Pair::new("QEMU's start to API ready", "s");
        let mut token = Pair::new("QEMU's start to first token", "s");
        for boot in 1..=boots {
            for side in [Side::Kos, Side::Floor] {
                stage.note(format!("{} {boot} of {boots}", side.name()));
                // The floor's first token is measured in a boot of its own: kos-infer beside
                // kos-api would make the floor's API later, and the floor is kos-api alone.
                let guest = self.start(side, if side == Side::Kos { "" } else { "floor.plain" })?;
                let (init_time, api_time) = until_api(side, &guest)?;
                init.add(side, init_time);
                api.add(side, api_time);
                let guest = match side {
                    Side::Kos => guest,
                    Side::Floor => {
                        drop(guest);
                        let guest = self.start(side, "floor.infer")?;
                        until_api(side, &guest)?;
                        guest
                    }
                };
                self.first_token(side, &guest)?;
                token.add(side, guest.started().elapsed());
            }
        }
        Ok(vec![init.measure(), api.measure(), token.measure()])
    }

    fn memory(&self, stage: &Stage) -> Result<Measure> {
        let mut memory = Pair::new("memory at rest", "MB");
        stage.note("kOS settles");
        let guest = self.start(Side::Kos, "")?;
        until_api(Side::Kos, &guest)?;
        let code = pairing_code(Side::Kos, &guest)?;
        // Not a wait for something to happen, but the time in which nothing does.
        std::thread::sleep(SETTLED);
        let client = Client::new(guest.address(80)?).paired(&code);
        let system: serde_json::Value =
            serde_json::from_str(&client.get("/api/v1/system", LIMIT)?)?;
        let bytes = |key: &str| {
            system["memory"][key]
                .as_f64()
                .context("no memory in the answer")
        };
        memory
            .kos
            .push((bytes("total")? - bytes("available")?) / 1e6);
        drop(guest);
        stage.note("the floor settles");
        let guest = self.start(Side::Floor, "floor.memory")?;
        let mark = "floor: memory ";
        let line = guest.wait_line("memory line", |line| line.starts_with(mark), LIMIT)?;
        let bytes: f64 = line.trim_start_matches(mark).trim().parse()?;
        memory.floor.push(bytes / 1e6);
        Ok(memory.measure())
    }

    fn size(&self) -> Result<Measure> {
        let bytes = |path: &Path| -> Result<usize> { Ok(std::fs::metadata(path)?.len() as usize) };
        let kernel = bytes(&self.image.kernel)?;
        let mut size = Pair::new("image", "MB");
        size.kos
            .push((kernel + bytes(&self.image.initramfs)?) as f64 / 1e6);
        size.floor
            .push((kernel + self.floor_only_bytes) as f64 / 1e6);
        Ok(size.measure())
    }

    fn start(&self, side: Side, append: &str) -> Result<Guest> {
        let machine = Machine::new(guest_arch(self.board))
            .kernel(&self.image.kernel)
            .append(&self.board.kernel_arguments)
            .append(append)
            .memory_mib(512)
            .cpus(2)
            .forward(80)
            .serial_log(self.logs.join(format!("bench-{}-serial.log", side.name())))
            // Every boot sees the disk as it was made.
            .argument("-snapshot")
            .disk(kos_qemu::Disk::new(self.disk.path()).serial("kos-data"));
        let machine = match side {
            Side::Kos => machine
                .initrd(&self.image.initramfs)
                .append("kos.data=serial:kos-data"),
            Side::Floor => machine
                .initrd(&self.floor)
                .append(&format!("rdinit=/bin/{FLOOR}")),
        };
        Ok(machine.start()?)
    }

    fn first_token(&self, side: Side, guest: &Guest) -> Result<()> {
        let code = pairing_code(side, guest)?;
        let client = Client::new(guest.address(80)?).paired(&code);
        let question = serde_json::json!({ "model": self.model, "prompt": "a" }).to_string();
        client.post_until("/api/generate", &question, "\"response\":", LIMIT)
    }
}

impl Side {
    fn name(self) -> &'static str {
        match self {
            Side::Kos => "kos",
            Side::Floor => "floor",
        }
    }
}

/// Waits for init's first line and then for the API; the times are since QEMU's start.
fn until_api(side: Side, guest: &Guest) -> Result<(Duration, Duration)> {
    let mark = match side {
        Side::Kos => "kos: init",
        Side::Floor => "floor: init",
    };
    guest.wait_line("init's first line", |line| line.starts_with(mark), LIMIT)?;
    let init = guest.started().elapsed();
    Client::new(guest.address(80)?)
        .get("/healthz", LIMIT)
        .with_context(|| guest.serial_tail().to_string())?;
    Ok((init, guest.started().elapsed()))
}

fn pairing_code(side: Side, guest: &Guest) -> Result<String> {
    let mark = "kos: pairing code ";
    match side {
        Side::Floor => Ok(FLOOR_CODE.to_owned()),
        Side::Kos => {
            let line = guest
                .wait_line_from(0, "pairing code", |l| l.starts_with(mark), LIMIT)?
                .0;
            Ok(line.trim_start_matches(mark).trim().to_owned())
        }
    }
}

/// The values of one quantity on both sides.
struct Pair {
    name: &'static str,
    unit: &'static str,
    kos: Vec<f64>,
    floor: Vec<f64>,
}

impl Pair {
    fn new(name: &'static str, unit: &'static str) -> Pair {
        Pair {
            name,
            unit,
            kos: Vec::new(),
            floor: Vec::new(),
        }
    }

    fn add(&mut self, side: Side, time: Duration) {
        match side {
            Side::Kos => self.kos.push(time.as_secs_f64()),
            Side::Floor => self.floor.push(time.as_secs_f64()),
        }
    }

    fn measure(self) -> Measure {
        let (kos, floor) = (median(&self.kos), median(&self.floor));
        Measure {
            name: self.name,
            unit: self.unit,
            kos,
            floor,
            ratio: kos / floor,
            kos_all: self.kos,
            floor_all: self.floor,
        }
    }
}

fn print_table(report: &Report) {
    println!(
        "\n{} boots of each kind with {}; the floor is the same kernel and an init that only \
         becomes kos-api\n",
        report.boots, report.accelerator
    );
    println!("{:<30} {:>10} {:>10} {:>8}", "", "kOS", "floor", "ratio");
    for measure in &report.measures {
        println!(
            "{:<30} {:>7.2} {:<2} {:>7.2} {:<2} {:>7.2}",
            measure.name, measure.kos, measure.unit, measure.floor, measure.unit, measure.ratio
        );
    }
}
