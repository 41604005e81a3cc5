//! Writing an image to a disk or a file, and reading it back.
//!
//! The partition table goes last: a disk that was pulled out halfway does not look as if it were
//! done. What is read back comes from the disk and not from the kernel's memory of it.

use std::fs::File;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use rustix::fs::{Advice, FallocateFlags, OFlags, fadvise, fallocate};

use super::source::Source;
use crate::disk::gpt::{BACKUP_SECTORS, PRIMARY_SECTORS, SECTOR};
use crate::stage::Stage;

/// Written and read at once: enough for a card to be fast, and a step that can be seen.
const CHUNK: usize = 4 << 20;
/// Reading past the kernel's memory needs places and sizes that are multiples of this, on every
/// disk that there is.
const DIRECT_ALIGNMENT: usize = 4096;

/// Where an image is written to.
pub struct Target {
    file: File,
    bytes: u64,
    /// Whether what has not been written is zero.
    fresh: bool,
}

impl Target {
    /// Opens a disk for this process alone: the kernel refuses it when anything has it mounted,
    /// in another container, too.
    pub fn disk(path: &Path, bytes: u64) -> Result<Target> {
        let exclusive = OFlags::EXCL.bits() as i32;
        let file = File::options()
            .read(true)
            .write(true)
            .custom_flags(exclusive)
            .open(path)
            .with_context(|| format!("open {} for this program alone", path.display()))?;
        Ok(Target {
            file,
            bytes,
            fresh: false,
        })
    }

    /// Makes a file that a disk of `bytes` bytes would be.
    pub fn file(path: &Path, bytes: u64) -> Result<Target> {
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(path)
            .with_context(|| format!("make {}", path.display()))?;
        file.set_len(bytes)?;
        Ok(Target {
            file,
            bytes,
            fresh: true,
        })
    }

    /// Writes all of an image but its partition table.
    pub fn write(&self, source: &Source, stage: &Stage) -> Result<()> {
        self.erase_table()?;
        let mut progress = Progress::new("writing", source, stage);
        for_each_chunk(source, |offset, chunk| {
            if chunk.iter().any(|byte| *byte != 0) {
                self.file
                    .write_all_at(chunk, offset)
                    .with_context(|| format!("write at {offset}"))?;
            } else if !self.fresh {
                self.write_zeros(offset, chunk)?;
            }
            progress.add(chunk.len());
            Ok(())
        })?;
        stage.note("writing: waiting for the disk");
        self.file.sync_all().context("write to the disk")
    }

    /// Compares the disk with the image, byte for byte.
    pub fn verify(&self, path: &Path, source: &Source, stage: &Stage) -> Result<()> {
        let reader = Reader::open(path, &self.file)?;
        let mut progress = Progress::new("verifying", source, stage);
        let mut buffer = reader.buffer(CHUNK);
        for_each_chunk(source, |offset, chunk| {
            let there = reader.read(&mut buffer, offset, chunk.len())?;
            if there != chunk {
                let first = there.iter().zip(chunk).position(|(a, b)| a != b);
                bail!(
                    "the disk does not hold what was written at byte {}: it is broken or not as \
                     large as it says",
                    offset + first.unwrap_or(0) as u64
                );
            }
            progress.add(chunk.len());
            Ok(())
        })
    }

    /// Writes the partition table, with its copy at this disk's end, and reads both back.
    pub fn finish(&self, path: &Path, source: &Source) -> Result<()> {
        let sectors = self.bytes / SECTOR;
        let (primary, backup) = source.table().to_bytes(sectors)?;
        let backup_start = (sectors - BACKUP_SECTORS) * SECTOR;
        self.file
            .write_all_at(&backup, backup_start)
            .context("write the partition table's copy")?;
        self.file.sync_all()?;
        self.file
            .write_all_at(&primary, 0)
            .context("write the partition table")?;
        self.file.sync_all()?;
        let reader = Reader::open(path, &self.file)?;
        for (start, expected) in [(0, &primary), (backup_start, &backup)] {
            // A table is not as long as what is read at once from a disk.
            let from = start - start % DIRECT_ALIGNMENT as u64;
            let skipped = (start - from) as usize;
            let length = (skipped + expected.len()).next_multiple_of(DIRECT_ALIGNMENT);
            let length = length.min((self.bytes - from) as usize);
            let mut buffer = reader.buffer(length);
            let there = reader.read(&mut buffer, from, length)?;
            ensure!(
                there[skipped..].starts_with(expected),
                "the disk does not hold the partition table that was written at byte {start}"
            );
        }
        Ok(())
    }

