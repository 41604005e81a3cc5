//! The inner loops: eight rows of weights times a few tokens' activations, for each format in which
//! weights are packed (see `packing`).

use super::activations::{Activations, Tokens, tile_width};
use super::lanes::Lanes;

/// A part of a matrix product: these groups of eight rows, for these tokens.
pub(super) struct Work<'a> {
    /// The first byte of group 0.
    pub weights: *const u8,
    /// From one group to the next.
    pub group_bytes: usize,
    /// Groups to compute.
    pub groups: std::ops::Range<usize>,
    /// Rows of the matrix: the last group may have fewer than eight.
    pub rows: usize,
    /// The other side.
    pub activations: &'a Activations,
    /// Tokens to compute.
    pub tokens: std::ops::Range<usize>,
    /// Token 0, row 0 of the result; tokens lie `stride` floats apart.
    pub out: *mut f32,
    /// Floats from one token's result to the next.
    pub stride: usize,
}

/// How one format multiplies.
pub(super) trait Tile {
    /// The products of a group's rows with `T` tokens from `token` on.
    ///
    /// # Safety
    /// As [`Lanes`] says; `weights` is a whole group.
    unsafe fn tile<L: Lanes, const T: usize>(
        weights: *const u8,
        activations: &Activations,
        token: usize,
    ) -> [L::Floats; T];
}

/// Computes `work`.
///
/// # Safety
/// As [`Lanes`] says; `work`'s pointers reach what its ranges name, and nobody else writes there.
#[inline(always)]
pub(super) unsafe fn run<L: Lanes, F: Tile>(work: &Work<'_>) {
    for group in work.groups.clone() {
        let mut token = work.tokens.start;
        // SAFETY: the caller's.
        unsafe {
            let weights = work.weights.add(group * work.group_bytes);
            while token < work.tokens.end {
                let left = work.tokens.end - token;
                token += match tile_width(work.activations.grain(), left) {
                    6 => some::<L, F, 6>(work, group, weights, token),
                    4 => some::<L, F, 4>(work, group, weights, token),
                    2 => some::<L, F, 2>(work, group, weights, token),
                    _ => some::<L, F, 1>(work, group, weights, token),
                };
            }
        }
    }
}

#[inline(always)]
unsafe fn some<L: Lanes, F: Tile, const T: usize>(
    work: &Work<'_>,
    group: usize,
    weights: *const u8,
    token: usize,
) -> usize {
    let row = group * 8;
    // SAFETY: the caller's.
    unsafe {
        let sums = F::tile::<L, T>(weights, work.activations, token);
        for (index, sums) in sums.into_iter().enumerate() {
            let to = work.out.add((token + index) * work.stride + row);
            if row + 8 <= work.rows {
                L::put(to, sums);
            } else {
                let mut whole = [0.0; 8];
                L::put(whole.as_mut_ptr(), sums);
                std::ptr::copy_nonoverlapping(whole.as_ptr(), to, work.rows - row);
            }
        }
    }
    T
}

/// Weights this far ahead are asked for: what comes in while this much is computed.
const AHEAD: usize = 2048;

/// The same, of blocks of 256 columns.
const FAR_AHEAD: usize = 4096;

/// The sums of products of `4 * S` columns, two tokens at a time: for machines with
/// [`Lanes::MATRIX`], where `T` is even. Tokens lie `apart` bytes from each other.
#[inline(always)]
unsafe fn by_pairs<L: Lanes, const T: usize, const S: usize>(
    fours: [L::Bytes; S],
    from: *const i8,
    apart: usize,
) -> [L::Sums; T] {
    // SAFETY: the caller's.
    unsafe {
        let mut sums = [L::no_sums(); T];
        for pair in 0..T / 2 {
            let (one, other) = (2 * pair, 2 * pair + 1);
            let mut both = (L::no_sums(), L::no_sums());
            for step in (0..S).step_by(2) {
                let weights = (fours[step], fours[step + 1]);
                both = L::add_matrix(
                    both,
                    weights,
                    from.add(apart * one + 4 * step),
                    from.add(apart * other + 4 * step),
                );
            }
            (sums[one], sums[other]) = L::split(both);
        }
        sums
    }
}

