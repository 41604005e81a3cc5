//! `cargo xtask clean`: gives back the disk space that xtask took.

use anyhow::{Context, Result};
use clap::Args;

use crate::workspace::Workspace;

/// Removes target/kos and the unpacked kernel source; kernels stay in the cache unless asked.
#[derive(Debug, Args)]
pub struct CleanArgs {
    /// Also removes the kernels that were built, for all checkouts of this user.
    #[arg(long)]
    pub kernels: bool,
}

/// The `clean` command.
pub fn run(workspace: &Workspace, args: &CleanArgs) -> Result<()> {
    let kernels = workspace.cache()?.join("kernel");
    let mut paths = vec![workspace.out()?];
    if args.kernels {
        paths.push(kernels);
    } else {
        paths.extend([kernels.join("source"), kernels.join("work")]);
    }
    for path in paths.into_iter().filter(|path| path.exists()) {
        println!("removing {}", path.display());
        std::fs::remove_dir_all(&path).with_context(|| format!("remove {}", path.display()))?;
    }
    Ok(())
}