    /// An old table, or its copy at the end, must not be found if this is interrupted.
    fn erase_table(&self) -> Result<()> {
        if self.fresh {
            return Ok(());
        }
        let sectors = self.bytes / SECTOR;
        let zeros = vec![0; (PRIMARY_SECTORS * SECTOR) as usize];
        for sector in [0, sectors - PRIMARY_SECTORS] {
            self.file
                .write_all_at(&zeros, sector * SECTOR)
                .context("erase the old partition table")?;
        }
        self.file
            .sync_all()
            .context("erase the old partition table")
    }

    /// Many disks write zeros faster when they are asked for them.
    fn write_zeros(&self, offset: u64, chunk: &[u8]) -> Result<()> {
        let asked = fallocate(
            &self.file,
            FallocateFlags::ZERO_RANGE | FallocateFlags::KEEP_SIZE,
            offset,
            chunk.len() as u64,
        );
        match asked {
            Ok(()) => Ok(()),
            Err(_) => self
                .file
                .write_all_at(chunk, offset)
                .with_context(|| format!("write at {offset}")),
        }
    }
}

/// All of an image between its partition tables. The image's own copy of the table is left out,
/// too: it would be in the middle of a larger disk.
fn for_each_chunk(source: &Source, mut work: impl FnMut(u64, &[u8]) -> Result<()>) -> Result<()> {
    let mut chunk = vec![0; CHUNK];
    let end = source.bytes() - BACKUP_SECTORS * SECTOR;
    let mut offset = 0;
    while offset < end {
        let count = CHUNK.min((end - offset) as usize);
        // The last chunk ends where direct reading can end; the table's copy there reads as zero.
        let whole = count.next_multiple_of(DIRECT_ALIGNMENT);
        chunk.fill(0);
        source.file().read_exact_at(&mut chunk[..count], offset)?;
        if offset == 0 {
            chunk[..(PRIMARY_SECTORS * SECTOR) as usize].fill(0);
        }
        work(
            offset,
            &chunk[..whole.min((source.bytes() - offset) as usize)],
        )?;
        offset += count as u64;
    }
    Ok(())
}

/// Reads a disk again, past the kernel's memory where that can be.
struct Reader {
    file: File,
    direct: bool,
}

impl Reader {
    fn open(path: &Path, written: &File) -> Result<Reader> {
        let direct = File::options()
            .read(true)
            .custom_flags(OFlags::DIRECT.bits() as i32)
            .open(path);
        if let Ok(file) = direct {
            return Ok(Reader { file, direct: true });
        }
        // A file system in memory has nothing to read past, and refuses.
        fadvise(written, 0, None, Advice::DontNeed)?;
        let file = File::open(path).with_context(|| format!("open {}", path.display()))?;
        Ok(Reader {
            file,
            direct: false,
        })
    }

    /// A buffer with room to begin at an aligned place.
    fn buffer(&self, bytes: usize) -> Vec<u8> {
        vec![0; bytes + DIRECT_ALIGNMENT]
    }

    fn read<'a>(&self, buffer: &'a mut [u8], offset: u64, count: usize) -> Result<&'a [u8]> {
        let start = match self.direct {
            true => buffer.as_ptr().align_offset(DIRECT_ALIGNMENT),
            false => 0,
        };
        let part = &mut buffer[start..start + count];
        let mut done = 0;
        while done < count {
            let got = self
                .file
                .read_at(&mut part[done..], offset + done as u64)
                .with_context(|| format!("read back at {offset}"))?;
            ensure!(got > 0, "the disk ends at byte {}", offset + done as u64);
            done += got;
        }
        Ok(part)
    }
}

/// Says how far it is, and how fast.
struct Progress<'a> {
    what: &'static str,
    stage: &'a Stage,
    started: Instant,
    bytes: u64,
    done: u64,
}

impl<'a> Progress<'a> {
    fn new(what: &'static str, source: &Source, stage: &'a Stage) -> Progress<'a> {
        Progress {
            what,
            stage,
            started: Instant::now(),
            bytes: source.bytes(),
            done: 0,
        }
    }

    fn add(&mut self, bytes: usize) {
        self.done += bytes as u64;
        let seconds = self.started.elapsed().as_secs_f64().max(0.001);
        self.stage.note(format!(
            "{}: {} of {} MiB, {:.0} MiB/s",
            self.what,
            self.done >> 20,
            self.bytes >> 20,
            self.done as f64 / f64::from(1 << 20) / seconds
        ));
    }
}
