//! Programs of the host that look at disks as others do: e2fsprogs, gdisk, mtools. They judge what
//! the guest wrote, and they are not ours.

use std::fs::File;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, bail};

/// A program, to be finished by the caller.
pub fn tool(name: &str) -> Command {
    // Root's sbin directories hold most of them, and an ordinary user's PATH may lack these.
    let mut search = std::env::var_os("PATH").unwrap_or_default();
    search.push(":/usr/sbin:/sbin");
    let mut command = Command::new(name);
    command
        .env("PATH", search)
        .env("LC_ALL", "C")
        .env("DEBUGFS_PAGER", "cat")
        // mtools would ask about what it finds odd, and refuse what no firmware refuses.
        .env("MTOOLS_SKIP_CHECK", "1")
        .stdin(Stdio::null());
    command
}

/// Runs it, whatever its exit code will be.
pub fn output(command: &mut Command) -> Result<Output> {
    let program = command.get_program().to_string_lossy().into_owned();
    command.output().with_context(|| {
        format!("cannot run {program} (Debian: e2fsprogs, gdisk, mtools, openssh-client)")
    })
}

/// Runs it, and returns what it printed; an exit code other than 0 is an error with its words.
pub fn succeed(command: &mut Command) -> Result<String> {
    let output = output(command)?;
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(printed);
    }
    bail!(
        "{command:?}: {}\n{printed}{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    )
}

/// Copies a file and leaves its holes holes.
pub fn copy_sparse(from: &Path, to: &Path) -> Result<()> {
    let mut cp = tool("cp");
    cp.args(["--sparse=always", "--reflink=auto"]);
    succeed(cp.arg(from).arg(to)).map(drop)
}

/// Makes a file of this size out of holes, or an existing one larger.
pub fn set_size(path: &Path, bytes: u64) -> Result<()> {
    File::options()
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
        .and_then(|file| file.set_len(bytes))
        .with_context(|| format!("cannot make {} {bytes} bytes large", path.display()))
}
