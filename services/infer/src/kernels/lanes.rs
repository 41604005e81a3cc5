//! The vocabulary of the matrix kernels: eight rows side by side, whatever the machine's registers
//! are called. Each instruction set says these words in its own way; the kernels are written once.
//!
//! Every function here may only be called where the instruction set was found at run time, and with
//! pointers that reach as far as it says: that is what `unsafe` means for all of them.

/// The floats of two groups side by side.
pub(super) trait Wide<L: Lanes + ?Sized>: Copy {
    /// Sums that there are registers for, when several tokens meet several groups.
    const SUMS: usize;

    /// One group's and another's.
    unsafe fn of(one: L::Floats, other: L::Floats) -> Self;
    /// The same float everywhere.
    unsafe fn splat(number: f32) -> Self;
    /// one × other + more.
    unsafe fn fma(one: Self, other: Self, more: Self) -> Self;
    /// The one group's and the other's.
    unsafe fn parts(self) -> [L::Floats; 2];
}

/// Where no register is as wide.
#[derive(Clone, Copy)]
pub(super) struct Pair<F>(F, F);

impl<L: Lanes> Wide<L> for Pair<L::Floats> {
    const SUMS: usize = 6;

    #[inline(always)]
    unsafe fn of(one: L::Floats, other: L::Floats) -> Self {
        Self(one, other)
    }
    #[inline(always)]
    unsafe fn splat(number: f32) -> Self {
        // SAFETY: the caller's.
        let number = unsafe { L::splat(number) };
        Self(number, number)
    }
    #[inline(always)]
    unsafe fn fma(one: Self, other: Self, more: Self) -> Self {
        // SAFETY: the caller's.
        unsafe {
            Self(
                L::fma(one.0, other.0, more.0),
                L::fma(one.1, other.1, more.1),
            )
        }
    }
    #[inline(always)]
    unsafe fn parts(self) -> [L::Floats; 2] {
        [self.0, self.1]
    }
}

/// Eight lanes, one for each row of a group.
pub(super) trait Lanes {
    /// 32 bytes: four numbers of each row.
    type Bytes: Copy;
    /// Two 16-bit numbers of each row.
    type Shorts: Copy;
    /// Sums of products of unsigned and signed bytes, in whatever form is added fastest.
    type Sums: Copy;
    /// A 32-bit integer of each row.
    type Ints: Copy;
    /// A 32-bit float of each row.
    type Floats: Copy;
    /// The floats of two groups.
    type Wide: Wide<Self>;

    /// Whether an instruction multiplies small matrices, so that two tokens together are faster.
    const MATRIX: bool = false;

    /// 32 bytes from memory.
    unsafe fn bytes(from: *const u8) -> Self::Bytes;
    /// The same four bytes for each row.
    unsafe fn four(from: *const i8) -> Self::Bytes;
    /// The lower half of each byte.
    unsafe fn low(bytes: Self::Bytes) -> Self::Bytes;
    /// The upper half of each byte.
    unsafe fn high(bytes: Self::Bytes) -> Self::Bytes;
    /// Each byte moved `RIGHT` bits to the right (to the left if that is less than zero), and of that
    /// the bits of `MASK`, none of which comes from a neighbour.
    unsafe fn moved<const RIGHT: i32, const MASK: u8>(bytes: Self::Bytes) -> Self::Bytes;
    /// Either's bits.
    unsafe fn or(one: Self::Bytes, other: Self::Bytes) -> Self::Bytes;
    /// 32 bytes to memory.
    unsafe fn put_bytes(to: *mut u8, bytes: Self::Bytes);

