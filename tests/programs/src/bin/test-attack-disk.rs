//! Fills its state directory with bytes and then with files, until the kernel refuses, and tries to
//! get out of its quota.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::path::Path;

use kos_sys::attempts;
use kos_test_programs::{attempt, attempt_at_kernel, end};

/// Far more than the quota, and less than the disk: without a quota the loops end, and the test
/// sees by how much too late.
const MOST_BYTES: usize = 48 << 20;
const MOST_FILES: usize = 4096;

fn main() -> io::Result<()> {
    let state = std::env::var("STATE_DIRECTORY").unwrap_or_default();
    let state = Path::new(&state);
    let directory = File::open(state)?;
    attempt_at_kernel(
        "leave the quota",
        attempts::leave_quota(directory.as_fd(), false),
    );
    attempt_at_kernel(
        "end its inheritance",
        attempts::leave_quota(directory.as_fd(), true),
    );
    let project = nix::unistd::getuid().as_raw();
    attempt(
        "raise the quota",
        attempts::raise_quota(directory.as_fd(), project).map_err(|e| e.full()),
    );
    let cache = std::env::var("CACHE_DIRECTORY").unwrap_or_default();
    let other = Path::new(&cache).join("file");
    println!("bytes: {}", bytes(&state.join("file"))?);
    println!("bytes in the cache as well: {}", bytes(&other)?);
    fs::remove_file(state.join("file"))?;
    fs::remove_file(other)?;
    println!("files: {}", files(state)?);
    end()
}

/// Writes until it is refused; how many bytes that took.
fn bytes(path: &Path) -> io::Result<usize> {
    let mut file = File::create(path)?;
    let part = vec![0x5a; 64 * 1024];
    let mut written = 0;
    while written < MOST_BYTES {
        match file
            .write(&part)
            .and_then(|count| file.sync_data().map(|()| count))
        {
            Ok(count) => written += count,
            Err(error) if is_full(&error) => break,
            Err(error) => return Err(error),
        }
    }
    Ok(written)
}

/// Makes files until it is refused; how many that were.
fn files(directory: &Path) -> io::Result<usize> {
    for number in 0..MOST_FILES {
        match File::create(directory.join(format!("file-{number}"))) {
            Ok(_) => {}
            Err(error) if is_full(&error) => return Ok(number),
            Err(error) => return Err(error),
        }
    }
    Ok(MOST_FILES)
}

fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::QuotaExceeded | io::ErrorKind::StorageFull
    )
}
