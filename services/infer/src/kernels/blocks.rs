//! How formats in blocks of 32 columns multiply (see `packing` for how they are packed).

use super::activations::{Grain, Tokens};
use super::lanes::Lanes;
use super::tiles::{Tile, by_pairs};

/// Weights this far ahead are asked for: what comes in while this much is computed.
const AHEAD: usize = 2048;

/// What is in eight rows' blocks of 32, which begin with eight scales.
pub(super) trait Of32: Tile {
    /// Numbers are stored so much too large.
    const ABOVE: i32;
    /// Where eight minima lie.
    const MINIMUM: Option<usize>;

    /// The numbers: of each four columns the four bytes of each row.
    ///
    /// # Safety
    /// As [`Lanes`] says; `weights` are [`Tile::BYTES`].
    unsafe fn fours<L: Lanes>(weights: *const u8) -> [L::Bytes; 8];
}

/// Adds a block of 32's share: what its bytes make, and the sum of activations times its minimum.
#[inline(always)]
unsafe fn add_block<L: Lanes, F: Of32, const T: usize>(
    out: &mut [L::Floats; T],
    ints: [L::Ints; T],
    weights: *const u8,
    x: Tokens,
) {
    // SAFETY: the caller's.
    unsafe {
        let scale = L::halves(weights.cast());
        let minimum = F::MINIMUM.map(|at| L::halves(weights.add(at).cast()));
        for (index, (out, mut ints)) in out.iter_mut().zip(ints).enumerate() {
            if F::ABOVE != 0 {
                ints = L::less(ints, F::ABOVE / 8 * *x.sums.add(index));
            }
            let size = *x.scales.add(index);
            *out = L::fma(L::floats(ints), L::mul(scale, L::splat(size)), *out);
            if let Some(minimum) = minimum {
                let sum = *x.scaled_sums.add(index);
                *out = L::fma(minimum, L::splat(sum), *out);
            }
        }
    }
}

/// Q4_0, and with a minimum Q4_1. Blocks of 32: eight scales, then for each four columns the four
/// bytes of each row, lower half columns 0 to 15 and upper half columns 16 to 31, then eight minima.
pub(super) struct Four<const MINIMUM: bool>;

impl<const MINIMUM: bool> Of32 for Four<MINIMUM> {
    const ABOVE: i32 = if MINIMUM { 0 } else { 8 };
    const MINIMUM: Option<usize> = if MINIMUM { Some(144) } else { None };

    #[inline(always)]
    unsafe fn fours<L: Lanes>(weights: *const u8) -> [L::Bytes; 8] {
        // SAFETY: the caller's.
        unsafe {
            let mut fours = [L::bytes(weights); 8];
            for step in 0..4 {
                let packed = L::bytes(weights.add(16 + 32 * step));
                fours[step] = L::low(packed);
                fours[step + 4] = L::high(packed);
            }
            fours
        }
    }
}

impl<const MINIMUM: bool> Tile for Four<MINIMUM> {
    const GRAIN: Grain = Grain::Of32;
    const BYTES: usize = if MINIMUM { 160 } else { 144 };

    #[inline(always)]
    unsafe fn block<L: Lanes, const T: usize>(
        weights: *const u8,
        x: Tokens,
        out: &mut [L::Floats; T],
    ) {
        // SAFETY: the caller's.
        unsafe {
            for line in 0..3 {
                L::prefetch(weights.wrapping_add(AHEAD + 64 * line));
            }
            let mut sums = [L::no_sums(); T];
            if L::MATRIX && T.is_multiple_of(2) {
                sums = by_pairs::<L, T, 8>(Self::fours::<L>(weights), x.bytes, 32);
            } else {
                for step in 0..4 {
                    let packed = L::bytes(weights.add(16 + 32 * step));
                    let (low, high) = (L::low(packed), L::high(packed));
                    for (index, sums) in sums.iter_mut().enumerate() {
                        let from = x.bytes.add(32 * index + 4 * step);
                        *sums = L::add_products(*sums, low, L::four(from));
                        *sums = L::add_products(*sums, high, L::four(from.add(16)));
                    }
                }
            }
            let ints = sums.map(|sums| L::total(sums));
            add_block::<L, Self, T>(out, ints, weights, x);
        }
    }
}

/// Q5_0, and with a minimum Q5_1. As [`Four`], with 32 bytes more before the minima: of each row's
/// four places the fifth bits, those of the lower halves' four steps first.
pub(super) struct Five<const MINIMUM: bool>;