/// Adds a block of 32's share: what its bytes make, and the sum of activations times its minimum.
#[inline(always)]
unsafe fn add_block<L: Lanes, const T: usize>(
    out: &mut [L::Floats; T],
    ints: [L::Ints; T],
    scale: L::Floats,
    minimum: Option<L::Floats>,
    activations: Tokens,
    first: usize,
) {
    // SAFETY: the caller's.
    unsafe {
        for (index, (out, ints)) in out.iter_mut().zip(ints).enumerate() {
            let size = *activations.scales.add(first + index);
            *out = L::fma(L::floats(ints), L::mul(scale, L::splat(size)), *out);
            if let Some(minimum) = minimum {
                let sum = *activations.scaled_sums.add(first + index);
                *out = L::fma(minimum, L::splat(sum), *out);
            }
        }
    }
}

/// Q4_0, and with a minimum Q4_1. Blocks of 32: eight scales, then for each four columns the four
/// bytes of each row, lower half columns 0 to 15 and upper half columns 16 to 31, then eight minima.
pub(super) struct Four<const MINIMUM: bool>;

impl<const MINIMUM: bool> Tile for Four<MINIMUM> {
    #[inline(always)]
    unsafe fn tile<L: Lanes, const T: usize>(
        weights: *const u8,
        activations: &Activations,
        token: usize,
    ) -> [L::Floats; T] {
        // SAFETY: the caller's; a row of activations is as long as the group's.
        unsafe {
            let x = activations.tile(token);
            let mut out = [L::splat(0.0); T];
            for block in 0..activations.columns() / 32 {
                let weights = weights.add(block * if MINIMUM { 160 } else { 144 });
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
                    sums = by_pairs::<L, T, 8>(fours, x.bytes.add(32 * T * block), 32);
                } else {
                    for step in 0..4 {
                        let packed = L::bytes(weights.add(16 + 32 * step));
                        let (low, high) = (L::low(packed), L::high(packed));
                        for (index, sums) in sums.iter_mut().enumerate() {
                            let from = x.bytes.add(32 * (T * block + index) + 4 * step);
                            *sums = L::add_products(*sums, low, L::four(from));
                            *sums = L::add_products(*sums, high, L::four(from.add(16)));
                        }
                    }
                }
                let mut ints = sums.map(|sums| L::total(sums));
                if !MINIMUM {
                    for (index, ints) in ints.iter_mut().enumerate() {
                        *ints = L::less(*ints, *x.sums.add(T * block + index));
                    }
                }
                let scale = L::halves(weights.cast());
                let minimum = MINIMUM.then(|| L::halves(weights.add(144).cast()));
                add_block::<L, T>(&mut out, ints, scale, minimum, x, T * block);
            }
            out
        }
    }
}

/// Q5_0, and with a minimum Q5_1. As [`Four`], with 32 bytes more before the minima: of each row's
/// four places the fifth bits, those of the lower halves' four steps first.
pub(super) struct Five<const MINIMUM: bool>;

impl<const MINIMUM: bool> Tile for Five<MINIMUM> {
    #[inline(always)]
    unsafe fn tile<L: Lanes, const T: usize>(
        weights: *const u8,
        activations: &Activations,
        token: usize,
    ) -> [L::Floats; T] {
        // SAFETY: the caller's; a row of activations is as long as the group's.
        unsafe {
            let x = activations.tile(token);
            let mut out = [L::splat(0.0); T];
            for block in 0..activations.columns() / 32 {
                let weights = weights.add(block * if MINIMUM { 192 } else { 176 });
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
                            let from = x.bytes.add(32 * (T * block + index) + 4 * step);
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
                        *ints = L::less(*ints, 2 * *x.sums.add(T * block + index));
                    }
                }
                let scale = L::halves(weights.cast());
                let minimum = MINIMUM.then(|| L::halves(weights.add(176).cast()));
                add_block::<L, T>(&mut out, ints, scale, minimum, x, T * block);
            }
            out
        }
    }
}

/// Blocks of 32: eight scales, then for each four columns the four bytes of each row.
pub(super) struct Q8_0;

