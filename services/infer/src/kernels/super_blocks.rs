//! How formats in blocks of 256 columns multiply (see `packing` for how they are packed).

use super::activations::{Grain, Tokens};
use super::lanes::Lanes;
use super::tiles::{Tile, by_pairs};

/// Weights this far ahead are asked for: what comes in while this much is computed.
const AHEAD: usize = 4096;

/// What is in eight rows' blocks of 256, which begin with eight scales.
#[cfg_attr(
    not(target_arch = "x86_64"),
    expect(dead_code, reason = "what only AMX asks for")
)]
pub(super) trait Of256: Tile {
    /// Numbers are stored so much too large.
    const ABOVE: i16 = 0;
    /// Minima of each row, of which eight scales follow the others.
    const MINIMA: usize = 0;

    /// Hands all sub-blocks to `to`.
    ///
    /// # Safety
    /// As [`Lanes`] says; `weights` are [`Tile::BYTES`].
    unsafe fn sub_blocks<L: Lanes, S: SubBlocks<L>>(weights: *const u8, to: &mut S);

    /// The minima by pairs, again from the first where there are fewer; anything where there are none.
    ///
    /// # Safety
    /// As [`Of256::sub_blocks`] says.
    #[inline(always)]
    unsafe fn minima<L: Lanes>(weights: *const u8) -> [L::Shorts; 8] {
        // SAFETY: the caller's.
        unsafe { [L::doubled(weights); 8] }
    }
}

/// What takes sub-blocks of 16 columns. No closure, as those are compiled for any machine.
pub(super) trait SubBlocks<L: Lanes> {
    /// Takes sub-block `sub`: its numbers, of each four columns the four bytes of each row, and each
    /// row's scale.
    ///
    /// # Safety
    /// As [`Lanes`] says.
    unsafe fn take(&mut self, sub: usize, fours: [L::Bytes; 4], scale: L::Shorts);
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

/// The eight minima of [`unpack_scales`], by pairs.
#[inline(always)]
unsafe fn six_bit_minima<L: Lanes>(weights: *const u8) -> [L::Shorts; 8] {
    // SAFETY: the caller's.
    unsafe {
        let (_, minima) = unpack_scales::<L>(weights.add(32));
        pairs::<L>(&std::array::from_fn(|place| minima[place % 64]))
    }
}

/// Numbers of 16 sub-blocks by pairs.
#[inline(always)]
unsafe fn pairs<L: Lanes>(numbers: &[u8; 128]) -> [L::Shorts; 8] {
    // SAFETY: the caller's; 16 bytes each.
    unsafe {
        let mut pairs = [L::doubled(numbers.as_ptr()); 8];
        for (pair, numbers) in pairs.iter_mut().zip(numbers.as_chunks::<16>().0) {
            *pair = L::paired(numbers.as_ptr(), numbers[8..].as_ptr());
        }
        pairs
    }
}

impl Of256 for Q4K {
    const MINIMA: usize = 8;

