//! What the processor must have, and how many threads compute.
//!
//! candle chooses its kernels when it is compiled. A program compiled for x86-64-v3 would die
//! of an illegal instruction on an older machine, somewhere in the middle: this says so at once.
//! The standard library's own detection is of no use here: what the program was compiled for is
//! taken for granted there.

use std::os::unix::process::CommandExt;

/// What the program needs and the processor does not have; empty when all is well. For 64-bit ARM
/// it is compiled for every processor: NEON is part of the architecture.
#[cfg(not(target_arch = "x86_64"))]
#[must_use]
pub fn missing() -> Vec<&'static str> {
    Vec::new()
}

/// What the program needs and the processor does not have; empty when all is well.
#[cfg(target_arch = "x86_64")]
#[must_use]
pub fn missing() -> Vec<&'static str> {
    let id = raw_cpuid::CpuId::new();
    let basic = id.get_feature_info();
    let extended = id.get_extended_feature_info();
    let has = |found: Option<bool>| found.unwrap_or(false);
    let needs = [
        (
            cfg!(target_feature = "avx2"),
            "AVX2",
            has(extended.as_ref().map(|f| f.has_avx2())),
        ),
        (
            cfg!(target_feature = "fma"),
            "FMA",
            has(basic.as_ref().map(|f| f.has_fma())),
        ),
        (
            cfg!(target_feature = "f16c"),
            "F16C",
            has(basic.as_ref().map(|f| f.has_f16c())),
        ),
        // The kernel must keep the wide registers, too.
        (
            cfg!(target_feature = "avx"),
            "AVX",
            has(basic.as_ref().map(|f| f.has_oxsave())),
        ),
    ];
    needs
        .into_iter()
        .filter(|(needed, _, found)| *needed && !found)
        .map(|(_, name, _)| name)
        .collect()
}

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
