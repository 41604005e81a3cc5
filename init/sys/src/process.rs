//! What `/proc` tells about processes, for the machine's overview and for PID 1's own size.

use std::path::Path;

use rustix::process::Pid;

use crate::error::{SysError, Told};
use crate::kernel_file;

/// More processes than the kernel numbers by default (2^15), so that a listing always ends.
const MAX_ENTRIES: usize = 1 << 16;

/// How many processes there are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Table {
    /// All of them, kernel threads included.
    pub total: usize,
    /// Those that have ended and were not collected yet.
    pub zombies: usize,
}

/// Counts the processes below `proc_root` (`/proc`).
///
/// # Errors
/// `proc_root` cannot be listed. A process that ends meanwhile is passed over.
pub fn table(proc_root: &Path) -> Result<Table, SysError> {
    let mut table = Table::default();
    for name in entries(proc_root)? {
        if !name.bytes().all(|byte| byte.is_ascii_digit()) {
            continue;
        }
        let Ok(stat) = kernel_file::read(&proc_root.join(&name).join("stat")) else {
            continue;
        };
        table.total += 1;
        if state(&stat) == Some('Z') {
            table.zombies += 1;
        }
    }
    Ok(table)
}

/// Resident memory of this process in bytes, from `proc_root/self/statm`.
///
/// # Errors
/// The file is missing or not as proc(5) says.
pub fn own_resident_bytes(proc_root: &Path) -> Result<u64, SysError> {
    let path = proc_root.join("self/statm");
    let text = kernel_file::read(&path)?;
    let pages: Option<u64> = text
        .split_ascii_whitespace()
        .nth(1)
        .and_then(|word| word.parse().ok());
    let pages = pages.ok_or_else(|| {
        SysError::refused("read", path.display(), "the second field is not a number")
    })?;
    Ok(pages * rustix::param::page_size() as u64)
}

/// Number of threads of this process.
///
/// # Errors
/// `proc_root/self/task` cannot be listed.
pub fn own_threads(proc_root: &Path) -> Result<usize, SysError> {
    Ok(entries(&proc_root.join("self/task"))?.len())
}

/// Number of open descriptors of this process, without the one that the listing takes.
///
/// # Errors
/// `proc_root/self/fd` cannot be listed.
pub fn own_descriptors(proc_root: &Path) -> Result<usize, SysError> {
    Ok(entries(&proc_root.join("self/fd"))?.len().saturating_sub(1))
}

/// Number of mounts in this process's namespace.
///
/// # Errors
/// `proc_root/self/mountinfo` cannot be read.
pub fn own_mounts(proc_root: &Path) -> Result<usize, SysError> {
    let path = proc_root.join("self/mountinfo");
    let text = std::fs::read(&path).told("read", path.display())?;
    Ok(text
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .count())
}

/// The number of this process in its own pid namespace.
pub fn own_pid() -> i32 {
    rustix::process::getpid().as_raw_pid()
}

/// Makes this process the leader of a new session, without a terminal.
///
/// # Errors
/// It leads a group of processes already.
pub fn new_session() -> Result<(), SysError> {
    rustix::process::setsid()
        .map(|_| ())
        .told("start", "a new session")
}

/// Sets which permission bits new files do not get; inherited by programs executed later.
pub fn set_umask(mask: u32) {
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(mask));
}

/// Sends a signal to a child that has not been collected yet, so that the number is still its own.
///
/// # Errors
/// The process is gone, or not ours to signal.
pub fn signal_child(pid: i32, number: i32) -> Result<(), SysError> {
    let subject = || format!("signal {number} to process {pid}");
    let missing = || SysError::refused("send", subject(), "there is no such signal or process");
    // Zero and below would mean groups of processes.
    let target = Pid::from_raw(pid).filter(|_| pid > 0).ok_or_else(missing)?;
    let signal = crate::signals::from_number(number).ok_or_else(missing)?;
    rustix::process::kill_process(target, signal).told("send", subject())
}

fn entries(directory: &Path) -> Result<Vec<String>, SysError> {
    let listing = std::fs::read_dir(directory).told("list", directory.display())?;
    let mut names = Vec::new();
    for entry in listing.take(MAX_ENTRIES) {
        let entry = entry.told("list", directory.display())?;
        names.push(entry.file_name().to_string_lossy().into_owned());
    }
    Ok(names)
}

/// The state letter of a `stat` line: after the last `)`, because a name may hold any character.
fn state(stat: &str) -> Option<char> {
    stat.rsplit_once(')')?.1.trim_start().chars().next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zombies_are_counted_whatever_their_name() {
        let root = tempfile::tempdir().unwrap();
        for (pid, line) in [
            ("1", "1 (init) S 0 1"),
            ("7", "7 (a) S) (x) Z 1 7"),
            ("8", "8 (b) R 1"),
        ] {
            std::fs::create_dir(root.path().join(pid)).unwrap();
            std::fs::write(root.path().join(pid).join("stat"), line).unwrap();
        }
        std::fs::create_dir(root.path().join("sys")).unwrap();
        assert_eq!(
            table(root.path()).unwrap(),
            Table {
                total: 3,
                zombies: 1
            }
        );
    }

    #[test]
    fn own_numbers_are_plausible() {
        let proc_root = Path::new("/proc");
        assert!(own_resident_bytes(proc_root).unwrap() > 100_000);
        assert!(own_threads(proc_root).unwrap() >= 1);
        assert!(own_mounts(proc_root).unwrap() >= 1);
    }

    #[test]
    fn open_descriptors_are_counted() {
        // A table of its own, as other tests of this process open and close.
        let root = tempfile::tempdir().unwrap();
        let table = root.path().join("self/fd");
        std::fs::create_dir_all(&table).unwrap();
        for number in 0..5 {
            std::fs::write(table.join(number.to_string()), "").unwrap();
        }
        assert_eq!(own_descriptors(root.path()).unwrap(), 4);
    }
}