impl<const MINIMUM: bool> Of32 for Five<MINIMUM> {
    const ABOVE: i32 = if MINIMUM { 0 } else { 16 };
    const MINIMUM: Option<usize> = if MINIMUM { Some(176) } else { None };

    #[inline(always)]
    unsafe fn fours<L: Lanes>(weights: *const u8) -> [L::Bytes; 8] {
        // SAFETY: the caller's.
        unsafe {
            let fifth = L::bytes(weights.add(144));
            let packed = |step: usize| L::bytes(weights.add(16 + 32 * step));
            [
                L::or(L::low(packed(0)), L::moved::<-4, 0x10>(fifth)),
                L::or(L::low(packed(1)), L::moved::<-3, 0x10>(fifth)),
                L::or(L::low(packed(2)), L::moved::<-2, 0x10>(fifth)),
                L::or(L::low(packed(3)), L::moved::<-1, 0x10>(fifth)),
                L::or(L::high(packed(0)), L::moved::<0, 0x10>(fifth)),
                L::or(L::high(packed(1)), L::moved::<1, 0x10>(fifth)),
                L::or(L::high(packed(2)), L::moved::<2, 0x10>(fifth)),
                L::or(L::high(packed(3)), L::moved::<3, 0x10>(fifth)),
            ]
        }
    }
}

impl<const MINIMUM: bool> Tile for Five<MINIMUM> {
    const GRAIN: Grain = Grain::Of32;
    const BYTES: usize = if MINIMUM { 192 } else { 176 };

    #[inline(always)]
    unsafe fn block<L: Lanes, const T: usize>(
        weights: *const u8,
        x: Tokens,
        out: &mut [L::Floats; T],
    ) {
        // SAFETY: the caller's.
        unsafe {
            for line in 0..3 {
                L::prefetch(weights.wrapping_add(AHEAD + 64 * line));
            }
            let fours = Self::fours::<L>(weights);
            let mut ints = [L::no_ints(); T];
            // Five bits fill 16 after four products.
            for half in [0, 2] {
                let mut sums = [L::no_sums(); T];
                for step in [half, half + 1] {
                    for (index, sums) in sums.iter_mut().enumerate() {
                        let from = x.bytes.add(32 * index + 4 * step);
                        *sums = L::add_products(*sums, fours[step], L::four(from));
                        *sums = L::add_products(*sums, fours[step + 4], L::four(from.add(16)));
                    }
                }
                for (ints, sums) in ints.iter_mut().zip(sums) {
                    *ints = L::add_ints(*ints, L::total(sums));
                }
            }
            add_block::<L, Self, T>(out, ints, weights, x);
        }
    }
}

/// Blocks of 32: eight scales, then for each four columns the four bytes of each row.
pub(super) struct Q8_0;

impl Of32 for Q8_0 {
    const ABOVE: i32 = 0;
    const MINIMUM: Option<usize> = None;

    #[inline(always)]
    unsafe fn fours<L: Lanes>(weights: *const u8) -> [L::Bytes; 8] {
        // SAFETY: the caller's.
        unsafe {
            let mut fours = [L::bytes(weights); 8];
            for (step, four) in fours.iter_mut().enumerate() {
                *four = L::bytes(weights.add(16 + 32 * step));
            }
            fours
        }
    }
}

impl Tile for Q8_0 {
    const GRAIN: Grain = Grain::Of32;
    const BYTES: usize = 272;

    #[inline(always)]
    unsafe fn block<L: Lanes, const T: usize>(
        weights: *const u8,
        x: Tokens,
        out: &mut [L::Floats; T],
    ) {
        // SAFETY: the caller's.
        unsafe {
            for line in 0..5 {
                L::prefetch(weights.wrapping_add(AHEAD + 64 * line));
            }
            let mut ints = [L::no_ints(); T];
            if L::MATRIX && T.is_multiple_of(2) {
                let sums = by_pairs::<L, T, 8>(Self::fours::<L>(weights), x.bytes, 32);
                ints = sums.map(|sums| L::total(sums));
            } else {
                for step in 0..8 {
                    let four = L::bytes(weights.add(16 + 32 * step));
                    for (index, ints) in ints.iter_mut().enumerate() {
                        let from = x.bytes.add(32 * index + 4 * step);
                        *ints = L::add_signed_products(*ints, four, L::four(from));
                    }
                }
            }
            add_block::<L, Self, T>(out, ints, weights, x);
        }
    }
}
