//! `cargo xtask train`: trains the model that comes with the box.
//!
//! The work is kos-training's; here stands where things lie. One thread, because sums that several
//! threads make differ in their last bits: the same seed on the same kind of processor gives the
//! same file.

use std::process::Command;

use anyhow::{Context, Result};
use clap::Args;

use crate::arch::Arch;
use crate::rust::Rust;
use crate::stage::Stages;
use crate::userland;
use crate::workspace::Workspace;

/// The crate that trains.
const PACKAGE: &str = "kos-training";
/// The model, from the workspace's root.
const MODEL: &str = "image/models/operator.gguf";
/// Requests by hand, to say on the way how well it goes.
const DEVELOPMENT: &str = "services/infer/tests/operator/development.jsonl";
/// Requests by hand that nothing is chosen by, by two authors.
const HELD_OUT: [&str; 2] = [
    "services/infer/tests/operator/held-out.jsonl",
    "services/infer/tests/operator/held-out-other.jsonl",
];

/// Trains the operator, the model that comes with the box, or says how good it is.
///
/// Training takes about half an hour of one processor. Write what came of it into docs/operator.md.
#[derive(Debug, Args)]
pub struct TrainArgs {
    /// Only says how many of the requests written by hand the model understands.
    #[arg(long)]
    pub score: bool,
    /// Steps of 128 requests each.
    #[arg(long, value_name = "N", default_value_t = 6000)]
    pub steps: u32,
    /// Where chance begins.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u32,
}

/// The `train` command.
pub fn run(workspace: &Workspace, stages: &mut Stages, args: &TrainArgs) -> Result<()> {
    let arch = Arch::host().context("xtask runs on x86_64 and on aarch64 only")?;
    stages.run("the trainer", |stage| {
        let mut cargo = userland::cargo(workspace, &Rust::native(arch), "build");
        stage.run(cargo.args(["--package", PACKAGE]))
    })?;
    let trainer = || {
        let mut trainer = Command::new(userland::program(workspace, arch, PACKAGE));
        trainer
            .current_dir(workspace.root())
            .env("RAYON_NUM_THREADS", "1")
            .env("CANDLE_NUM_THREADS", "1")
            // The same buffers are wanted at each step: giving them back costs a third of the time.
            .env("MALLOC_MMAP_THRESHOLD_", "4294967296")
            .env("MALLOC_TRIM_THRESHOLD_", "4294967296");
        trainer
    };
    if !args.score {
        finished(
            trainer()
                .args(["train", "--output", MODEL, "--development", DEVELOPMENT])
                .args(["--steps", &args.steps.to_string()])
                .args(["--seed", &args.seed.to_string()]),
        )?;
    }
    finished(
        trainer()
            .args(["score", "--model", MODEL, DEVELOPMENT])
            .args(HELD_OUT),
    )
}

/// Runs it where its output is seen: it is what there is to wait for.
fn finished(command: &mut Command) -> Result<()> {
    let status = command.status().context("start the trainer")?;
    anyhow::ensure!(status.success(), "the trainer failed: {status}");
    Ok(())
}
