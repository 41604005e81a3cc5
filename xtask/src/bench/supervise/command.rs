//! The command: boots of all peers take turns, so that a busy host troubles all alike.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use kos_qemu::{Accelerator, Machine};

use super::peer::Peer;
use super::report::{Figures, Report};
use super::root;
use super::services::{self, Plan};
use crate::board::Board;
use crate::debian;
use crate::hostpackages;
use crate::initramfs::{self, Recipe};
use crate::kernel::{self, Kernel, KernelArgs};
use crate::run::guest_arch;
use crate::stage::{Stage, Stages};
use crate::userland;
use crate::workspace::Workspace;

/// All are measured on this board's kernel and machine.
const BOARD: &str = "qemu-x86_64";
/// The guest's part, which the kernel starts first.
const DRIVER: &str = "kos-bench-driver";
/// What every supervisor runs.
const PROBE: &str = "kos-bench-probe";
/// The guest's line begins so.
const MARK: &str = "bench: ";
/// The guest gives up after 480 s by itself; this is for one that cannot even say so.
const LIMIT: Duration = Duration::from_secs(500);
/// Where everything that was measured so far is, below the images' directory.
const KEPT: &str = "bench-supervise.json";

/// Measures kOS beside systemd, finit, runit and s6: starts, crashes, stops, memory, boot.
#[derive(Debug, Args)]
pub struct SuperviseArgs {
    /// Boots of each peer with 10 and with 100 services; there is one with 1,000.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=20))]
    pub rounds: u16,
    /// Only these peers (kos, systemd, finit, runit, s6); all when not given.
    #[arg(long, value_name = "PEER", value_delimiter = ',')]
    pub only: Vec<Peer>,
    /// Without the boot with 1,000 services, which takes minutes.
    #[arg(long)]
    pub no_thousand: bool,
    /// Every program at the same addresses each time, for every peer alike (`norandmaps`): an emulator then does not
    /// translate the same code anew for each process, which a processor never does.
    #[arg(long)]
    pub fixed_addresses: bool,
    /// After so many minutes no further boot begins; what was measured by then is the result.
    #[arg(long, value_name = "N", default_value_t = 25, value_parser = clap::value_parser!(u64).range(1..=600))]
    pub minutes: u64,
    /// Prints JSON instead of a table.
    #[arg(long)]
    pub json: bool,
    /// How the kernel is built.
    #[command(flatten)]
    pub kernel: KernelArgs,
}

/// The `bench supervise` command.
pub fn run(workspace: &Workspace, stages: &mut Stages, args: &SuperviseArgs) -> Result<()> {
    let board = &Board::read(workspace, BOARD)?;
    hostpackages::ensure(stages, &[hostpackages::machine(board.arch)])?;
    let kernel = kernel::build(workspace, stages, board, &args.kernel)?;
    userland::build(workspace, stages, board.arch, true)?;
    let scratch = tempfile::Builder::new()
        .prefix("bench-")
        .tempdir_in(workspace.out()?)?;
    let peers = match args.only.is_empty() {
        true => Peer::ALL.to_vec(),
        false => args.only.clone(),
    };
    let mut bench = Bench {
        workspace,
        board,
        kernel,
        scratch: scratch.path().to_path_buf(),
        bases: BTreeMap::new(),
        fixed_addresses: args.fixed_addresses,
        ends: Instant::now(),
        report: Report {
            accelerator: Accelerator::detect(guest_arch(board)).name().to_owned(),
            machine: machine(),
            ..Report::default()
        },
    };
    stages.run("roots", |stage| bench.prepare(stage, &peers))?;
    bench.ends = Instant::now() + Duration::from_secs(60 * args.minutes);
    for round in 1..=args.rounds {
        for plan in [Plan::FEW, Plan::MANY] {
            bench.boot_each(stages, &peers, plan, round)?;
        }
    }
    if !args.no_thousand {
        bench.boot_each(stages, &peers, Plan::MOST, 1)?;
    }
    if args.json {
        println!("{}", serde_json::to_string_pretty(&bench.report)?);
    } else {
        println!(
            "\nAt most {} rounds with {} on {}; medians of so many, (least–largest), ×ratio to systemd\n\n{}",
            args.rounds,
            bench.report.accelerator,
            bench.report.machine,
            bench.report.table()
        );
    }
    let failures = &bench.report.failures;
    ensure!(failures.is_empty(), "{}", failures.join("\n"));
    Ok(())
}

struct Bench<'a> {
    workspace: &'a Workspace,
    board: &'a Board,
    kernel: Kernel,
    scratch: PathBuf,
    /// Each peer's root, as an initramfs.
    bases: BTreeMap<Peer, PathBuf>,
    fixed_addresses: bool,
    /// No boot begins after this.
    ends: Instant,
    report: Report,
}