impl Tile for Q8_0 {
    #[inline(always)]
    unsafe fn tile<L: Lanes, const T: usize>(
        weights: *const u8,
        activations: &Activations,
        token: usize,
    ) -> [L::Floats; T] {
        // SAFETY: the caller's; a row of activations is as long as the group's.
        unsafe {
            let x = activations.tile(token);
            let mut out = [L::splat(0.0); T];
            for block in 0..activations.columns() / 32 {
                let weights = weights.add(block * 272);
                for line in 0..5 {
                    L::prefetch(weights.wrapping_add(AHEAD + 64 * line));
                }
                let mut ints = [L::no_ints(); T];
                if L::MATRIX && T.is_multiple_of(2) {
                    let fours = std::array::from_fn(|step| L::bytes(weights.add(16 + 32 * step)));
                    let sums = by_pairs::<L, T, 8>(fours, x.bytes.add(32 * T * block), 32);
                    ints = sums.map(|sums| L::total(sums));
                } else {
                    for step in 0..8 {
                        let four = L::bytes(weights.add(16 + 32 * step));
                        for (index, ints) in ints.iter_mut().enumerate() {
                            let from = x.bytes.add(32 * (T * block + index) + 4 * step);
                            *ints = L::add_signed_products(*ints, four, L::four(from));
                        }
                    }
                }
                let scale = L::halves(weights.cast());
                add_block::<L, T>(&mut out, ints, scale, None, x, T * block);
            }
            out
        }
    }
}

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
    #[inline(always)]
    unsafe fn tile<L: Lanes, const T: usize>(
        weights: *const u8,
        activations: &Activations,
        token: usize,
    ) -> [L::Floats; T] {
        // SAFETY: the caller's; a row of activations is as long as the group's.
        unsafe {
            let x = activations.tile(token);
            let mut out = [L::splat(0.0); T];
            for block in 0..activations.columns() / 256 {
                let weights = weights.add(block * 1152);
                let (scales, minima) = unpack_scales::<L>(weights.add(32));
                let mut ints = [L::no_ints(); T];
                let mut below = [L::no_ints(); T];
                for pair in 0..4 {
                    let packed = weights.add(128 + 256 * pair);
                    for ahead in 0..4 {
                        L::prefetch(packed.wrapping_add(FAR_AHEAD + 64 * ahead));
                    }
                    let mut low = [L::no_sums(); T];
                    let column = x.bytes.add(256 * T * block + 64 * pair);
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
                    let column = x.bytes.add(256 * T * block + 64 * pair + 32);
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
                        let two = x.sums_of_32.add(8 * (T * block + index) + 2 * pair);
                        *below = L::add_pair_products(*below, minimum, two);
                    }
                }
                add_with_minima::<L, T>(&mut out, ints, below, weights, x.scales.add(T * block));
            }
            out
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
    #[inline(always)]
    unsafe fn tile<L: Lanes, const T: usize>(
        weights: *const u8,
        activations: &Activations,
        token: usize,
    ) -> [L::Floats; T] {
        // SAFETY: the caller's; a row of activations is as long as the group's.
        unsafe {
            let x = activations.tile(token);
            let mut out = [L::splat(0.0); T];
            for block in 0..activations.columns() / 256 {
                let weights = weights.add(block * 672);
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
                        L::prefetch(packed.wrapping_add(FAR_AHEAD + 64 * ahead));
                    }
                    let quants: [_; 4] =
                        std::array::from_fn(|step| L::bytes(packed.add(32 * step)));
                    let runs = [
                        quants.map(|four| L::moved::<0, 3>(four)),
                        quants.map(|four| L::moved::<2, 3>(four)),
                        quants.map(|four| L::moved::<4, 3>(four)),
                        quants.map(|four| L::moved::<6, 3>(four)),
                    ];
                    for (run, fours) in runs.into_iter().enumerate() {
                        let sub = 8 * (part / 2) + 2 * run + part % 2;
                        let scale = L::doubled(scales.as_ptr().add(8 * sub));
                        let from = x.bytes.add(256 * T * block + 16 * sub);
                        sub_block::<L, T, 4>(fours, scale, &mut ints, from);
                    }
                }
                let sums = x.sums_of_16.add(16 * T * block);
                let below = times_sums::<L, T>(minima.as_ptr(), sums);
                add_with_minima::<L, T>(&mut out, ints, below, weights, x.scales.add(T * block));
            }
            out
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
    #[inline(always)]
    unsafe fn tile<L: Lanes, const T: usize>(
        weights: *const u8,
        activations: &Activations,
        token: usize,
    ) -> [L::Floats; T] {
        // SAFETY: the caller's; a row of activations is as long as the group's.
        unsafe {
            let x = activations.tile(token);
            let mut out = [L::splat(0.0); T];
            for block in 0..activations.columns() / 256 {
                let weights = weights.add(block * 880);
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
                        L::prefetch(packed.wrapping_add(FAR_AHEAD + 64 * ahead));
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
                        let from = x.bytes.add(256 * T * block + 16 * sub);
                        sub_block::<L, T, 4>(fours, scale, &mut ints, from);
                    }
                }
                let sums = x.sums_of_16.add(16 * T * block);
                let below = times_sums::<L, T>(scales.as_ptr(), sums);
                // Weights are stored four too large.
                add_signed::<L, T>(
                    &mut out,
                    ints,
                    below,
                    -4.0,
                    weights,
                    x.scales.add(T * block),
                );
            }
            out
        }
    }
}