    #[inline(always)]
    unsafe fn sub_blocks<L: Lanes, S: SubBlocks<L>>(weights: *const u8, to: &mut S) {
        // SAFETY: the caller's.
        unsafe {
            let (scales, _) = unpack_scales::<L>(weights.add(32));
            for pair in 0..4 {
                let packed = weights.add(128 + 256 * pair);
                let scale = scales.as_ptr().add(16 * pair);
                let scale = [L::doubled(scale), L::doubled(scale.add(8))];
                for half in 0..2 {
                    let mut low = [L::bytes(packed); 4];
                    let mut high = low;
                    for step in 0..4 {
                        let both = L::bytes(packed.add(128 * half + 32 * step));
                        low[step] = L::low(both);
                        high[step] = L::high(both);
                    }
                    to.take(4 * pair + half, low, scale[0]);
                    to.take(4 * pair + 2 + half, high, scale[1]);
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn minima<L: Lanes>(weights: *const u8) -> [L::Shorts; 8] {
        // SAFETY: the caller's.
        unsafe { six_bit_minima::<L>(weights) }
    }
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
            // Not by `Sums`: two sub-blocks of 16 have one scale here, and half as many sums are scaled.
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
/// times activations, of which each weight has two to the power of `BITS` too many.
#[inline(always)]
unsafe fn add_signed<L: Lanes, const T: usize, const BITS: i32>(
    out: &mut [L::Floats; T],
    ints: [L::Ints; T],
    below: [L::Ints; T],
    weights: *const u8,
    sizes: *const f32,
) {
    // SAFETY: the caller's.
    unsafe {
        let scale = L::halves(weights.cast());
        for (index, ((out, ints), below)) in out.iter_mut().zip(ints).zip(below).enumerate() {
            let sum = L::floats(L::less_times::<BITS>(ints, below));
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

/// Sums of `T` tokens' products with sub-blocks. They are made whole after so many: two of six bits
/// fill 16, and four of five.
struct Sums<L: Lanes, const T: usize, const AT_ONCE: usize> {
    ints: [L::Ints; T],
    from: *const i8,
}

impl<L: Lanes, const T: usize, const AT_ONCE: usize> Sums<L, T, AT_ONCE> {
    /// The products of all of a block.
    #[inline(always)]
    unsafe fn of<F: Of256>(weights: *const u8, x: Tokens) -> [L::Ints; T] {
        // SAFETY: the caller's.
        unsafe {
            let (ints, from) = ([L::no_ints(); T], x.bytes);
            let mut sums = Self { ints, from };
            F::sub_blocks::<L, _>(weights, &mut sums);
            sums.ints
        }
    }
}

impl<L: Lanes, const T: usize, const AT_ONCE: usize> SubBlocks<L> for Sums<L, T, AT_ONCE> {
    #[inline(always)]
    unsafe fn take(&mut self, sub: usize, fours: [L::Bytes; 4], scale: L::Shorts) {
        // SAFETY: the caller's.
        unsafe {
            let from = self.from.add(16 * sub);
            if L::MATRIX && T.is_multiple_of(2) {
                let sums = by_pairs::<L, T, 4>(fours, from, 256);
                for (ints, sums) in self.ints.iter_mut().zip(sums) {
                    *ints = L::add_ints(*ints, L::total_scaled(sums, scale));
                }
                return;
            }
            for (index, ints) in self.ints.iter_mut().enumerate() {
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

impl Of256 for Q2K {
    const MINIMA: usize = 16;

    #[inline(always)]
    unsafe fn sub_blocks<L: Lanes, S: SubBlocks<L>>(weights: *const u8, to: &mut S) {
        // SAFETY: the caller's.
        unsafe {
            let scales = Self::halves::<L>(weights, |both| L::low(both));
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
                    to.take(sub, fours, L::doubled(scales.as_ptr().add(8 * sub)));
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn minima<L: Lanes>(weights: *const u8) -> [L::Shorts; 8] {
        // SAFETY: the caller's.
        unsafe { pairs::<L>(&Self::halves::<L>(weights, |both| L::high(both))) }
    }
}

impl Q2K {
    /// One half of each of the bytes that hold scales and minima.
    #[inline(always)]
    unsafe fn halves<L: Lanes>(
        weights: *const u8,
        half: impl Fn(L::Bytes) -> L::Bytes,
    ) -> [u8; 128] {
        let mut halves = [0; 128];
        for line in 0..4 {
            // SAFETY: the caller's.
            unsafe {
                let both = L::bytes(weights.add(32 + 32 * line));
                L::put_bytes(halves.as_mut_ptr().add(32 * line), half(both));
            }
        }
        halves
    }
}

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
            let ints = Sums::<L, T, 4>::of::<Self>(weights, x);
            let minima = Self::halves::<L>(weights, |both| L::high(both));
            let below = times_sums::<L, T>(minima.as_ptr(), x.sums_of_16);
            add_with_minima::<L, T>(out, ints, below, weights, x.scales);
        }
    }
}

/// Blocks of 256: eight scales, 96 bytes of six-bit scales (the last eight sub-blocks' where
/// [`Q4K`] has minima), then for each 64 columns that share bytes in the file the lower two bits, and
/// the third ones: of the first two steps in the lower halves, of the last two in the upper.
pub(super) struct Q3K;

impl Q3K {
    /// The scales, with a sign.
    #[inline(always)]
    unsafe fn scales<L: Lanes>(weights: *const u8) -> [u8; 128] {
        // SAFETY: the caller's.
        let (first, last) = unsafe { unpack_scales::<L>(weights.add(16)) };
        let mut scales = [0u8; 128];
        // They are stored 32 too large.
        for (to, from) in scales.as_chunks_mut::<64>().0.iter_mut().zip([first, last]) {
            *to = from.map(|scale| scale.wrapping_sub(32));
        }
        scales
    }

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

impl Of256 for Q3K {
    const ABOVE: i16 = 4;

    #[inline(always)]
    unsafe fn sub_blocks<L: Lanes, S: SubBlocks<L>>(weights: *const u8, to: &mut S) {
        // SAFETY: the caller's.
        unsafe {
            let scales = Self::scales::<L>(weights);
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
                    to.take(sub, fours, scale);
                }
            }
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
            let ints = Sums::<L, T, 4>::of::<Self>(weights, x);
            let scales = Self::scales::<L>(weights);
            let below = times_sums::<L, T>(scales.as_ptr(), x.sums_of_16);
            add_signed::<L, T, 2>(out, ints, below, weights, x.scales);
        }
    }
}

/// As [`Q4K`], with the fifth bits after each pair's bytes: 32 for the first four steps, 32 for the
/// others, two bits of each step, that of the lower half first.
pub(super) struct Q5K;

impl Of256 for Q5K {
    const MINIMA: usize = 8;

    #[inline(always)]
    unsafe fn sub_blocks<L: Lanes, S: SubBlocks<L>>(weights: *const u8, to: &mut S) {
        // SAFETY: the caller's.
        unsafe {
            let (scales, _) = unpack_scales::<L>(weights.add(32));
            for pair in 0..4 {
                let packed = weights.add(128 + 320 * pair);
                for ahead in 0..5 {
                    L::prefetch(packed.wrapping_add(AHEAD + 64 * ahead));
                }
                let scale = scales.as_ptr().add(16 * pair);
                let scale = [L::doubled(scale), L::doubled(scale.add(8))];
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
                    to.take(4 * pair + half, low, scale[0]);
                    to.take(4 * pair + 2 + half, high, scale[1]);
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn minima<L: Lanes>(weights: *const u8) -> [L::Shorts; 8] {
        // SAFETY: the caller's.
        unsafe { six_bit_minima::<L>(weights) }
    }
}

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
            let ints = Sums::<L, T, 4>::of::<Self>(weights, x);
            let minima = Self::minima::<L>(weights);
            let mut below = [L::no_ints(); T];
            for (pair, minimum) in minima[..4].iter().enumerate() {
                for (index, below) in below.iter_mut().enumerate() {
                    let two = x.sums_of_32.add(8 * index + 2 * pair);
                    *below = L::add_pair_products(*below, *minimum, two);
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

impl Of256 for Q6K {
    const ABOVE: i16 = 32;

    #[inline(always)]
    unsafe fn sub_blocks<L: Lanes, S: SubBlocks<L>>(weights: *const u8, to: &mut S) {
        // SAFETY: the caller's.
        unsafe {
            let scales = weights.add(16);
            for set in 0..4 {
                // By and by: a processor keeps some twenty requests at a time.
                for ahead in 7 * set..(7 * set + 7).min(27) {
                    L::prefetch(weights.wrapping_add(AHEAD / 2 + 64 * ahead));
                }
                let packed = weights.add(144 + 384 * set);
                let run = |run: usize| {
                    std::array::from_fn(|step| L::bytes(packed.add(128 * run + 32 * step)))
                };
                let sub = 4 * set;
                let scale = |sub: usize| L::doubled_signed(scales.add(8 * sub));
                let bytes: [_; 4] = run(0);
                let fours = bytes.map(|four| L::moved::<0, 0x3f>(four));
                to.take(sub, fours, scale(sub));
                let mut shared = bytes.map(|four| L::moved::<2, 0x30>(four));
                let bytes: [_; 4] = run(1);
                let fours = bytes.map(|four| L::moved::<0, 0x3f>(four));
                to.take(sub + 1, fours, scale(sub + 1));
                for (shared, four) in shared.iter_mut().zip(bytes) {
                    *shared = L::or(*shared, L::moved::<4, 0x0c>(four));
                }
                let bytes: [_; 4] = run(2);
                let fours = bytes.map(|four| L::moved::<0, 0x3f>(four));
                to.take(sub + 2, fours, scale(sub + 2));
                for (shared, four) in shared.iter_mut().zip(bytes) {
                    *shared = L::or(*shared, L::moved::<6, 3>(four));
                }
                to.take(sub + 3, shared, scale(sub + 3));
            }
        }
    }
}

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
            let ints = Sums::<L, T, 2>::of::<Self>(weights, x);
            let below = times_sums::<L, T>(weights.add(16), x.sums_of_16);
            add_signed::<L, T, 5>(out, ints, below, weights, x.scales);
        }
    }
}
