//! `cargo xtask soak`: the tests that live by chance, at full length. Every test run does a short,
//! seeded part of each; what the last full run showed is in `docs/soak.md`.

use anyhow::Result;
use clap::{Args, ValueEnum};

use crate::arch::Arch;
use crate::fuzz::{self, FuzzArgs};
use crate::stage::Stages;
use crate::test;
use crate::workspace::Workspace;

/// What can be made long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// Random acts on ten services: kill, freeze, out of memory, stop, start, reload, floods.
    Chaos,
    /// Power cuts at random writes of the first boot.
    PowerCut,
    /// Fuzzing of every parser of what comes from outside.
    Fuzz,
}

/// Breaks things by chance for a long time: hours for all of it.
#[derive(Debug, Args)]
pub struct SoakArgs {
    /// What [default: all].
    #[arg(value_enum)]
    kind: Vec<Kind>,
    /// Where chance begins; the same seed makes the same choices.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u32,
    /// How many random acts.
    #[arg(long, value_name = "N", default_value_t = 1000)]
    acts: u32,
    /// After how many power cuts the box is booted; the disk alone is looked at after six times as
    /// many.
    #[arg(long, value_name = "N", default_value_t = 40)]
    cuts: u32,
    /// How long each fuzz target runs, in minutes.
    #[arg(long, value_name = "N", default_value_t = 10)]
    minutes: u64,
    /// What the guests are: x86_64 or aarch64.
    #[arg(long, value_name = "ARCH", default_value = "x86_64")]
    arch: Arch,
}

/// The `soak` command.
pub fn run(workspace: &Workspace, stages: &mut Stages, args: &SoakArgs) -> Result<()> {
    let wanted = |kind| args.kind.is_empty() || args.kind.contains(&kind);
    let seed = ("KOS_SEED", args.seed.to_string());
    if wanted(Kind::Chaos) {
        let acts = ("KOS_CHAOS_ACTS", args.acts.to_string());
        test::longer(
            workspace,
            stages,
            (args.arch, "chaos::"),
            &[acts, seed.clone()],
        )?;
    }
    if wanted(Kind::PowerCut) {
        let cuts = ("KOS_POWER_CUTS", args.cuts.to_string());
        test::longer(workspace, stages, (args.arch, "power_cut::"), &[cuts, seed])?;
    }
    if wanted(Kind::Fuzz) {
        let fuzzing = FuzzArgs {
            target: None,
            minutes: args.minutes,
            seed: args.seed,
        };
        fuzz::run(workspace, stages, &fuzzing)?;
    }
    Ok(())
}
