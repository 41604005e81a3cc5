//! How formats in blocks of 256 columns multiply (see `packing` for how they are packed).

use super::activations::{Grain, Tokens};
use super::lanes::Lanes;
use super::tiles::{Tile, by_pairs};

/// Weights this far ahead are asked for: what comes in while this much is computed.
const AHEAD: usize = 4096;

/// Blocks of 256: eight scales, eight scales of the minima, 96 bytes of six-bit scales and minima,
/// then for each pair of 32 columns, for each four columns, the four bytes of each row: lower half
/// the first of the pair, upper half the second.
pub(super) struct Q4K;

/// Unpacks the six-bit scales and minima of eight rows: eight of each row, sub-block by sub-block.
#[inline(always)]
unsafe fn unpack_scales<L: Lanes>(from: *const u8) -> ([u8; 64], [u8; 64]) {
    let (mut scales, mut minima) = ([0; 64], [0; 64]);
    // SAFETY: the caller's: 96 bytes.
    unsafe {
        let (first, second) = (L::bytes(from), L::bytes(from.add(32)));
        let upper = L::bytes(from.add(64));
        let to = scales.as_mut_ptr();
        L::put_bytes(to, L::or(L::low(first), L::moved::<-4, 0x30>(upper)));
        L::put_bytes(
            to.add(32),
            L::or(L::low(second), L::moved::<0, 0x30>(upper)),
        );
        let to = minima.as_mut_ptr();
        L::put_bytes(to, L::or(L::high(first), L::moved::<-2, 0x30>(upper)));
        L::put_bytes(
            to.add(32),
            L::or(L::high(second), L::moved::<2, 0x30>(upper)),
        );
    }
    (scales, minima)
}

impl Tile for Q4K {
    const GRAIN: Grain = Grain::Of256;
    const BYTES: usize = 1152;

    #[inline(always)]
    unsafe fn block<L: Lanes, const T: usize>(
        weights: *const u8,
        x: Tokens,
        out: &mut [L::Floats; T],
    ) {
        // SAFETY: the caller's.
        unsafe {
            let (scales, minima) = unpack_scales::<L>(weights.add(32));
            let mut ints = [L::no_ints(); T];
            let mut below = [L::no_ints(); T];
            for pair in 0..4 {
                let packed = weights.add(128 + 256 * pair);
                for ahead in 0..4 {
                    L::prefetch(packed.wrapping_add(AHEAD + 64 * ahead));
                }
                let mut low = [L::no_sums(); T];
                let column = x.bytes.add(64 * pair);
                if L::MATRIX && T.is_multiple_of(2) {
                    let four = |step| L::low(L::bytes(packed.add(32 * step)));
                    let fours = std::array::from_fn(four);
                    low = by_pairs::<L, T, 8>(fours, column, 256);
                } else {
                    for step in 0..8 {
                        let four = L::low(L::bytes(packed.add(32 * step)));
                        for (index, sums) in low.iter_mut().enumerate() {
                            let from = column.add(256 * index + 4 * step);
                            *sums = L::add_products(*sums, four, L::four(from));
                        }
                    }
                }
                let scale = L::doubled(scales.as_ptr().add(16 * pair));
                for (ints, sums) in ints.iter_mut().zip(low) {
                    *ints = L::add_ints(*ints, L::total_scaled(sums, scale));
                }
                let mut high = [L::no_sums(); T];
                let column = x.bytes.add(64 * pair + 32);
                if L::MATRIX && T.is_multiple_of(2) {
                    let four = |step| L::high(L::bytes(packed.add(32 * step)));
                    let fours = std::array::from_fn(four);
                    high = by_pairs::<L, T, 8>(fours, column, 256);
                } else {
                    for step in 0..8 {
                        let four = L::high(L::bytes(packed.add(32 * step)));
                        for (index, sums) in high.iter_mut().enumerate() {
                            let from = column.add(256 * index + 4 * step);
                            *sums = L::add_products(*sums, four, L::four(from));
                        }
                    }
                }
                let scale = L::doubled(scales.as_ptr().add(16 * pair + 8));
                let minimum = minima.as_ptr().add(16 * pair);
                let minimum = L::paired(minimum, minimum.add(8));
                for (index, ((ints, sums), below)) in
                    ints.iter_mut().zip(high).zip(&mut below).enumerate()
                {
                    *ints = L::add_ints(*ints, L::total_scaled(sums, scale));
                    let two = x.sums_of_32.add(8 * index + 2 * pair);
                    *below = L::add_pair_products(*below, minimum, two);
                }
            }
            add_with_minima::<L, T>(out, ints, below, weights, x.scales);
        }
    }
}

