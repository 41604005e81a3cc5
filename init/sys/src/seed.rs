//! The seed of a data partition: an empty ext4 file system as the few blocks of it that are not
//! zero. The image carries it instead of an mkfs.
//!
//! Form: the line `kos-seed 1 BLOCK-BYTES BLOCKS`, then for each block its number (64 bits,
//! little-endian) and its bytes, in rising order, to the end.

use kos_manifest::disk::{SEED_MAGIC, SEED_VERSION};

use crate::ext4::{SUPERBLOCK_BYTES, SUPERBLOCK_OFFSET, Superblock};

/// The longest first line, its end included: two numbers of 64 bits and the words before.
const MAX_LINE: usize = 64;
/// What ext4 has on every processor.
const BLOCK_BYTES: [u64; 3] = [1024, 2048, 4096];
/// A seed that says more is none: the partition of an image has 64 MiB.
const MAX_BYTES: u64 = 1 << 30;

/// A seed whose every record is known to be whole and in place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seed<'a> {
    block_bytes: usize,
    blocks: u64,
    records: &'a [u8],
}

/// What is wrong with a seed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SeedError {
    /// The first line.
    #[error("its first line is not '{SEED_MAGIC} {SEED_VERSION} BLOCK-BYTES BLOCKS'")]
    FirstLine,
    /// The blocks' size.
    #[error("found blocks of {0} bytes, allowed: 1024, 2048, 4096")]
    BlockBytes(u64),
    /// The number of blocks.
    #[error("found {0} blocks, allowed: at most 1 GiB of them")]
    Blocks(u64),
    /// It ends within a block.
    #[error("it ends within a block")]
    Length,
    /// A block out of order, twice, or beyond the end.
    #[error("block {0} is out of order or beyond the end")]
    Order(u64),
    /// The file system in it.
    #[error("there is no superblock in it that fits its first line")]
    Superblock,
}

impl<'a> Seed<'a> {
    /// Understands a seed.
    ///
    /// # Errors
    /// The first thing in it that is wrong.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, SeedError> {
        let line = bytes
            .iter()
            .take(MAX_LINE)
            .position(|byte| *byte == b'\n')
            .ok_or(SeedError::FirstLine)?;
        let (line, records) = bytes.split_at(line + 1);
        let (block_bytes, blocks) = first_line(line).ok_or(SeedError::FirstLine)?;
        if !BLOCK_BYTES.contains(&block_bytes) {
            return Err(SeedError::BlockBytes(block_bytes));
        }
        if blocks == 0 || blocks > MAX_BYTES / block_bytes {
            return Err(SeedError::Blocks(blocks));
        }
        let seed = Seed {
            block_bytes: usize::try_from(block_bytes).unwrap_or(0),
            blocks,
            records,
        };
        if records.len() % seed.record_bytes() != 0 {
            return Err(SeedError::Length);
        }
        let mut next = 0;
        for (number, _) in seed.blocks() {
            if number < next || number >= blocks {
                return Err(SeedError::Order(number));
            }
            next = number + 1;
        }
        let superblock = Superblock::parse(&seed.superblock().ok_or(SeedError::Superblock)?)
            .ok_or(SeedError::Superblock)?;
        if (superblock.block_bytes, superblock.blocks) != (block_bytes, blocks) {
            return Err(SeedError::Superblock);
        }
        Ok(seed)
    }

    /// Bytes of the whole file system.
    pub fn bytes(&self) -> u64 {
        self.blocks * self.block_bytes as u64
    }

    /// Each block that is not zero: where it begins, in bytes, and what is in it.
    pub fn pieces(&self) -> impl Iterator<Item = (u64, &'a [u8])> {
        let block_bytes = self.block_bytes as u64;
        self.blocks()
            .map(move |(number, block)| (number * block_bytes, block))
    }

    /// The superblock, which lies within block 0 or is block 1.
    pub fn superblock(&self) -> Option<[u8; SUPERBLOCK_BYTES]> {
        self.pieces().find_map(|(at, block)| {
            let from = usize::try_from(SUPERBLOCK_OFFSET.checked_sub(at)?).ok()?;
            block.get(from..from + SUPERBLOCK_BYTES)?.try_into().ok()
        })
    }

    fn blocks(&self) -> impl Iterator<Item = (u64, &'a [u8])> {
        self.records
            .chunks_exact(self.record_bytes())
            .filter_map(|record| {
                let (number, block) = record.split_first_chunk()?;
                Some((u64::from_le_bytes(*number), block))
            })
    }

    fn record_bytes(&self) -> usize {
        size_of::<u64>() + self.block_bytes
    }
}

/// The two numbers of the first line.
fn first_line(line: &[u8]) -> Option<(u64, u64)> {
    let line = str::from_utf8(line).ok()?.strip_suffix('\n')?;
    let numbers = line.strip_prefix(&format!("{SEED_MAGIC} {SEED_VERSION} "))?;
    let (block_bytes, blocks) = numbers.split_once(' ')?;
    // A sign would pass as a number.
    let plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if !plain(block_bytes) || !plain(blocks) {
        return None;
    }
    Some((block_bytes.parse().ok()?, blocks.parse().ok()?))
}

#[cfg(test)]
mod tests;
