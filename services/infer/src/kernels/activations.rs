//! The other side of a matrix product: rows of floats, and the same as bytes with scales.

use std::io;

use super::lanes::Lanes;
use super::matrix::Pieces;
use super::vectors::{LARGE, rows as each_row};
use super::zeroed::Zeroed;
use super::{Isa, Pool, for_isa};

/// How activations are made into bytes for a format of weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Grain {
    /// Not at all.
    Floats,
    /// A scale for each 32.
    Of32,
    /// A scale for each 256, and sums of each 16 and 32.
    Of256,
}

impl Grain {
    /// Columns of a block; floats have none, each is its own.
    pub const fn columns(self) -> usize {
        match self {
            Self::Floats => 1,
            Self::Of32 => 32,
            Self::Of256 => 256,
        }
    }
}

/// Rows of activations.
#[derive(Debug)]
pub(super) struct Activations {
    grain: Grain,
    tiles: bool,
    panel: usize,
    rows: usize,
    columns: usize,
    floats: *const f32,
    room: Room,
}

/// Memory for rows of activations, which is used again for the next ones.
#[derive(Debug, Default)]
pub(super) struct Room {
    bytes: Zeroed<i8>,
    scales: Zeroed<f32>,
    sums: Zeroed<i32>,
    scaled_sums: Zeroed<f32>,
    sums_of_16: Zeroed<i16>,
    sums_of_32: Zeroed<i16>,
}

// SAFETY: the floats are only read, for as long as `new`'s caller lends them.
unsafe impl Sync for Activations {}

/// Tokens whose bytes stay near while all rows meet them: 128 of 4096 columns are half a MiB.
pub(super) const PANEL: usize = 128;

/// Tokens of a matrix unit's tile. All whole ones of a panel lie together: first so many columns of each
/// tile, block by block, then the next ones.
pub(super) const TILE: usize = 16;

/// See [`TILE`].
pub(super) const TILE_COLUMNS: usize = 256;

/// How many tokens are computed at once at most: as many as there are registers for.
pub(super) const fn widest(grain: Grain) -> usize {
    match grain {
        Grain::Of32 if cfg!(not(target_arch = "aarch64")) => 4,
        _ => 6,
    }
}

/// How many are computed at once when so many are left of a panel.
pub(super) const fn tile_width(grain: Grain, left: usize) -> usize {
    match left {
        6.. if widest(grain) == 6 => 6,
        4.. => 4,
        2.. => 2,
        _ => 1,
    }
}

/// The tokens that are computed at once: of each block the first token's numbers, then the next
/// one's. What a grain does not have points to nothing.
#[derive(Clone, Copy)]
pub(super) struct Tokens {
    /// The numbers.
    pub bytes: *const i8,
    /// A scale for each block.
    pub scales: *const f32,
    /// Eight times the sum of each 32: what weights stored 8 too large add too much.
    pub sums: *const i32,
    /// The sum of each 32, scaled: what a minimum is multiplied with.
    pub scaled_sums: *const f32,
    /// Sums of each 16.
    pub sums_of_16: *const i16,
    /// Sums of each 32.
    pub sums_of_32: *const i16,
}

impl Tokens {
    /// The same from so many blocks on.
    #[inline(always)]
    pub fn at(self, grain: Grain, blocks: usize) -> Self {
        let columns = blocks * grain.columns();
        Self {
            bytes: self.bytes.wrapping_add(columns),
            scales: self.scales.wrapping_add(blocks),
            sums: self.sums.wrapping_add(blocks),
            scaled_sums: self.scaled_sums.wrapping_add(blocks),
            sums_of_16: self.sums_of_16.wrapping_add(columns / 16),
            sums_of_32: self.sums_of_32.wrapping_add(columns / 32),
        }
    }
}

