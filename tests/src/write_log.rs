//! A disk as it was at any moment of a guest's life, put together from the log of its writes.
//!
//! A disk with a cache promises only this: what was written before a flush that is done is there.
//! Of what was written since, each sector's write may be there or not, in any order. Pulling the
//! plug of QEMU shows none of that, since the host keeps what QEMU wrote; so the log does.
//!
//! The log is `dm-log-writes`' (Linux' `Documentation/admin-guide/device-mapper/log-writes.rst`):
//! a superblock, then for each request an entry of one sector and, behind it, its data.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use crate::chance::Chance;

/// The log's sectors, which `kos-qemu` asks QEMU for.
const SECTOR: u64 = 512;
const MAGIC: u64 = 0x006a_7366_7773_6872;
const FLUSH: u64 = 1;
const FUA: u64 = 2;
const DISCARD: u64 = 4;

/// What a guest asked of a disk, in order.
#[derive(Debug)]
pub struct WriteLog {
    requests: Vec<Request>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Request {
    /// What was written before is on the disk now.
    Flush,
    /// Bytes at a place; `through` means past the cache.
    Write {
        place: u64,
        data: Vec<u8>,
        through: bool,
    },
    /// What is there is not needed any more: it reads as zeros, in QEMU.
    Discard { place: u64, bytes: u64 },
}

impl WriteLog {
    /// Reads a log that QEMU has closed.
    pub fn read(path: &Path) -> Result<Self> {
        let log = std::fs::read(path).with_context(|| format!("read {}", path.display()))?;
        Self::parse(&log).with_context(|| format!("in the log {}", path.display()))
    }

    fn parse(log: &[u8]) -> Result<Self> {
        let word = |place: u64| -> Result<u64> {
            let place = usize::try_from(place)?;
            let bytes = log.get(place..place + 8).context("it ends too early")?;
            let mut word = [0; 8];
            word.copy_from_slice(bytes);
            Ok(u64::from_le_bytes(word))
        };
        ensure!(word(0)? == MAGIC, "it is no log of writes");
        let entries = word(16)?;
        let mut requests = Vec::new();
        let mut place = SECTOR;
        for _ in 0..entries {
            let (start, bytes) = (word(place)? * SECTOR, word(place + 8)? * SECTOR);
            let flags = word(place + 16)?;
            place += SECTOR;
            // A request can flush first and write then.
            if flags & FLUSH != 0 {
                requests.push(Request::Flush);
            }
            if flags & DISCARD != 0 {
                requests.push(Request::Discard {
                    place: start,
                    bytes,
                });
            } else if bytes > 0 {
                let (from, to) = (usize::try_from(place)?, usize::try_from(place + bytes)?);
                let data = log.get(from..to).context("its last write is cut off")?;
                requests.push(Request::Write {
                    place: start,
                    data: data.to_vec(),
                    through: flags & FUA != 0,
                });
                place += bytes;
            }
        }
        Ok(WriteLog { requests })
    }

    /// How many requests there are.
    pub fn len(&self) -> usize {
        self.requests.len()
    }

    /// Whether the guest asked nothing.
    pub fn is_empty(&self) -> bool {
        self.requests.is_empty()
    }

    /// Does to the disk in this file, which is as it was before the guest, what a loss of power
    /// after `count` requests leaves: of those that no flush confirmed, `chance` takes some.
    pub fn replay(&self, disk: &Path, count: usize, chance: &mut Chance) -> Result<()> {
        let done = &self.requests[..count];
        let confirmed = done
            .iter()
            .rposition(|request| *request == Request::Flush)
            .unwrap_or(0);
        let file = File::options().write(true).open(disk)?;
        for (index, request) in done.iter().enumerate() {
            let lasting =
                index < confirmed || matches!(request, Request::Write { through: true, .. });
            if lasting || chance.coin() {
                request.apply(&file)?;
            }
        }
        Ok(())
    }
}

impl Request {
    fn apply(&self, file: &File) -> Result<()> {
        match self {
            Request::Flush => Ok(()),
            Request::Write { place, data, .. } => Ok(file.write_all_at(data, *place)?),
            Request::Discard { place, bytes } => {
                const CHUNK: u64 = 1 << 20;
                let zeros = vec![0; CHUNK as usize];
                let end = place + bytes;
                for start in (*place..end).step_by(CHUNK as usize) {
                    let count = (end - start).min(CHUNK) as usize;
                    file.write_all_at(&zeros[..count], start)?;
                }
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An entry of the log with its data.
    fn entry(sector: u64, data: &[u8], flags: u64) -> Vec<u8> {
        let mut entry = vec![0; 512];
        for (index, word) in [sector, data.len() as u64 / SECTOR, flags, 0]
            .into_iter()
            .enumerate()
        {
            entry[index * 8..index * 8 + 8].copy_from_slice(&word.to_le_bytes());
        }
        entry.extend(data);
        entry
    }

    fn log(entries: &[Vec<u8>]) -> Vec<u8> {
        let mut log = vec![0; 512];
        log[..8].copy_from_slice(&MAGIC.to_le_bytes());
        log[8] = 1;
        log[16..24].copy_from_slice(&(entries.len() as u64).to_le_bytes());
        log.extend(entries.concat());
        log
    }

    #[test]
    fn what_was_flushed_stays_and_the_rest_is_chance() {
        let bytes = log(&[
            entry(0, &[1; 512], 0),
            entry(0, &[], FLUSH),
            entry(1, &[2; 512], 0),
            entry(2, &[3; 512], FUA),
        ]);
        let log = WriteLog::parse(&bytes).unwrap();
        assert_eq!(log.len(), 4);
        let (mut lost, mut kept) = (0, 0);
        for seed in 0..20 {
            let disk = tempfile::NamedTempFile::new().unwrap();
            disk.as_file().set_len(4 * SECTOR).unwrap();
            log.replay(disk.path(), 4, &mut Chance::new(seed)).unwrap();
            let found = std::fs::read(disk.path()).unwrap();
            assert_eq!((found[0], found[1024]), (1, 3), "what is promised");
            match found[512] {
                0 => lost += 1,
                _ => kept += 1,
            }
        }
        assert!(lost > 0 && kept > 0, "{lost} lost, {kept} kept");
        assert!(WriteLog::parse(&bytes[..bytes.len() - 1]).is_err());
    }
}
