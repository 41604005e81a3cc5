//! The inner loops: eight rows of weights times a few tokens' activations. What is here goes through
//! the rows and multiplies numbers; how blocks multiply is in `blocks` and `super_blocks`.

use super::activations::{Activations, Grain, Tokens, tile_width, widest};
use super::lanes::{Lanes, Wide};

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
    /// How activations must be, and with that a block's columns.
    const GRAIN: Grain;
    /// Bytes of eight rows' blocks.
    const BYTES: usize;

    /// Adds the products of eight rows' blocks with `T` tokens, of which `x` begins at the block.
    ///
    /// # Safety
    /// As [`Lanes`] says; `weights` are [`Self::BYTES`].
    unsafe fn block<L: Lanes, const T: usize>(
        weights: *const u8,
        x: Tokens,
        out: &mut [L::Floats; T],
    );
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
                token += match tile_width(F::GRAIN, left) {
                    6 if const { widest(F::GRAIN) == 6 } => {
                        some::<L, F, 6>(work, group, weights, token)
                    }
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
        let x = work.activations.tile(token);
        let mut sums = [L::splat(0.0); T];
        // A row of activations is as long as the group's.
        for block in 0..work.activations.columns() / F::GRAIN.columns() {
            let weights = weights.add(block * F::BYTES);
            F::block::<L, T>(weights, x.at(F::GRAIN, T * block), &mut sums);
        }
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

/// The sums of products of `4 * S` columns, two tokens at a time: for machines with
/// [`Lanes::MATRIX`], where `T` is even. Tokens lie `apart` bytes from each other.
#[inline(always)]
pub(super) unsafe fn by_pairs<L: Lanes, const T: usize, const S: usize>(
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
                12.. if const { L::Wide::SUMS == 12 } => some_numbers::<L, N, 12>(work, token),
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
            if T < 4 || L::Wide::SUMS >= 12 {
                while group + 4 <= self.count {
                    self.wide::<L, 2, T>(group, x, columns, &mut put);
                    group += 4;
                }
            }
            while group + 2 <= self.count {
                self.wide::<L, 1, T>(group, x, columns, &mut put);
                group += 2;
            }
            if group < self.count {
                self.one::<L, T>(group, x, columns, &mut put);
            }
        }
    }

    /// Twice `W` groups.
    #[inline(always)]
    unsafe fn wide<L: Lanes, const W: usize, const T: usize>(
        &self,
        group: usize,
        x: [*const f32; T],
        columns: usize,
        put: &mut impl FnMut(usize, usize, L::Floats),
    ) {
        // SAFETY: the caller's.
        unsafe {
            let weights = |index: usize| self.first.add((group + index) * self.stride);
            let weights: [_; W] =
                std::array::from_fn(|index| (weights(2 * index), weights(2 * index + 1)));
            let mut sums = [[L::Wide::splat(0.0); T]; W];
            for column in 0..columns {
                let wides: [_; W] = std::array::from_fn(|index| {
                    let (one, other) = weights[index];
                    let eight = |from: *const N| N::eight::<L>(from.add(8 * column));
                    L::Wide::of(eight(one), eight(other))
                });
                for (index, x) in x.iter().enumerate() {
                    let x = L::Wide::splat(*x.add(column));
                    for (sums, wide) in sums.iter_mut().zip(wides) {
                        sums[index] = L::Wide::fma(wide, x, sums[index]);
                    }
                }
            }
            for (place, sums) in sums.into_iter().enumerate() {
                for (index, sums) in sums.into_iter().enumerate() {
                    let [one, other] = sums.parts();
                    put(group + 2 * place, index, one);
                    put(group + 2 * place + 1, index, other);
                }
            }
        }
    }

    /// One group.
    #[inline(always)]
    unsafe fn one<L: Lanes, const T: usize>(
        &self,
        group: usize,
        x: [*const f32; T],
        columns: usize,
        put: &mut impl FnMut(usize, usize, L::Floats),
    ) {
        // SAFETY: the caller's.
        unsafe {
            let weights = self.first.add(group * self.stride);
            let mut sums = [L::splat(0.0); T];
            for column in 0..columns {
                let eight = N::eight::<L>(weights.add(8 * column));
                for (sums, x) in sums.iter_mut().zip(&x) {
                    *sums = L::fma(eight, L::splat(*x.add(column)), *sums);
                }
            }
            for (index, sums) in sums.into_iter().enumerate() {
                put(group, index, sums);
            }
        }
    }
}
