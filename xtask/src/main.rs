//! `cargo xtask …`: builds, runs, checks and measures kOS. This file only dispatches.

mod arch;
mod attack_table;
mod bench;
mod board;
mod buildroot;
mod clean;
mod clients;
mod cpio;
mod datadisk;
mod debian;
mod digest;
mod disk;
mod docs;
mod files;
mod firmware;
mod flash;
mod fragments;
mod fuzz;
mod hostpackages;
mod http;
mod image;
mod initramfs;
mod kernel;
mod licence;
mod metadata;
mod model;
mod pair;
mod run;
mod rust;
mod sbom;
mod services;
mod soak;
mod sources;
mod stage;
mod test;
mod test_images;
mod tidy;
mod train;
mod userland;
mod workspace;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use board::{Board, BoardArgs};
use stage::Stages;
use workspace::Workspace;

/// Builds, runs, checks and measures kOS.
///
/// On a fresh Debian machine with Rust, `cargo xtask run` is all it takes.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Run(run::RunArgs),
    Kernel(kernel::KernelCommandArgs),
    Userland(userland::UserlandArgs),
    Image(image::ImageArgs),
    Flash(Box<flash::FlashArgs>),
    Pair(pair::PairArgs),
    CheckServices(services::CheckServicesArgs),
    Buildroot(buildroot::BuildrootArgs),
    Docs(docs::DocsArgs),
    Tidy(tidy::TidyArgs),
    Test(test::TestArgs),
    Train(train::TrainArgs),
    Bench(bench::BenchArgs),
    Clients(clients::ClientsArgs),
    Fuzz(fuzz::FuzzArgs),
    Soak(soak::SoakArgs),
    Clean(clean::CleanArgs),
}

fn main() -> ExitCode {
    match dispatch(Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            for cause in error.chain().skip(1) {
                eprintln!("  because: {cause}");
            }
            ExitCode::FAILURE
        }
    }
}

fn dispatch(command: Command) -> Result<()> {
    let workspace = Workspace::find()?;
    let mut stages = Stages::new(workspace.logs()?);
    let board = |args: &BoardArgs| Board::read(&workspace, &args.board);
    match command {
        Command::Run(args) => run::run(&workspace, &mut stages, &board(&args.board)?, args),
        Command::Kernel(args) => kernel::run(&workspace, &mut stages, &board(&args.board)?, &args),
        Command::Userland(args) => userland::run(&workspace, &mut stages, board(&args.board)?.arch),
        Command::Image(args) => image::run(&workspace, &mut stages, &args),
        Command::Flash(args) => flash::run(&workspace, &mut stages, &args),
        Command::Pair(args) => pair::run(&args),
        Command::Buildroot(args) => {
            buildroot::run(&workspace, &mut stages, &board(&args.board)?, &args)
        }
        Command::Docs(_) => docs::run(&workspace),
        Command::Tidy(_) => tidy::run(&workspace, &mut stages),
        Command::Train(args) => train::run(&workspace, &mut stages, &args),
        Command::Test(args) => test::run(&workspace, &mut stages, &args),
        Command::Bench(args) => bench::run(&workspace, &mut stages, &args),
        Command::Clients(args) => clients::run(&workspace, &mut stages, &args),
        Command::Fuzz(args) => fuzz::run(&workspace, &mut stages, &args),
        Command::Soak(args) => soak::run(&workspace, &mut stages, &args),
        Command::Clean(args) => clean::run(&workspace, &args),
        Command::CheckServices(args) => services::run(&workspace, &args),
    }
}
