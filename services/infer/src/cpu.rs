//! How many threads compute.

use std::path::Path;

use rustix::thread::sched_getaffinity;

use crate::group::Group;

/// As many as `wanted`, or as this process can keep busy: the processors that it may run on, and no more
/// than the share of their time that it is given, by the environment (`told`, in processors) or by its
/// cgroup where that can be seen.
#[must_use]
pub fn threads(wanted: Option<usize>, told: Option<f64>) -> usize {
    let allowed = sched_getaffinity(None).map(|set| set.count() as usize);
    // More processors than the set has room for.
    let allowed = allowed.or_else(|_| std::thread::available_parallelism().map(usize::from));
    let share = Group::own(Path::new("/")).processors();
    wanted.unwrap_or_else(|| fitting(allowed.unwrap_or(1), [told, share]))
}

/// Threads for so many processors and these limits of their time. A part of a processor is a thread, as it
/// would stand still otherwise.
fn fitting(processors: usize, shares: [Option<f64>; 2]) -> usize {
    let shares = shares.into_iter().flatten().map(|share| share.ceil());
    let most = shares.fold(processors as f64, f64::min);
    // A share that is no number does not come through `min`; a negative one becomes 0.
    (most as usize).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_are_those_that_can_be_kept_busy() {
        assert_eq!(fitting(8, [None, None]), 8);
        assert_eq!(fitting(8, [Some(2.0), None]), 2);
        assert_eq!(fitting(8, [Some(2.1), Some(4.0)]), 3);
        assert_eq!(fitting(8, [None, Some(0.05)]), 1);
        assert_eq!(fitting(2, [Some(64.0), Some(16.5)]), 2);
        assert_eq!(fitting(0, [None, None]), 1);
        assert_eq!(fitting(4, [Some(-1.0), None]), 1);
        assert_eq!(fitting(4, [Some(f64::NAN), None]), 4);
        assert_eq!(fitting(4, [Some(f64::INFINITY), None]), 4);
    }

    #[test]
    fn what_is_wanted_counts() {
        assert_eq!(threads(Some(3), Some(1.0)), 3);
        assert_eq!(threads(None, Some(0.5)), 1);
        assert!(threads(None, None) >= 1);
    }
}