impl Bench<'_> {
    fn prepare(&mut self, stage: &Stage, peers: &[Peer]) -> Result<()> {
        for &peer in peers {
            stage.note(peer.name());
            let path = self.scratch.join(format!("{}.base", peer.name()));
            let mut bytes = match peer {
                Peer::Kos => self.kos()?,
                _ => {
                    let name = format!("bench-{}", peer.name());
                    let unpacked =
                        debian::unpacked(self.workspace, stage, &name, &peer.packages())?;
                    let archive = root::archive(&unpacked.root)?;
                    self.report
                        .packages
                        .insert(peer.name().to_owned(), unpacked.packages);
                    archive.to_bytes()
                }
            };
            let mut programs = crate::cpio::Archive::default();
            for name in [DRIVER, PROBE] {
                let program = userland::program(self.workspace, self.board.arch, name);
                let program = std::fs::read(&program)
                    .with_context(|| format!("read {}", program.display()))?;
                programs.file(&format!("bench/{name}"), 0o755, program);
            }
            bytes.extend(programs.to_bytes());
            std::fs::write(&path, bytes)?;
            self.bases.insert(peer, path);
        }
        Ok(())
    }

    /// The normal image's files, not compressed: unpacking is not measured.
    fn kos(&self) -> Result<Vec<u8>> {
        let recipe = Recipe {
            workspace: self.workspace,
            arch: self.board.arch,
        };
        let mut bytes = recipe.archive()?.to_bytes();
        bytes.extend(initramfs::board_archive(self.board)?);
        Ok(bytes)
    }

    /// One that fails is told of, and costs the others nothing.
    fn boot_each(
        &mut self,
        stages: &mut Stages,
        peers: &[Peer],
        plan: Plan,
        round: u16,
    ) -> Result<()> {
        let name = format!("{} services, round {round}", plan.services);
        stages.run(&name, |stage| {
            for &peer in peers {
                if Instant::now() > self.ends {
                    let boot = format!("{} with {name}", peer.name());
                    self.report.left_out.push(boot);
                    continue;
                }
                stage.note(peer.name());
                if let Err(error) = self.measure(peer, plan) {
                    let boot = format!("{} with {name}", peer.name());
                    eprintln!("{boot}: {error:#}");
                    let why = format!("{error:#}");
                    let why = why.lines().next().unwrap_or_default();
                    self.report.failures.push(format!("{boot}: {why}"));
                }
                // Kept even if somebody ends the run.
                let kept = self.workspace.out()?.join(KEPT);
                std::fs::write(&kept, serde_json::to_string_pretty(&self.report)?)
                    .with_context(|| format!("write {}", kept.display()))?;
            }
            Ok(())
        })
    }

    fn measure(&mut self, peer: Peer, plan: Plan) -> Result<()> {
        let base = self.bases.get(&peer).context("a peer without a root")?;
        let mut bytes = std::fs::read(base)?;
        bytes.extend(services::archive(self.workspace, peer, plan)?.to_bytes());
        let initramfs = self.scratch.join("initramfs");
        std::fs::write(&initramfs, bytes)?;
        let log = format!("bench-supervise-{}-{}.log", peer.name(), plan.name);
        let guest = Machine::new(guest_arch(self.board))
            .kernel(&self.kernel.image)
            .initrd(&initramfs)
            .append(&self.board.kernel_arguments)
            .append(if self.fixed_addresses {
                "norandmaps"
            } else {
                ""
            })
            .append(&format!(
                "rdinit=/bench/{DRIVER} BENCH_PEER={} BENCH_PLAN={}",
                peer.name(),
                plan.name
            ))
            .memory_mib(plan.memory_mib)
            .cpus(2)
            .network(false)
            .serial_log(self.workspace.logs()?.join(log))
            .start()?;
        let line = guest.wait_line("the figures", |line| line.starts_with(MARK), LIMIT)?;
        let text = line.trim_start_matches(MARK).trim();
        if let Some(error) = text.strip_prefix("error ") {
            bail!(
                "{} with {} services: {error}\n{}",
                peer.name(),
                plan.services,
                guest.serial_tail()
            );
        }
        let figures: Figures =
            serde_json::from_str(text).with_context(|| format!("the guest said {text}"))?;
        self.report.add(peer, plan.services, figures);
        Ok(())
    }
}

/// The processor's name, which absolute times belong to.
fn machine() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = text
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .and_then(|rest| rest.split_once(':'));
    name.map_or_else(
        || "an unnamed processor".to_owned(),
        |(_, name)| name.trim().to_owned(),
    )
}
