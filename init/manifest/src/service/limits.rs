//! What a service's cgroup may use, in numbers that do not contradict each other.

use super::Limits;
use crate::error::ManifestError;
use crate::quantity;
use crate::raw::{RawLimits, Size};
use crate::source::Source;

/// Less memory than this does not hold `kos-launch`, and the program would never be reached.
const MIN_MEMORY: u64 = 1 << 20;
/// A slower disk than one page per second is none.
const MIN_IO: u64 = 4 << 10;
/// Less than a few blocks is no directory; and 0 means no limit at all in the kernel's quota.
const MIN_DISK: u64 = 64 << 10;
/// Less stack than this does not hold a program's arguments and its loader.
const MIN_STACK: u64 = 128 << 10;

pub(super) fn parse(source: &Source<'_>, raw: &RawLimits) -> Result<Limits, ManifestError> {
    let cpu_millis = match &raw.cpu {
        None => None,
        Some(share) => Some(
            quantity::processors(*share.get_ref())
                .map_err(|message| source.error("limits.cpu", share, message))?,
        ),
    };
    let memory =
        source.size_or_none("limits.memory", raw.memory.as_ref(), MIN_MEMORY, 128 << 20)?;
    let memory_high = source.size("limits.memory-high", raw.memory_high.as_ref(), MIN_MEMORY)?;
    let memory_low = source.size("limits.memory-low", raw.memory_low.as_ref(), 0)?;
    for (key, text, size, other, most) in [
        (
            "limits.memory-high",
            &raw.memory_high,
            memory_high,
            "memory",
            memory,
        ),
        (
            "limits.memory-low",
            &raw.memory_low,
            memory_low,
            "memory",
            memory,
        ),
        (
            "limits.memory-low",
            &raw.memory_low,
            memory_low,
            "memory-high",
            memory_high,
        ),
    ] {
        at_most(source, key, text.as_ref(), size, other, most)?;
    }
    Ok(Limits {
        memory,
        memory_high,
        memory_low: memory_low.unwrap_or(0),
        memory_swap: source
            .size("limits.memory-swap", raw.memory_swap.as_ref(), 0)?
            .unwrap_or(0),
        oom_group: raw.oom_group.unwrap_or(true),
        io_read: source.size("limits.io-read", raw.io_read.as_ref(), MIN_IO)?,
        io_write: source.size("limits.io-write", raw.io_write.as_ref(), MIN_IO)?,
        disk: source.size_or_none("limits.disk", raw.disk.as_ref(), MIN_DISK, 256 << 20)?,
        disk_files: source.in_range(
            "limits.disk-files",
            raw.disk_files.as_ref(),
            16_384,
            16..=100_000_000,
        )?,
        file_size: source.size("limits.file-size", raw.file_size.as_ref(), 0)?,
        locked_memory: source
            .size("limits.locked-memory", raw.locked_memory.as_ref(), 0)?
            .unwrap_or(64 << 10),
        stack: source
            .size("limits.stack", raw.stack.as_ref(), MIN_STACK)?
            .unwrap_or(8 << 20),
        cpu_millis,
        cpu_weight: source.in_range(
            "limits.cpu-weight",
            raw.cpu_weight.as_ref(),
            100,
            1..=10_000,
        )?,
        io_weight: source.in_range("limits.io-weight", raw.io_weight.as_ref(), 100, 1..=10_000)?,
        // Two more than the program itself: the sandbox's init, and one for the moment of exec.
        pids: source.in_range("limits.pids", raw.pids.as_ref(), 64, 3..=1_000_000)?,
        open_files: source.in_range(
            "limits.open-files",
            raw.open_files.as_ref(),
            1024,
            16..=1_048_576,
        )?,
    })
}

/// Refuses a size that is larger than what it lies within.
fn at_most(
    source: &Source<'_>,
    key: &str,
    text: Option<&Size>,
    size: Option<u64>,
    other: &str,
    most: Option<u64>,
) -> Result<(), ManifestError> {
    let (Some(text), Some(size), Some(most)) = (text, size, most) else {
        return Ok(());
    };
    if size <= most {
        return Ok(());
    }
    let message = format!(
        "found '{}', allowed: at most '{other}', which is {}",
        text.get_ref(),
        quantity::show_bytes(most)
    );
    Err(source.error(key, text, message))
}
