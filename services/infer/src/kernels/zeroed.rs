//! Memory for weights and for keys and values: straight from the system and straight back to it, so that
//! what an unloaded model had is there for others at once, and too little of it is an error rather than
//! the end of the process.

use std::io;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::Arc;

use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous, munmap};

/// Numbers of which every pattern of bits is one.
pub trait Plain: Copy + Send + Sync {}

impl Plain for u8 {}
impl Plain for u16 {}
impl Plain for i8 {}
impl Plain for i16 {}
impl Plain for i32 {}
impl Plain for f32 {}

/// A slice that begins as zeros.
#[derive(Debug)]
pub struct Zeroed<T: Plain> {
    start: NonNull<T>,
    length: usize,
}

// SAFETY: it owns its memory alone, like a box.
unsafe impl<T: Plain> Send for Zeroed<T> {}
// SAFETY: as above; shared references only read.
unsafe impl<T: Plain> Sync for Zeroed<T> {}

impl<T: Plain> Zeroed<T> {
    /// `length` zeros.
    ///
    /// # Errors
    /// When the system has no such memory.
    pub fn new(length: usize) -> io::Result<Self> {
        let bytes = length
            .checked_mul(size_of::<T>())
            .ok_or(io::ErrorKind::OutOfMemory)?;
        if bytes == 0 {
            return Ok(Self::default());
        }
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping, at an address of the system's choice, touches no memory in use.
        let start =
            unsafe { mmap_anonymous(std::ptr::null_mut(), bytes, access, MapFlags::PRIVATE) };
        let start = start?;
        // SAFETY: the mapping just made; advice changes nothing that is in it.
        let _ = unsafe { madvise(start, bytes, Advice::LinuxHugepage) };
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { start, length })
    }

    /// Its first `length` numbers, whatever they are; from other memory when it has not so many.
    ///
    /// # Errors
    /// When the system has no such memory.
    pub fn sized(&mut self, length: usize) -> io::Result<&mut [T]> {
        if self.length < length {
            // Never both at once.
            *self = Self::default();
            *self = Self::new(length)?;
        }
        Ok(&mut self[..length])
    }
}

impl<T: Plain> Default for Zeroed<T> {
    fn default() -> Self {
        let (start, length) = (NonNull::dangling(), 0);
        Self { start, length }
    }
}

/// A part of what was mapped at once, which goes when all of its parts have gone.
#[derive(Debug)]
pub struct Cut<T: Plain> {
    whole: Arc<Zeroed<T>>,
    start: usize,
    length: usize,
}

impl<T: Plain> Zeroed<T> {
    /// Cuts it into parts of these lengths, each at the beginning of a line of the cache.
    ///
    /// # Panics
    /// When it is shorter than [`Self::together`] says.
    #[must_use]
    pub fn cut(self, lengths: &[usize]) -> Vec<Cut<T>> {
        assert!(Self::together(lengths) <= self.length, "room for all parts");
        let whole = Arc::new(self);
        let mut start = 0;
        let cut = |&length: &usize| {
            let cut = Cut {
                whole: whole.clone(),
                start,
                length,
            };
            start += Self::line(length);
            cut
        };
        lengths.iter().map(cut).collect()
    }

    /// The length of parts of these lengths.
    #[must_use]
    pub fn together(lengths: &[usize]) -> usize {
        let lines = lengths.iter().map(|&length| Self::line(length));
        // A sum that is too large is more than the system has.
        lines.fold(0, usize::saturating_add)
    }

    /// A length in whole lines of the cache.
    fn line(length: usize) -> usize {
        let line = 64 / size_of::<T>();
        length.checked_next_multiple_of(line).unwrap_or(usize::MAX)
    }
}

impl<T: Plain> Deref for Cut<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: within the whole, as `cut` has looked; no other part reaches here.
        unsafe {
            let start = self.whole.start.as_ptr().add(self.start);
            std::slice::from_raw_parts(start, self.length)
        }
    }
}

impl<T: Plain> DerefMut for Cut<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as above, and this reference is the only one: nobody else has the whole.
        unsafe {
            let start = self.whole.start.as_ptr().add(self.start);
            std::slice::from_raw_parts_mut(start, self.length)
        }
    }
}

impl<T: Plain> Deref for Zeroed<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: so many numbers were mapped, zeros to begin with, and only `drop` gives them back.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.length) }
    }
}

impl<T: Plain> DerefMut for Zeroed<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as above, and this reference is the only one.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.length) }
    }
}

impl<T: Plain> Drop for Zeroed<T> {
    fn drop(&mut self) {
        let bytes = self.length * size_of::<T>();
        if bytes > 0 {
            // SAFETY: mapped by `new` with this length, and nobody has a reference any more. It cannot
            // fail for a whole mapping.
            let _ = unsafe { munmap(self.start.as_ptr().cast(), bytes) };
        }
    }
}

/// Gives back to the system what the allocator has kept of memory that was freed in small pieces: bodies,
/// prompts, vocabularies. About a millisecond.
pub fn give_back() {
    // SAFETY: it touches only what the allocator holds free, under its own locks.
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    unsafe {
        libc::malloc_trim(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_zero_and_too_much_of_it_an_error() {
        let mut some = Zeroed::<u16>::new(5000).unwrap();
        assert_eq!(some.len(), 5000);
        assert!(some.iter().all(|&number| number == 0));
        some[4999] = 7;
        assert_eq!(some.last(), Some(&7));
        assert!(Zeroed::<u8>::new(0).unwrap().is_empty());
        let mut room = Zeroed::<f32>::default();
        room.sized(3).unwrap().fill(1.0);
        assert_eq!(room.sized(2).unwrap(), [1.0, 1.0]);
        assert_eq!(room.sized(4).unwrap(), [0.0; 4]);
        assert_eq!(Zeroed::<u8>::together(&[usize::MAX, 1]), usize::MAX);
        let parts = Zeroed::<u16>::new(200).unwrap().cut(&[3, 0, 64]);
        assert_eq!([3, 0, 64], [parts[0].len(), parts[1].len(), parts[2].len()]);
        drop(some);
        let mut parts = parts.into_iter();
        let (mut first, last) = (parts.next().unwrap(), parts.next_back().unwrap());
        first.fill(9);
        drop(first);
        assert!(last.iter().all(|&number| number == 0));
        for length in [usize::MAX, usize::MAX / 2, 1 << 50] {
            let error = Zeroed::<u16>::new(length).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::OutOfMemory);
        }
    }
}