    /// Nothing summed yet.
    unsafe fn no_sums() -> Self::Sums;
    /// Adds the products of unsigned weights and signed activations. Between two totals the sum of
    /// two neighbours' products must stay within 16 bits: eight times with weights below 16, twice
    /// with weights below 64.
    unsafe fn add_products(
        sums: Self::Sums,
        weights: Self::Bytes,
        activations: Self::Bytes,
    ) -> Self::Sums;
    /// Adds the products of eight columns for two tokens: the weights of four columns and of the next
    /// four (with a sign only where `MATRIX` is), and eight activations of one token and of the other.
    #[inline(always)]
    unsafe fn add_matrix(
        sums: (Self::Sums, Self::Sums),
        weights: (Self::Bytes, Self::Bytes),
        one: *const i8,
        other: *const i8,
    ) -> (Self::Sums, Self::Sums) {
        // SAFETY: the caller's.
        unsafe {
            let add = |sums, from: *const i8| {
                let sums = Self::add_products(sums, weights.0, Self::four(from));
                Self::add_products(sums, weights.1, Self::four(from.add(4)))
            };
            (add(sums.0, one), add(sums.1, other))
        }
    }
    /// The sums of the one token and of the other out of those of [`Lanes::add_matrix`].
    #[inline(always)]
    unsafe fn split(sums: (Self::Sums, Self::Sums)) -> (Self::Sums, Self::Sums) {
        sums
    }
    /// The sums of each row.
    unsafe fn total(sums: Self::Sums) -> Self::Ints;
    /// The sums of each row, times its number in `scales` (which holds it twice).
    unsafe fn total_scaled(sums: Self::Sums, scales: Self::Shorts) -> Self::Ints;

    /// Eight bytes as numbers from 0, each twice.
    unsafe fn doubled(from: *const u8) -> Self::Shorts;
    /// Eight bytes as numbers with a sign, each twice.
    unsafe fn doubled_signed(from: *const u8) -> Self::Shorts;
    /// Eight bytes from 0 beside eight others.
    unsafe fn paired(first: *const u8, second: *const u8) -> Self::Shorts;
    /// Eight bytes with a sign beside eight others.
    unsafe fn paired_signed(first: *const u8, second: *const u8) -> Self::Shorts;
    /// Adds the products of each row's two numbers with the two at `two`.
    unsafe fn add_pair_products(
        ints: Self::Ints,
        shorts: Self::Shorts,
        two: *const i16,
    ) -> Self::Ints;

    /// Zeros.
    unsafe fn no_ints() -> Self::Ints;
    /// The sum.
    unsafe fn add_ints(one: Self::Ints, other: Self::Ints) -> Self::Ints;
    /// Less the same number everywhere.
    unsafe fn less(ints: Self::Ints, number: i32) -> Self::Ints;
    /// Less the others times two to the power of `BITS`.
    unsafe fn less_times<const BITS: i32>(ints: Self::Ints, others: Self::Ints) -> Self::Ints;
    /// Adds the products of signed weights and signed activations, none of which is -128.
    unsafe fn add_signed_products(
        ints: Self::Ints,
        weights: Self::Bytes,
        activations: Self::Bytes,
    ) -> Self::Ints;

    /// As floats.
    unsafe fn floats(ints: Self::Ints) -> Self::Floats;
    /// The same float everywhere.
    unsafe fn splat(number: f32) -> Self::Floats;
    /// Eight bytes with a sign from memory, as floats.
    unsafe fn signed_bytes(from: *const i8) -> Self::Floats;
    /// Eight halves from memory.
    unsafe fn halves(from: *const u16) -> Self::Floats;
    /// Eight floats from memory that are cut to their upper 16 bits.
    unsafe fn brains(from: *const u16) -> Self::Floats;
    /// Eight floats from memory.
    unsafe fn load(from: *const f32) -> Self::Floats;
    /// Eight floats to memory.
    unsafe fn put(to: *mut f32, floats: Self::Floats);
    /// The products.
    unsafe fn mul(one: Self::Floats, other: Self::Floats) -> Self::Floats;
    /// The sums.
    unsafe fn add(one: Self::Floats, other: Self::Floats) -> Self::Floats;
    /// one × other + more.
    unsafe fn fma(one: Self::Floats, other: Self::Floats, more: Self::Floats) -> Self::Floats;
    /// The larger.
    unsafe fn max(one: Self::Floats, other: Self::Floats) -> Self::Floats;
    /// All eight together.
    unsafe fn sum(floats: Self::Floats) -> f32;
    /// Asks for the memory at an address before it is needed; the address need not exist.
    unsafe fn prefetch(at: *const u8);
}
