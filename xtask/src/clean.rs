//! `cargo xtask clean`: gives back the disk space that xtask took.

use anyhow::{Context, Result};
use clap::Args;

use crate::workspace::Workspace;

/// Removes target/kos and the unpacked kernel source; kernels stay in the cache unless asked.
#[derive(Debug, Args)]
pub struct CleanArgs {
    /// Also removes what all checkouts of this user share: kernels that were built, and Debian's
    /// packages that were unpacked.
    #[arg(long)]
    pub cache: bool,
}

/// The `clean` command.
pub fn run(workspace: &Workspace, args: &CleanArgs) -> Result<()> {
    let kernels = workspace.cache()?.join("kernel");
    let mut paths = vec![workspace.out()?];
    if args.cache {
        paths.extend([kernels, workspace.cache()?.join("debian")]);
    } else {
        paths.extend([kernels.join("source"), kernels.join("work")]);
    }
    for path in paths.into_iter().filter(|path| path.exists()) {
        println!("removing {}", path.display());
        std::fs::remove_dir_all(&path).with_context(|| format!("remove {}", path.display()))?;
    }
    Ok(())
}