/// Adds a block of 256's share where `weights` begin with eight scales: `below` are the scales' sums
/// times activations, of which each weight has so many too few.
#[inline(always)]
unsafe fn add_signed<L: Lanes, const T: usize>(
    out: &mut [L::Floats; T],
    ints: [L::Ints; T],
    below: [L::Ints; T],
    offset: f32,
    weights: *const u8,
    sizes: *const f32,
) {
    // SAFETY: the caller's.
    unsafe {
        let scale = L::halves(weights.cast());
        for (index, ((out, ints), below)) in out.iter_mut().zip(ints).zip(below).enumerate() {
            let sum = L::fma(L::floats(below), L::splat(offset), L::floats(ints));
            *out = L::fma(sum, L::mul(scale, L::splat(*sizes.add(index))), *out);
        }
    }
}

/// The same where `weights` begin with eight scales and eight scales of minima, and `below` are the
/// minima's products.
#[inline(always)]
unsafe fn add_with_minima<L: Lanes, const T: usize>(
    out: &mut [L::Floats; T],
    ints: [L::Ints; T],
    below: [L::Ints; T],
    weights: *const u8,
    sizes: *const f32,
) {
    // SAFETY: the caller's.
    unsafe {
        let scale = L::halves(weights.cast());
        let lower = L::mul(L::halves(weights.add(16).cast()), L::splat(-1.0));
        for (index, ((out, ints), below)) in out.iter_mut().zip(ints).zip(below).enumerate() {
            let both = L::fma(L::floats(ints), scale, L::mul(L::floats(below), lower));
            *out = L::fma(both, L::splat(*sizes.add(index)), *out);
        }
    }
}

/// One sub-block of 16 columns, whose sums are made whole after so many products: two of six bits
/// fill 16, and four of five.
#[inline(always)]
unsafe fn sub_block<L: Lanes, const T: usize, const AT_ONCE: usize>(
    fours: [L::Bytes; 4],
    scale: L::Shorts,
    ints: &mut [L::Ints; T],
    from: *const i8,
) {
    // SAFETY: the caller's.
    unsafe {
        if L::MATRIX && T.is_multiple_of(2) {
            let sums = by_pairs::<L, T, 4>(fours, from, 256);
            for (ints, sums) in ints.iter_mut().zip(sums) {
                *ints = L::add_ints(*ints, L::total_scaled(sums, scale));
            }
            return;
        }
        for (index, ints) in ints.iter_mut().enumerate() {
            let from = from.add(256 * index);
            for (part, fours) in fours.chunks_exact(AT_ONCE).enumerate() {
                let mut sums = L::no_sums();
                for (step, &four) in fours.iter().enumerate() {
                    let from = from.add(4 * (AT_ONCE * part + step));
                    sums = L::add_products(sums, four, L::four(from));
                }
                *ints = L::add_ints(*ints, L::total_scaled(sums, scale));
            }
        }
    }
}

/// The sums of each 16 columns times eight rows' 16 numbers with a sign.
#[inline(always)]
unsafe fn times_sums<L: Lanes, const T: usize>(
    numbers: *const u8,
    sums_of_16: *const i16,
) -> [L::Ints; T] {
    // SAFETY: the caller's.
    unsafe {
        let mut out = [L::no_ints(); T];
        for pair in 0..8 {
            let numbers = numbers.add(16 * pair);
            let both = L::paired_signed(numbers, numbers.add(8));
            for (index, out) in out.iter_mut().enumerate() {
                *out = L::add_pair_products(*out, both, sums_of_16.add(16 * index + 2 * pair));
            }
        }
        out
    }
}

/// Blocks of 256: eight scales, eight scales of the minima, for each sub-block of 16 columns a byte
/// of each row with its scale in the lower half and its minimum in the upper, then the numbers in
/// the file's order, four columns of each row together.
pub(super) struct Q2K;

impl Tile for Q2K {
    const GRAIN: Grain = Grain::Of256;
    const BYTES: usize = 672;