/// As [`Q4K`], with the fifth bits after each pair's bytes: 32 for the first four steps, 32 for the
/// others, two bits of each step, that of the lower half first.
pub(super) struct Q5K;

impl Tile for Q5K {
    #[inline(always)]
    unsafe fn tile<L: Lanes, const T: usize>(
        weights: *const u8,
        activations: &Activations,
        token: usize,
    ) -> [L::Floats; T] {
        // SAFETY: the caller's; a row of activations is as long as the group's.
        unsafe {
            let x = activations.tile(token);
            let mut out = [L::splat(0.0); T];
            for block in 0..activations.columns() / 256 {
                let weights = weights.add(block * 1408);
                let (scales, minima) = unpack_scales::<L>(weights.add(32));
                let mut ints = [L::no_ints(); T];
                let mut below = [L::no_ints(); T];
                for pair in 0..4 {
                    let packed = weights.add(128 + 320 * pair);
                    for ahead in 0..5 {
                        L::prefetch(packed.wrapping_add(FAR_AHEAD + 64 * ahead));
                    }
                    let scale = scales.as_ptr().add(16 * pair);
                    let scale = [L::doubled(scale), L::doubled(scale.add(8))];
                    let from = x.bytes.add(256 * T * block + 64 * pair);
                    for half in 0..2 {
                        let quants: [_; 4] = std::array::from_fn(|step| {
                            L::bytes(packed.add(128 * half + 32 * step))
                        });
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
                        let two = x.sums_of_32.add(8 * (T * block + index) + 2 * pair);
                        *below = L::add_pair_products(*below, minimum, two);
                    }
                }
                add_with_minima::<L, T>(&mut out, ints, below, weights, x.scales.add(T * block));
            }
            out
        }
    }
}

/// Blocks of 256: eight scales, 16 scales of each row, then for each four sub-blocks of 16 columns
/// three runs of bytes, always four columns of each row together: the lower six bits are a
/// sub-block's, the upper two a part of the fourth's, its highest bits first.
pub(super) struct Q6K;

