//! Which of the measurements is asked for.

use anyhow::Result;
use clap::{Args, Subcommand};

use super::{boot, image, infer, supervise, uefi};
use crate::stage::Stages;
use crate::workspace::Workspace;

/// Measures kOS: ratios to something that is measured in the same run, and sizes.
#[derive(Debug, Args)]
pub struct BenchArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    Boot(boot::BootArgs),
    Image(image::ImageArgs),
    Infer(infer::InferArgs),
    Supervise(supervise::SuperviseArgs),
    Uefi(uefi::UefiArgs),
}

/// The `bench` command.
pub fn run(workspace: &Workspace, stages: &mut Stages, args: &BenchArgs) -> Result<()> {
    match &args.what {
        What::Boot(args) => boot::run(workspace, stages, args),
        What::Image(args) => image::run(workspace, stages, args),
        What::Infer(args) => infer::run(workspace, stages, args),
        What::Supervise(args) => supervise::run(workspace, stages, args),
        What::Uefi(args) => uefi::run(workspace, stages, args),
    }
}