    #[inline(always)]
    unsafe fn block<L: Lanes, const T: usize>(
        weights: *const u8,
        x: Tokens,
        out: &mut [L::Floats; T],
    ) {
        // SAFETY: the caller's.
        unsafe {
            let (mut scales, mut minima) = ([0u8; 128], [0u8; 128]);
            for line in 0..4 {
                let both = L::bytes(weights.add(32 + 32 * line));
                L::put_bytes(scales.as_mut_ptr().add(32 * line), L::low(both));
                L::put_bytes(minima.as_mut_ptr().add(32 * line), L::high(both));
            }
            let mut ints = [L::no_ints(); T];
            for part in 0..4 {
                let packed = weights.add(160 + 128 * part);
                for ahead in 0..3 {
                    L::prefetch(packed.wrapping_add(AHEAD + 64 * ahead));
                }
                let quants: [_; 4] = std::array::from_fn(|step| L::bytes(packed.add(32 * step)));
                let runs = [
                    quants.map(|four| L::moved::<0, 3>(four)),
                    quants.map(|four| L::moved::<2, 3>(four)),
                    quants.map(|four| L::moved::<4, 3>(four)),
                    quants.map(|four| L::moved::<6, 3>(four)),
                ];
                for (run, fours) in runs.into_iter().enumerate() {
                    let sub = 8 * (part / 2) + 2 * run + part % 2;
                    let scale = L::doubled(scales.as_ptr().add(8 * sub));
                    let from = x.bytes.add(16 * sub);
                    sub_block::<L, T, 4>(fours, scale, &mut ints, from);
                }
            }
            let sums = x.sums_of_16;
            let below = times_sums::<L, T>(minima.as_ptr(), sums);
            add_with_minima::<L, T>(out, ints, below, weights, x.scales);
        }
    }
}

/// Blocks of 256: eight scales, 96 bytes of six-bit scales (the last eight sub-blocks' where
/// [`Q4K`] has minima), then for each 64 columns that share bytes in the file the lower two bits, and
/// the third ones: of the first two steps in the lower halves, of the last two in the upper.
pub(super) struct Q3K;

impl Q3K {
    /// A sub-block's numbers, which lie so far to the left of where they belong.
    #[inline(always)]
    unsafe fn fours<L: Lanes, const TWO: i32, const FIRST: i32, const LAST: i32>(
        quants: [L::Bytes; 4],
        thirds: [L::Bytes; 2],
    ) -> [L::Bytes; 4] {
        // SAFETY: the caller's.
        unsafe {
            let thirds = [
                L::moved::<FIRST, 4>(thirds[0]),
                L::moved::<FIRST, 4>(thirds[1]),
                L::moved::<LAST, 4>(thirds[0]),
                L::moved::<LAST, 4>(thirds[1]),
            ];
            std::array::from_fn(|step| L::or(L::moved::<TWO, 3>(quants[step]), thirds[step]))
        }
    }
}

impl Tile for Q3K {
    const GRAIN: Grain = Grain::Of256;
    const BYTES: usize = 880;

    #[inline(always)]
    unsafe fn block<L: Lanes, const T: usize>(
        weights: *const u8,
        x: Tokens,
        out: &mut [L::Floats; T],
    ) {
        // SAFETY: the caller's.
        unsafe {
            let (first, last) = unpack_scales::<L>(weights.add(16));
            let mut scales = [0u8; 128];
            for (to, from) in scales.iter_mut().zip(first.iter().chain(&last)) {
                // Scales are stored 32 too large.
                *to = from.wrapping_sub(32);
            }
            let mut ints = [L::no_ints(); T];
            for part in 0..4 {
                let packed = weights.add(112 + 192 * part);
                for ahead in 0..4 {
                    L::prefetch(packed.wrapping_add(AHEAD + 64 * ahead));
                }
                let quants = std::array::from_fn(|step| L::bytes(packed.add(32 * step)));
                let thirds = [L::bytes(packed.add(128)), L::bytes(packed.add(160))];
                let runs = [
                    Self::fours::<L, 0, -2, 2>(quants, thirds),
                    Self::fours::<L, 2, -1, 3>(quants, thirds),
                    Self::fours::<L, 4, 0, 4>(quants, thirds),
                    Self::fours::<L, 6, 1, 5>(quants, thirds),
                ];
                for (run, fours) in runs.into_iter().enumerate() {
                    let sub = 8 * (part / 2) + 2 * run + part % 2;
                    let scale = L::doubled_signed(scales.as_ptr().add(8 * sub));
                    let from = x.bytes.add(16 * sub);
                    sub_block::<L, T, 4>(fours, scale, &mut ints, from);
                }
            }
            let sums = x.sums_of_16;
            let below = times_sums::<L, T>(scales.as_ptr(), sums);
            // Weights are stored four too large.
            add_signed::<L, T>(out, ints, below, -4.0, weights, x.scales);
        }
    }
}

/// As [`Q4K`], with the fifth bits after each pair's bytes: 32 for the first four steps, 32 for the
/// others, two bits of each step, that of the lower half first.
pub(super) struct Q5K;

impl Tile for Q5K {
    const GRAIN: Grain = Grain::Of256;
    const BYTES: usize = 1408;

