//! Bytes that outlive the power: a disk, one partition of it, or an image file, behind one trait,
//! so that what is written to a disk can be tested write by write, with the power cut after each.
//!
//! A write is on the medium only after [`Medium::sync`]; until then it may be there whole, in part
//! or not at all, in any order. Whoever writes here must be right under that rule.

use std::fs::File;
use std::io::{Seek, SeekFrom};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, FileTypeExt};
use std::path::{Path, PathBuf};

use crate::error::{SysError, Told};

/// Zeros are written in pieces of this size where the kernel has nothing better: large enough to
/// be fast on a card, small enough for PID 1.
static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];

/// `BLKZEROOUT`: `_IO(0x12, 127)`.
const BLKZEROOUT: u32 = 0x127f;
/// `BLKDISCARD`: `_IO(0x12, 119)`.
const BLKDISCARD: u32 = 0x1277;
/// The kernel refuses to zero or discard less than a block; all of kOS's partitions are aligned
/// to far more.
const WHOLE_BLOCKS: u64 = 4096;

/// Something with a fixed number of bytes that can be read, written and made to last.
pub trait Medium {
    /// What it is called in errors.
    fn name(&self) -> String;

    /// How many bytes it has.
    fn bytes(&self) -> u64;

    /// Fills the buffer from `offset` on.
    ///
    /// # Errors
    /// The device cannot be read, or ends before that.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), SysError>;

    /// Writes bytes from `offset` on.
    ///
    /// # Errors
    /// The device cannot be written, or ends before that.
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<(), SysError>;

    /// Writes zeros, fast where the device knows how to.
    ///
    /// # Errors
    /// As [`Medium::write_at`].
    fn zero(&mut self, offset: u64, bytes: u64) -> Result<(), SysError>;

    /// Says that nobody needs what stands there any more. What is read there afterwards is not
    /// defined. A medium that has no use for it does nothing.
    fn discard(&mut self, offset: u64, bytes: u64);

    /// Waits until all that was written is on the medium.
    ///
    /// # Errors
    /// Something could not be written.
    fn sync(&mut self) -> Result<(), SysError>;
}

/// A device node, or an image file.
#[derive(Debug)]
pub struct Device {
    file: File,
    path: PathBuf,
    bytes: u64,
    is_block_device: bool,
}

impl Device {
    /// Opens it for reading only.
    ///
    /// # Errors
    /// It is missing, or has no medium in it.
    pub fn open_to_read(path: &Path) -> Result<Self, SysError> {
        Self::from_file(File::open(path).told("open", path.display())?, path)
    }

    /// Opens it for reading and writing.
    ///
    /// # Errors
    /// As [`Device::open_to_read`], or it is read-only.
    pub fn open_to_write(path: &Path) -> Result<Self, SysError> {
        let mut options = File::options();
        let file = options.read(true).write(true).open(path);
        Self::from_file(file.told("open for writing", path.display())?, path)
    }

    /// The open file.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn from_file(mut file: File, path: &Path) -> Result<Self, SysError> {
        // Devices, unlike their metadata, have an end that can be sought.
        let bytes = file
            .seek(SeekFrom::End(0))
            .told("measure", path.display())?;
        let kind = file.metadata().told("look at", path.display())?.file_type();
        Ok(Device {
            file,
            path: path.to_owned(),
            bytes,
            is_block_device: kind.is_block_device(),
        })
    }

    /// Whether the kernel can be asked to zero or discard so much at once.
    fn takes_range(&self, offset: u64, bytes: u64) -> bool {
        self.is_block_device
            && bytes > 0
            && offset.is_multiple_of(WHOLE_BLOCKS)
            && bytes.is_multiple_of(WHOLE_BLOCKS)
    }

    fn range_call(&self, request: u32, range: [u64; 2]) -> std::io::Result<()> {
        // SAFETY: both requests read two 64-bit numbers, start and length in bytes, and nothing
        // else of ours; the descriptor is open for as long as `self`.
        let result = unsafe { libc::ioctl(self.file.as_raw_fd(), request.into(), range.as_ptr()) };
        if result < 0 {
            return Err(std::io::Error::last_os_error());
        }
        Ok(())
    }

    fn inside(&self, act: &'static str, offset: u64, length: u64) -> Result<(), SysError> {
        if offset
            .checked_add(length)
            .is_some_and(|end| end <= self.bytes)
        {
            return Ok(());
        }
        Err(SysError::refused(
            act,
            self.path.display(),
            format!(
                "{length} bytes at {offset} are not within its {} bytes",
                self.bytes
            ),
        ))
    }
}

impl Medium for Device {
    fn name(&self) -> String {
        self.path.display().to_string()
    }

    fn bytes(&self) -> u64 {
        self.bytes
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), SysError> {
        self.inside("read", offset, buffer.len() as u64)?;
        self.file
            .read_exact_at(buffer, offset)
            .told("read", self.path.display())
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<(), SysError> {
        self.inside("write", offset, bytes.len() as u64)?;
        self.file
            .write_all_at(bytes, offset)
            .told("write", self.path.display())
    }

    fn zero(&mut self, offset: u64, bytes: u64) -> Result<(), SysError> {
        self.inside("write", offset, bytes)?;
        if self.takes_range(offset, bytes) && self.range_call(BLKZEROOUT, [offset, bytes]).is_ok() {
            return Ok(());
        }
        let mut at = offset;
        let end = offset + bytes;
        while at < end {
            let length = (end - at).min(ZEROS.len() as u64);
            let length = usize::try_from(length).unwrap_or(ZEROS.len());
            self.write_at(at, &ZEROS[..length])?;
            at += length as u64;
        }
        Ok(())
    }

    fn discard(&mut self, offset: u64, bytes: u64) {
        if self.takes_range(offset, bytes) && self.inside("discard", offset, bytes).is_ok() {
            // Most disks of spinning rust cannot; nothing depends on it.
            let _ = self.range_call(BLKDISCARD, [offset, bytes]);
        }
    }

    fn sync(&mut self) -> Result<(), SysError> {
        self.file.sync_all().told("write out", self.path.display())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_a_medium_with_an_end() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("image");
        std::fs::write(&path, vec![7; 200_000]).unwrap();
        let mut device = Device::open_to_write(&path).unwrap();
        assert_eq!(device.bytes(), 200_000);
        device.zero(1, 150_000).unwrap();
        device.write_at(199_998, &[1, 2]).unwrap();
        device.discard(0, 4096);
        device.sync().unwrap();
        let bytes = std::fs::read(&path).unwrap();
        assert!(bytes[1..=150_000].iter().all(|byte| *byte == 0));
        assert_eq!((bytes[0], bytes[150_001]), (7, 7));
        assert_eq!(bytes[199_998..], [1, 2]);
        let error = device.write_at(199_999, &[1, 2]).unwrap_err();
        assert!(error.full().contains("200000 bytes"), "{}", error.full());
        assert!(device.read_at(u64::MAX, &mut [0; 2]).is_err());
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 200_000);
    }
}
