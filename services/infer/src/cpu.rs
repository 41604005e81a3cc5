//! How many threads compute.

use std::os::unix::process::CommandExt;

/// How candle learns its thread count: it reads this once, from the environment.
const THREADS: &str = "CANDLE_NUM_THREADS";
const RAYON_THREADS: &str = "RAYON_NUM_THREADS";

/// Makes candle compute with `wanted` threads, or with as many as this process may run at once.
///
/// candle counts the machine's cores by itself, whatever the process is allowed; threads that
/// wait for each other at a barrier on too few processors are many times slower than one. It can
/// only be told by the environment, and that may be changed safely only before a program starts:
/// when its count is wrong, the program executes itself once more.
pub fn settle_threads(wanted: Option<usize>) {
    let allowed = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = wanted.unwrap_or_else(|| allowed.min(candle_core::utils::get_num_threads()));
    let set = |name| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let candle = set(THREADS).unwrap_or_else(candle_core::utils::get_num_threads);
    if candle == threads || set(THREADS).is_some() {
        return;
    }
    let error = std::process::Command::new("/proc/self/exe")
        .args(std::env::args_os().skip(1))
        .env(THREADS, threads.to_string())
        .env(RAYON_THREADS, threads.to_string())
        .exec();
    tracing::warn!("cannot set the thread count to {threads} (candle uses {candle}): {error}");
}

/// How many threads compute.
#[must_use]
pub fn threads() -> usize {
    let set = std::env::var(THREADS)
        .ok()
        .and_then(|text| text.parse().ok());
    set.unwrap_or_else(candle_core::utils::get_num_threads)
}
