//! A part of a file or a disk, used as if it were one of its own.

use std::fs::File;
use std::io::{Error, ErrorKind, Read, Result, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;

/// The bytes from `start` on, `bytes` of them: nothing outside is read or written.
#[derive(Debug)]
pub struct Window<'a> {
    file: &'a File,
    start: u64,
    bytes: u64,
    position: u64,
}

impl<'a> Window<'a> {
    /// A window on `file`.
    pub fn new(file: &'a File, start: u64, bytes: u64) -> Window<'a> {
        Window {
            file,
            start,
            bytes,
            position: 0,
        }
    }

    /// How much of `wanted` bytes there is from here on.
    fn room(&self, wanted: usize) -> usize {
        let left = self.bytes.saturating_sub(self.position);
        usize::try_from(left).map_or(wanted, |left| left.min(wanted))
    }
}

impl Read for Window<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let room = self.room(buffer.len());
        let count = self
            .file
            .read_at(&mut buffer[..room], self.start + self.position)?;
        self.position += count as u64;
        Ok(count)
    }
}

impl Write for Window<'_> {
    fn write(&mut self, buffer: &[u8]) -> Result<usize> {
        let room = self.room(buffer.len());
        let count = self
            .file
            .write_at(&buffer[..room], self.start + self.position)?;
        self.position += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> Result<()> {
        Ok(())
    }
}

impl Seek for Window<'_> {
    fn seek(&mut self, to: SeekFrom) -> Result<u64> {
        let position = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::End(offset) => self.bytes.checked_add_signed(offset),
            SeekFrom::Current(offset) => self.position.checked_add_signed(offset),
        };
        self.position =
            position.ok_or_else(|| Error::new(ErrorKind::InvalidInput, "before the start"))?;
        Ok(self.position)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_outside_is_read_or_written() {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(b"0123456789", 0).unwrap();
        let mut window = Window::new(&file, 3, 4);
        assert_eq!(window.write(b"abcdef").unwrap(), 4);
        assert_eq!(window.write(b"x").unwrap(), 0, "the window is full");
        window.seek(SeekFrom::End(-2)).unwrap();
        let mut text = String::new();
        window.read_to_string(&mut text).unwrap();
        assert_eq!(text, "cd");
        assert!(window.seek(SeekFrom::Current(-9)).is_err());
        let mut all = [0; 10];
        file.read_exact_at(&mut all, 0).unwrap();
        assert_eq!(&all, b"012abcd789");
    }
}
