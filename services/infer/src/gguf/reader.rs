//! A cursor that knows how much of the file is left, and asks before it takes.

use std::io::Read;

use super::Error;

/// Longest string: chat templates with tool descriptions reach some 30 KB; 8 MiB leaves no doubt.
const MAX_STRING: u64 = 8 * 1024 * 1024;

/// Longest header (metadata and tensor list). The largest vocabularies known, 262,144 tokens with
/// as many merges, take about 12 MB; this bounds what a hostile file can make us hold.
const MAX_HEADER: u64 = 128 * 1024 * 1024;

/// Reads little-endian values from a source of known length.
pub(super) struct Reader<R> {
    source: R,
    offset: u64,
    length: u64,
}

impl<R: Read> Reader<R> {
    /// A reader at the start of `source`, which holds `length` bytes.
    pub(super) fn new(source: R, length: u64) -> Self {
        Self {
            source,
            offset: 0,
            length,
        }
    }

    /// Bytes read so far.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// Fails unless `needed` more bytes are there, for `what`.
    pub(super) fn require(&self, needed: u64, what: &str) -> Result<(), Error> {
        let left = self.length - self.offset;
        if needed > left {
            return Err(Error::Truncated {
                what: what.to_owned(),
                offset: self.offset,
                needed,
                left,
            });
        }
        let end = self.offset + needed;
        if end > MAX_HEADER {
            return Err(Error::Limit {
                what: format!("the end of the header ({what})"),
                offset: self.offset,
                found: end,
                limit: MAX_HEADER,
            });
        }
        Ok(())
    }

    fn take<const N: usize>(&mut self, what: &str) -> Result<[u8; N], Error> {
        self.require(N as u64, what)?;
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), Error> {
        self.source
            .read_exact(bytes)
            .map_err(|source| Error::Read {
                offset: self.offset,
                source,
            })?;
        self.offset += bytes.len() as u64;
        Ok(())
    }

    pub(super) fn bytes4(&mut self, what: &str) -> Result<[u8; 4], Error> {
        self.take(what)
    }

    pub(super) fn u8(&mut self, what: &str) -> Result<u8, Error> {
        Ok(u8::from_le_bytes(self.take(what)?))
    }

    pub(super) fn u16(&mut self, what: &str) -> Result<u16, Error> {
        Ok(u16::from_le_bytes(self.take(what)?))
    }

    pub(super) fn u32(&mut self, what: &str) -> Result<u32, Error> {
        Ok(u32::from_le_bytes(self.take(what)?))
    }

    pub(super) fn u64(&mut self, what: &str) -> Result<u64, Error> {
        Ok(u64::from_le_bytes(self.take(what)?))
    }

    /// A string: its length in bytes (u64), then UTF-8.
    pub(super) fn string(&mut self, what: &str) -> Result<String, Error> {
        let start = self.offset;
        let length = self.u64(what)?;
        self.require(length, what)?;
        if length > MAX_STRING {
            return Err(Error::Limit {
                what: format!("the length of {what}"),
                offset: start,
                found: length,
                limit: MAX_STRING,
            });
        }
        let mut bytes = vec![0; length as usize];
        self.fill(&mut bytes)?;
        String::from_utf8(bytes).map_err(|error| Error::Invalid {
            what: what.to_owned(),
            offset: start,
            found: format!("not UTF-8 after {} bytes", error.utf8_error().valid_up_to()),
            allowed: "UTF-8".to_owned(),
        })
    }
}