impl Tile for Q6K {
    #[inline(always)]
    unsafe fn tile<L: Lanes, const T: usize>(
        weights: *const u8,
        activations: &Activations,
        token: usize,
    ) -> [L::Floats; T] {
        // SAFETY: the caller's; a row of activations is as long as the group's.
        unsafe {
            let x = activations.tile(token);
            let mut out = [L::splat(0.0); T];
            for block in 0..activations.columns() / 256 {
                let weights = weights.add(block * 1680);
                let scales = weights.add(16);
                let mut ints = [L::no_ints(); T];
                for set in 0..4 {
                    // By and by: a processor keeps some twenty requests at a time.
                    for ahead in 7 * set..(7 * set + 7).min(27) {
                        L::prefetch(weights.wrapping_add(FAR_AHEAD + 64 * ahead));
                    }
                    let packed = weights.add(144 + 384 * set);
                    let run = |run: usize| {
                        std::array::from_fn(|step| L::bytes(packed.add(128 * run + 32 * step)))
                    };
                    let scale = |sub: usize| L::doubled_signed(scales.add(8 * (4 * set + sub)));
                    let from = x.bytes.add(256 * T * block + 64 * set);
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
                let below = times_sums::<L, T>(scales, x.sums_of_16.add(16 * T * block));
                // Weights are stored 32 too large.
                add_signed::<L, T>(
                    &mut out,
                    ints,
                    below,
                    -32.0,
                    weights,
                    x.scales.add(T * block),
                );
            }
            out
        }
    }
}

/// Computes `work` whose weights are numbers: for each column one of each row.
///
/// # Safety
/// As [`run`] says.
#[inline(always)]
pub(super) unsafe fn run_numbers<L: Lanes, N: Number>(work: &Work<'_>) {
    let mut token = work.tokens.start;
    // SAFETY: the caller's.
    unsafe {
        while token < work.tokens.end {
            token += match work.tokens.end - token {
                6.. => some_numbers::<L, N, 6>(work, token),
                4.. => some_numbers::<L, N, 4>(work, token),
                2.. => some_numbers::<L, N, 2>(work, token),
                _ => some_numbers::<L, N, 1>(work, token),
            };
        }
    }
}

#[inline(always)]
unsafe fn some_numbers<L: Lanes, N: Number, const T: usize>(
    work: &Work<'_>,
    token: usize,
) -> usize {
    let columns = work.activations.columns();
    let groups = &Groups {
        first: work
            .weights
            .wrapping_add(work.groups.start * work.group_bytes)
            .cast::<N>(),
        stride: 8 * columns,
        count: work.groups.len(),
    };
    // SAFETY: the caller's.
    unsafe {
        let x = std::array::from_fn(|index| work.activations.floats(token + index));
        groups.products::<L, T>(x, columns, |group, index, sums| {
            let row = (work.groups.start + group) * 8;
            let to = work.out.add((token + index) * work.stride + row);
            if row + 8 <= work.rows {
                L::put(to, sums);
            } else {
                let mut whole = [0.0; 8];
                L::put(whole.as_mut_ptr(), sums);
                std::ptr::copy_nonoverlapping(whole.as_ptr(), to, work.rows - row);
            }
        });
    }
    T
}

/// What floats are stored as.
pub(super) trait Number: Copy {
    /// Eight of them as floats.
    ///
    /// # Safety
    /// As [`Lanes`] says.
    unsafe fn eight<L: Lanes>(from: *const Self) -> L::Floats;
}

impl Number for u16 {
    #[inline(always)]
    unsafe fn eight<L: Lanes>(from: *const u16) -> L::Floats {
        // SAFETY: the caller's.
        unsafe { L::halves(from) }
    }
}

/// The upper 16 bits of a float.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(super) struct Brain(u16);

impl Number for Brain {
    #[inline(always)]
    unsafe fn eight<L: Lanes>(from: *const Brain) -> L::Floats {
        // SAFETY: the caller's.
        unsafe { L::brains(from.cast()) }
    }
}

impl Number for i8 {
    #[inline(always)]
    unsafe fn eight<L: Lanes>(from: *const i8) -> L::Floats {
        // SAFETY: the caller's.
        unsafe { L::signed_bytes(from) }
    }
}

impl Number for f32 {
    #[inline(always)]
    unsafe fn eight<L: Lanes>(from: *const f32) -> L::Floats {
        // SAFETY: the caller's.
        unsafe { L::load(from) }
    }
}

/// Groups of eight rows of numbers: of each column the eight numbers side by side.
pub(super) struct Groups<N> {
    /// The first group.
    pub first: *const N,
    /// Numbers from one group to the next.
    pub stride: usize,
    /// How many.
    pub count: usize,
}

impl<N: Number> Groups<N> {
    /// Hands the products of all rows with `T` rows of `columns` floats to `put`, with the group's
    /// and the row's number. Several groups go side by side, so that sums need not wait for each
    /// other; each sum is made in the same order whatever goes beside it.
    ///
    /// # Safety
    /// As [`Lanes`] says.
    #[inline(always)]
    pub unsafe fn products<L: Lanes, const T: usize>(
        &self,
        x: [*const f32; T],
        columns: usize,
        mut put: impl FnMut(usize, usize, L::Floats),
    ) {
        let mut group = 0;
        // SAFETY: the caller's.
        unsafe {
            // As many sums as there are registers for.
            if T >= 4 {
                while group + 2 <= self.count {
                    self.some::<L, 2, T>(group, x, columns, &mut put);
                    group += 2;
                }
            } else {
                while group + 4 <= self.count {
                    self.some::<L, 4, T>(group, x, columns, &mut put);
                    group += 4;
                }
            }
            while group < self.count {
                self.some::<L, 1, T>(group, x, columns, &mut put);
                group += 1;
            }
        }
    }

    #[inline(always)]
    unsafe fn some<L: Lanes, const G: usize, const T: usize>(
        &self,
        group: usize,
        x: [*const f32; T],
        columns: usize,
        put: &mut impl FnMut(usize, usize, L::Floats),
    ) {
        // SAFETY: the caller's.
        unsafe {
            let weights: [_; G] =
                std::array::from_fn(|index| self.first.add((group + index) * self.stride));
            let mut sums = [[L::splat(0.0); T]; G];
            for column in 0..columns {
                let eights: [_; G] =
                    std::array::from_fn(|index| N::eight::<L>(weights[index].add(8 * column)));
                for (index, x) in x.iter().enumerate() {
                    let x = L::splat(*x.add(column));
                    for (sums, eight) in sums.iter_mut().zip(eights) {
                        sums[index] = L::fma(eight, x, sums[index]);
                    }
                }
            }
            for (place, sums) in sums.into_iter().enumerate() {
                for (index, sums) in sums.into_iter().enumerate() {
                    put(group + place, index, sums);
                }
            }
        }
    }
}
