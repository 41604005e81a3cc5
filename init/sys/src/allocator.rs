//! The C library's allocator: one heap for the process, and what is free goes back to the kernel.

/// Keeps every thread on the one heap that the kernel can take pages back from, instead of one heap
/// for each thread that ever did something, none of which shrinks. Also fixes the size from which
/// a piece has pages of its own and goes back to the kernel as soon as it is freed: left alone, it
/// grows with the largest piece that was ever freed.
///
/// To be called before the first thread. Where the C library has no such settings, nothing happens.
#[cfg(target_env = "gnu")]
pub fn keep_one_heap() {
    /// Large enough that what is allocated often is not mapped each time.
    const OWN_PAGES_FROM: libc::c_int = 64 * 1024;
    for (setting, value) in [
        (libc::M_ARENA_MAX, 1),
        (libc::M_MMAP_THRESHOLD, OWN_PAGES_FROM),
        (libc::M_TRIM_THRESHOLD, OWN_PAGES_FROM),
    ] {
        // SAFETY: mallopt takes two integers and touches nothing of ours. A setting that it does
        // not know leaves everything as it was.
        let _ = unsafe { libc::mallopt(setting, value) };
    }
}

/// See the one for glibc.
#[cfg(not(target_env = "gnu"))]
pub fn keep_one_heap() {}

/// Gives freed memory back to the kernel: what lies between pieces that are still in use stays with
/// the process otherwise. Worth its milliseconds after a phase that needed much once.
pub fn give_back() {
    // SAFETY: has no preconditions; it looks only at memory that is free already.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0);
    }
}

#[cfg(all(test, target_env = "gnu"))]
mod tests {
    use super::*;

    #[test]
    fn a_large_piece_goes_back_as_soon_as_it_is_freed() {
        keep_one_heap();
        let resident = || crate::process::own_resident_bytes("/proc".as_ref()).unwrap();
        for _ in 0..4 {
            // As glibc would learn from the first to keep the next ones.
            drop(std::hint::black_box(vec![1u8; 24 << 20]));
        }
        let kept = std::hint::black_box(vec![1u8; 24 << 20]);
        let with = resident();
        drop(kept);
        assert!(resident() + (16 << 20) < with);
    }
}