impl Activations {
    /// Takes `rows` rows of `columns` floats.
    ///
    /// # Errors
    /// When there is no memory for them.
    ///
    /// # Safety
    /// `floats` must stay as they are for as long as the result is used.
    pub unsafe fn new(
        pool: &Pool,
        isa: Isa,
        grain: Grain,
        floats: &[f32],
        columns: usize,
    ) -> io::Result<Self> {
        let rows = floats.len() / columns;
        let block = grain.columns();
        let blocks = rows * (columns / block);
        let (coarse, fine) = match grain {
            Grain::Floats => (0, 0),
            Grain::Of32 => (blocks, 0),
            Grain::Of256 => (0, rows * (columns / 16)),
        };
        let mut this = Self {
            grain,
            tiles: isa.tiles(),
            panel: isa.panel(columns),
            rows,
            columns,
            floats: floats.as_ptr(),
            room: pool.room(),
        };
        if grain != Grain::Floats {
            let runs = this.runs();
            let room = &mut this.room;
            let to = &Places {
                grain,
                bytes: Pieces::new(room.bytes.sized(rows * columns)?, block),
                scales: Pieces::new(room.scales.sized(blocks)?, 1),
                sums: Pieces::new(room.sums.sized(coarse)?, 1),
                scaled_sums: Pieces::new(room.scaled_sums.sized(coarse)?, 1),
                sums_of_16: Pieces::new(room.sums_of_16.sized(fine)?, 16),
                sums_of_32: Pieces::new(room.sums_of_32.sized(fine / 2)?, 8),
            };
            each_row(pool, rows, columns, &|row| {
                let run = &runs[runs.partition_point(|run| run.first <= row) - 1];
                let floats = &floats[row * columns..][..columns];
                let row = row - run.first;
                // SAFETY: `isa` was found on this machine; each row is taken once.
                unsafe {
                    for_isa!(isa, quantize(to, run, floats, row): (&Places, &Run, &[f32], usize));
                }
            });
        }
        Ok(this)
    }

    /// Its memory, for the next ones.
    pub fn into_room(self) -> Room {
        self.room
    }

    /// Numbers in a row.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Rows that are computed one after the other with the same weights.
    pub fn panel(&self) -> usize {
        self.panel
    }

    /// How they were made into bytes.
    pub fn grain(&self) -> Grain {
        self.grain
    }

    /// The tile that begins with a row, see [`tile_width`].
    #[inline(always)]
    pub fn tile(&self, row: usize) -> Tokens {
        let (columns, room) = (self.columns, &self.room);
        let block = row * (columns / self.grain.columns());
        Tokens {
            bytes: room.bytes[row * columns..].as_ptr(),
            scales: room.scales[block..].as_ptr(),
            sums: room.sums.as_ptr().wrapping_add(block),
            scaled_sums: room.scaled_sums.as_ptr().wrapping_add(block),
            sums_of_16: room.sums_of_16.as_ptr().wrapping_add(row * columns / 16),
            sums_of_32: room.sums_of_32.as_ptr().wrapping_add(row * columns / 32),
        }
    }

    /// A row as floats.
    #[inline(always)]
    pub fn floats(&self, row: usize) -> *const f32 {
        self.floats.wrapping_add(row * self.columns)
    }
}

/// Where blocks go, by their numbers.
struct Places {
    grain: Grain,
    bytes: Pieces<i8>,
    scales: Pieces<f32>,
    sums: Pieces<i32>,
    scaled_sums: Pieces<f32>,
    sums_of_16: Pieces<i16>,
    sums_of_32: Pieces<i16>,
}

/// Where the numbers of so many rows go that are made into bytes together.
struct Run {
    /// The first row.
    first: usize,
    rows: usize,
    /// Rows whose numbers lie side by side, and columns of them.
    tile: usize,
    columns: usize,
}

impl Activations {
    /// The rows in runs of one width.
    fn runs(&self) -> Vec<Run> {
        let mut runs = Vec::new();
        let mut first = 0;
        while first < self.rows {
            let left = (self.panel - first % self.panel).min(self.rows - first);
            let (rows, tile, columns) = match left {
                TILE.. if self.tiles => (left / TILE * TILE, TILE, TILE_COLUMNS),
                _ => {
                    let width = tile_width(self.grain, left);
                    (width, width, self.grain.columns())
                }
            };
            runs.push(Run {
                first,
                rows,
                tile,
                columns,
            });
            first += rows;
        }
        runs
    }
}

/// Makes floats into bytes, block by block: the largest becomes 127.
#[inline(always)]
unsafe fn quantize<L: Lanes>(to: &Places, run: &Run, floats: &[f32], row: usize) {
    let block = to.grain.columns();
    let per_row = floats.len() / block;
    let at_once = run.columns / block;
    for (place, floats) in floats.chunks_exact(block).enumerate() {
        let before = place / at_once * at_once;
        let together = at_once.min(per_row - before);
        let at = run.first * per_row
            + before * run.rows
            + row / run.tile * run.tile * together
            + (place - before) * run.tile
            + row % run.tile;
        // SAFETY: the caller's.
        unsafe { quantize_block::<L>(to, at, floats) };
    }
}

