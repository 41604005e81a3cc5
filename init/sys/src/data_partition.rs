//! The data partition before it is mounted: the marker that asks for a file system, and the making
//! of one from a seed.
//!
//! A file system is made where the marker is, and nowhere else. The marker goes last: cut the power
//! anywhere, and the next boot finds either the marker and begins anew, or a whole file system.

use kos_manifest::disk::marker_sector;

use crate::error::SysError;
use crate::ext4::{SUPERBLOCK_BYTES, SUPERBLOCK_OFFSET, personalise};
use crate::medium::Medium;
use crate::seed::Seed;

/// What makes one box's file system differ from all others made of the same seed.
#[derive(Debug, Clone, Copy)]
pub struct Fresh {
    /// Its identity.
    pub uuid: [u8; 16],
    /// What its directories' hashes begin with.
    pub hash_seed: [u8; 16],
}

/// The marker's sector, which is otherwise part of what ext4 leaves to boot loaders.
const MARKER: std::ops::Range<u64> = 0..512;
/// The first page: marker, old superblock, and what else it may hold.
const FIRST_PAGE: u64 = 4096;

/// Whether a file system is to be made here.
///
/// # Errors
/// The partition cannot be read.
pub fn is_marked(partition: &(impl Medium + ?Sized)) -> Result<bool, SysError> {
    let mut sector = [0; 512];
    partition.read_at(MARKER.start, &mut sector)?;
    Ok(sector == marker_sector())
}

/// Says that a file system is to be made here, whatever there is now. From this moment on what the
/// partition holds is given up, and given back to the disk: most disks then read it no more.
///
/// # Errors
/// The partition cannot be written.
pub fn mark(partition: &mut (impl Medium + ?Sized)) -> Result<(), SysError> {
    partition.write_at(MARKER.start, &marker_sector())?;
    partition.sync()?;
    let end = partition.bytes() / FIRST_PAGE * FIRST_PAGE;
    partition.discard(FIRST_PAGE, end.saturating_sub(FIRST_PAGE));
    partition.sync()
}

/// Makes an empty file system in a partition that is marked.
///
/// # Errors
/// The partition is smaller than the seed's file system, or cannot be written.
pub fn make(
    partition: &mut (impl Medium + ?Sized),
    seed: &Seed<'_>,
    fresh: Fresh,
) -> Result<(), SysError> {
    let refuse =
        |reason: String| SysError::refused("make the file system of", partition.name(), reason);
    if partition.bytes() < seed.bytes() {
        return Err(refuse(format!(
            "it has {} bytes, and the seed is of {}",
            partition.bytes(),
            seed.bytes()
        )));
    }
    let mut superblock = seed
        .superblock()
        .ok_or_else(|| refuse("the seed has no superblock".to_owned()))?;
    // 1. What was there is no file system any more, whatever happens next.
    partition.zero(MARKER.end, FIRST_PAGE - MARKER.end)?;
    partition.sync()?;
    // 2. Everything but the superblock. What lies beyond is not read before it is written.
    partition.zero(FIRST_PAGE, seed.bytes() - FIRST_PAGE)?;
    for (at, block) in seed.pieces() {
        write_around_superblock(partition, at, block)?;
    }
    partition.sync()?;
    // 3. Now it is a file system.
    personalise(&mut superblock, fresh.uuid, fresh.hash_seed);
    partition.write_at(SUPERBLOCK_OFFSET, &superblock)?;
    partition.sync()?;
    // 4. And nobody needs to make it.
    partition.zero(MARKER.start, MARKER.end)?;
    partition.sync()
}

/// Writes a block of the seed, but for what of it is marker or superblock.
fn write_around_superblock(
    partition: &mut (impl Medium + ?Sized),
    at: u64,
    block: &[u8],
) -> Result<(), SysError> {
    let superblock_end = SUPERBLOCK_OFFSET + SUPERBLOCK_BYTES as u64;
    for (from, to) in [(MARKER.end, SUPERBLOCK_OFFSET), (superblock_end, u64::MAX)] {
        let start = at.max(from);
        let end = (at + block.len() as u64).min(to);
        if start < end {
            let piece = usize::try_from(start - at)
                .ok()
                .zip(usize::try_from(end - at).ok());
            if let Some(piece) = piece.and_then(|(start, end)| block.get(start..end)) {
                partition.write_at(start, piece)?;
            }
        }
    }
    Ok(())
}
