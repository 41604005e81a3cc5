//! How formats in blocks of 32 columns multiply (see `packing` for how they are packed).

use super::activations::{Grain, Tokens};
use super::lanes::Lanes;
use super::tiles::{Tile, by_pairs};

/// Weights this far ahead are asked for: what comes in while this much is computed.
const AHEAD: usize = 2048;

/// Adds a block of 32's share: what its bytes make, and the sum of activations times its minimum.
#[inline(always)]
unsafe fn add_block<L: Lanes, const T: usize>(
    out: &mut [L::Floats; T],
    ints: [L::Ints; T],
    scale: L::Floats,
    minimum: Option<L::Floats>,
    activations: Tokens,
) {
    // SAFETY: the caller's.
    unsafe {
        for (index, (out, ints)) in out.iter_mut().zip(ints).enumerate() {
            let size = *activations.scales.add(index);
            *out = L::fma(L::floats(ints), L::mul(scale, L::splat(size)), *out);
            if let Some(minimum) = minimum {
                let sum = *activations.scaled_sums.add(index);
                *out = L::fma(minimum, L::splat(sum), *out);
            }
        }
    }
}

/// Q4_0, and with a minimum Q4_1. Blocks of 32: eight scales, then for each four columns the four
/// bytes of each row, lower half columns 0 to 15 and upper half columns 16 to 31, then eight minima.
pub(super) struct Four<const MINIMUM: bool>;

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
                let fours = std::array::from_fn::<_, 8, _>(|step| {
                    let packed = L::bytes(weights.add(16 + 32 * (step % 4)));
                    if step < 4 {
                        L::low(packed)
                    } else {
                        L::high(packed)
                    }
                });
                sums = by_pairs::<L, T, 8>(fours, x.bytes, 32);
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
            let mut ints = sums.map(|sums| L::total(sums));
            if !MINIMUM {
                for (index, ints) in ints.iter_mut().enumerate() {
                    *ints = L::less(*ints, *x.sums.add(index));
                }
            }
            let scale = L::halves(weights.cast());
            let minimum = MINIMUM.then(|| L::halves(weights.add(144).cast()));
            add_block::<L, T>(out, ints, scale, minimum, x);
        }
    }
}

/// Q5_0, and with a minimum Q5_1. As [`Four`], with 32 bytes more before the minima: of each row's
/// four places the fifth bits, those of the lower halves' four steps first.
pub(super) struct Five<const MINIMUM: bool>;

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
            let fifth = L::bytes(weights.add(144));
            let fifths = [
                [L::moved::<-4, 0x10>(fifth), L::moved::<0, 0x10>(fifth)],
                [L::moved::<-3, 0x10>(fifth), L::moved::<1, 0x10>(fifth)],
                [L::moved::<-2, 0x10>(fifth), L::moved::<2, 0x10>(fifth)],
                [L::moved::<-1, 0x10>(fifth), L::moved::<3, 0x10>(fifth)],
            ];
            let mut ints = [L::no_ints(); T];
            // Five bits fill 16 after four products.
            for half in [0, 2] {
                let mut sums = [L::no_sums(); T];
                for step in [half, half + 1] {
                    let packed = L::bytes(weights.add(16 + 32 * step));
                    let low = L::or(L::low(packed), fifths[step][0]);
                    let high = L::or(L::high(packed), fifths[step][1]);
                    for (index, sums) in sums.iter_mut().enumerate() {
                        let from = x.bytes.add(32 * index + 4 * step);
                        *sums = L::add_products(*sums, low, L::four(from));
                        *sums = L::add_products(*sums, high, L::four(from.add(16)));
                    }
                }
                for (ints, sums) in ints.iter_mut().zip(sums) {
                    *ints = L::add_ints(*ints, L::total(sums));
                }
            }
            if !MINIMUM {
                for (index, ints) in ints.iter_mut().enumerate() {
                    // Weights are stored 16 too large.
                    *ints = L::less(*ints, 2 * *x.sums.add(index));
                }
            }
            let scale = L::halves(weights.cast());
            let minimum = MINIMUM.then(|| L::halves(weights.add(176).cast()));
            add_block::<L, T>(out, ints, scale, minimum, x);
        }
    }
}

/// Blocks of 32: eight scales, then for each four columns the four bytes of each row.
pub(super) struct Q8_0;

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
                let fours = std::array::from_fn(|step| L::bytes(weights.add(16 + 32 * step)));
                let sums = by_pairs::<L, T, 8>(fours, x.bytes, 32);
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
            let scale = L::halves(weights.cast());
            add_block::<L, T>(out, ints, scale, None, x);
        }
    }
}
