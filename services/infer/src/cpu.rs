//! How many threads compute.

/// As many as `wanted`, or as this process may run at once: its processors, and its cgroup's share of
/// their time where that can be seen.
#[must_use]
pub fn threads(wanted: Option<usize>) -> usize {
    wanted.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from))
}