    #[inline(always)]
    unsafe fn block<L: Lanes, const T: usize>(
        weights: *const u8,
        x: Tokens,
        out: &mut [L::Floats; T],
    ) {
        // SAFETY: the caller's.
        unsafe {
            let (scales, minima) = unpack_scales::<L>(weights.add(32));
            let mut ints = [L::no_ints(); T];
            let mut below = [L::no_ints(); T];
            for pair in 0..4 {
                let packed = weights.add(128 + 320 * pair);
                for ahead in 0..5 {
                    L::prefetch(packed.wrapping_add(AHEAD + 64 * ahead));
                }
                let scale = scales.as_ptr().add(16 * pair);
                let scale = [L::doubled(scale), L::doubled(scale.add(8))];
                let from = x.bytes.add(64 * pair);
                for half in 0..2 {
                    let quants: [_; 4] =
                        std::array::from_fn(|step| L::bytes(packed.add(128 * half + 32 * step)));
                    let fifth = L::bytes(packed.add(256 + 32 * half));
                    let low = [
                        L::or(L::low(quants[0]), L::moved::<-4, 0x10>(fifth)),
                        L::or(L::low(quants[1]), L::moved::<-2, 0x10>(fifth)),
                        L::or(L::low(quants[2]), L::moved::<0, 0x10>(fifth)),
                        L::or(L::low(quants[3]), L::moved::<2, 0x10>(fifth)),
                    ];
                    let high = [
                        L::or(L::high(quants[0]), L::moved::<-3, 0x10>(fifth)),
                        L::or(L::high(quants[1]), L::moved::<-1, 0x10>(fifth)),
                        L::or(L::high(quants[2]), L::moved::<1, 0x10>(fifth)),
                        L::or(L::high(quants[3]), L::moved::<3, 0x10>(fifth)),
                    ];
                    let from = from.add(16 * half);
                    sub_block::<L, T, 4>(low, scale[0], &mut ints, from);
                    sub_block::<L, T, 4>(high, scale[1], &mut ints, from.add(32));
                }
                let minimum = minima.as_ptr().add(16 * pair);
                let minimum = L::paired(minimum, minimum.add(8));
                for (index, below) in below.iter_mut().enumerate() {
                    let two = x.sums_of_32.add(8 * index + 2 * pair);
                    *below = L::add_pair_products(*below, minimum, two);
                }
            }
            add_with_minima::<L, T>(out, ints, below, weights, x.scales);
        }
    }
}

/// Blocks of 256: eight scales, 16 scales of each row, then for each four sub-blocks of 16 columns
/// three runs of bytes, always four columns of each row together: the lower six bits are a
/// sub-block's, the upper two a part of the fourth's, its highest bits first.
pub(super) struct Q6K;

impl Tile for Q6K {
    const GRAIN: Grain = Grain::Of256;
    const BYTES: usize = 1680;

    #[inline(always)]
    unsafe fn block<L: Lanes, const T: usize>(
        weights: *const u8,
        x: Tokens,
        out: &mut [L::Floats; T],
    ) {
        // SAFETY: the caller's.
        unsafe {
            let scales = weights.add(16);
            let mut ints = [L::no_ints(); T];
            for set in 0..4 {
                // By and by: a processor keeps some twenty requests at a time.
                for ahead in 7 * set..(7 * set + 7).min(27) {
                    L::prefetch(weights.wrapping_add(AHEAD + 64 * ahead));
                }
                let packed = weights.add(144 + 384 * set);
                let run = |run: usize| {
                    std::array::from_fn(|step| L::bytes(packed.add(128 * run + 32 * step)))
                };
                let scale = |sub: usize| L::doubled_signed(scales.add(8 * (4 * set + sub)));
                let from = x.bytes.add(64 * set);
                let bytes: [_; 4] = run(0);
                let fours = bytes.map(|four| L::moved::<0, 0x3f>(four));
                sub_block::<L, T, 2>(fours, scale(0), &mut ints, from);
                let mut shared = bytes.map(|four| L::moved::<2, 0x30>(four));
                let bytes: [_; 4] = run(1);
                let fours = bytes.map(|four| L::moved::<0, 0x3f>(four));
                sub_block::<L, T, 2>(fours, scale(1), &mut ints, from.add(16));
                for (shared, four) in shared.iter_mut().zip(bytes) {
                    *shared = L::or(*shared, L::moved::<4, 0x0c>(four));
                }
                let bytes: [_; 4] = run(2);
                let fours = bytes.map(|four| L::moved::<0, 0x3f>(four));
                sub_block::<L, T, 2>(fours, scale(2), &mut ints, from.add(32));
                for (shared, four) in shared.iter_mut().zip(bytes) {
                    *shared = L::or(*shared, L::moved::<6, 3>(four));
                }
                sub_block::<L, T, 2>(shared, scale(3), &mut ints, from.add(48));
            }
            let below = times_sums::<L, T>(scales, x.sums_of_16);
            // Weights are stored 32 too large.
            add_signed::<L, T>(out, ints, below, -32.0, weights, x.scales);
        }
    }
}