/// Makes one block.
#[inline(always)]
unsafe fn quantize_block<L: Lanes>(to: &Places, index: usize, floats: &[f32]) {
    // SAFETY: eight floats at a time, of a multiple of eight; nobody else has this block.
    let (largest, bytes) = unsafe { (largest::<L>(floats), to.bytes.take(index)) };
    let scale = largest / 127.0;
    let inverse = if largest > 0.0 { 127.0 / largest } else { 0.0 };
    // What is not a number stays none, for whoever looks at the result.
    let kept = match to.grain {
        Grain::Of32 => as_half(scale),
        _ => scale,
    };
    // SAFETY: as above.
    unsafe { to.scales.put(index, kept) };
    for (byte, float) in bytes.iter_mut().zip(floats) {
        *byte = nearest(float * inverse);
    }
    match to.grain {
        Grain::Of256 => {
            // SAFETY: as above.
            let (sums, halves) = unsafe { (to.sums_of_16.take(index), to.sums_of_32.take(index)) };
            for (sum, bytes) in sums.iter_mut().zip(bytes.chunks_exact(16)) {
                *sum = bytes.iter().map(|&byte| i16::from(byte)).sum();
            }
            for (half, sums) in halves.iter_mut().zip(sums.chunks_exact(2)) {
                *half = sums[0] + sums[1];
            }
        }
        _ => {
            let sum: i32 = bytes.iter().map(|&byte| i32::from(byte)).sum();
            // SAFETY: as above.
            unsafe {
                to.sums.put(index, 8 * sum);
                to.scaled_sums.put(index, as_half(scale * sum as f32));
            }
        }
    }
}

/// The nearest integer, ties to even, of what is within -127 and 127; of anything else any.
#[inline(always)]
fn nearest(number: f32) -> i8 {
    (number + LARGE).to_bits() as i8
}

/// Rounded as llama.cpp stores it, so that results are the same to the last digits.
#[inline(always)]
fn as_half(number: f32) -> f32 {
    /// The least normal half, and the first number that is none any more.
    const RANGE: std::ops::Range<f32> = 6.103_515_6e-5..65520.0;
    // Of this and what is added to it, no more than a half's places are left.
    const SMALL: f32 = 0.75;
    let size = number.abs();
    let size = if size < RANGE.start {
        (size + SMALL) - SMALL
    } else if size < RANGE.end {
        // Thirteen places less; to the even one where two are as near.
        let bits = size.to_bits();
        f32::from_bits((bits + 0xFFF + (bits >> 13 & 1)) & !0x1FFF)
    } else {
        // Too large, or no number.
        size + f32::INFINITY
    };
    size.copysign(number)
}

/// The largest magnitude; NaN when one is none.
#[inline(always)]
unsafe fn largest<L: Lanes>(floats: &[f32]) -> f32 {
    // SAFETY: the caller's.
    unsafe {
        let mut largest = L::splat(0.0);
        // A sum of products with zero is zero, or not a number if one of them is not finite.
        let mut sound = L::splat(0.0);
        for eight in floats.chunks_exact(8) {
            let eight = L::load(eight.as_ptr());
            let negative = L::mul(eight, L::splat(-1.0));
            largest = L::max(L::max(eight, negative), largest);
            sound = L::fma(eight, L::splat(0.0), sound);
        }
        let mut all = [0.0_f32; 8];
        L::put(all.as_mut_ptr(), largest);
        for width in [4, 2, 1] {
            let (one, other) = all.split_at_mut(width);
            for (one, other) in one.iter_mut().zip(other) {
                *one = if *one > *other { *one } else { *other };
            }
        }
        all[0] + L::sum(sound)
    }
}

#[cfg(test)]
mod tests {
    use half::f16;

    use super::*;

    #[test]
    fn halves_are_rounded_as_they_are_stored() {
        let exact = |number: f32| f16::from_f32(number).to_f32();
        let ends = [
            0.0,
            -0.0,
            65519.9,
            65520.0,
            -7e4,
            f32::INFINITY,
            1e-8,
            3e-8,
            f32::MIN_POSITIVE,
        ];
        // Every half, the middle between it and the next, and both sides of that.
        let halves = (0..=u16::MAX).map(|bits| f16::from_bits(bits).to_f32());
        let between = halves.filter(|half| half.is_finite()).flat_map(|half| {
            let step = if half.abs() < 6.2e-5 {
                2.0_f32.powi(-25)
            } else {
                f32::from_bits(half.to_bits() & 0x7F80_0000) * 2.0_f32.powi(-11)
            };
            let middle = half + step.copysign(half);
            [half, middle, middle.next_down(), middle.next_up()]
        });
        for number in ends.into_iter().chain(between) {
            assert_eq!(
                as_half(number).to_bits(),
                exact(number).to_bits(),
                "{number:e}"
            );
        }
        assert!(as_half(f32::NAN).is_nan());
    }
}
