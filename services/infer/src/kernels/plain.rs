//! The lanes of any machine, in plain Rust: what the others are tested against.

use super::lanes::{Lanes, Pair};

/// No instruction set in particular.
pub(super) struct Plain;

fn each<T: Copy, U>(values: [T; 8], act: impl Fn(T) -> U) -> [U; 8] {
    values.map(act)
}

fn both<T: Copy, U: Copy, V: Default + Copy>(
    one: [T; 8],
    other: [U; 8],
    act: impl Fn(T, U) -> V,
) -> [V; 8] {
    let mut out = [V::default(); 8];
    for (out, (&one, &other)) in out.iter_mut().zip(one.iter().zip(&other)) {
        *out = act(one, other);
    }
    out
}

impl Lanes for Plain {
    type Bytes = [u8; 32];
    type Shorts = [[i16; 2]; 8];
    type Sums = [i32; 8];
    type Ints = [i32; 8];
    type Floats = [f32; 8];
    type Wide = Pair<[f32; 8]>;

    #[inline(always)]
    unsafe fn bytes(from: *const u8) -> [u8; 32] {
        // SAFETY: the caller's pointer reaches 32 bytes.
        unsafe { from.cast::<[u8; 32]>().read_unaligned() }
    }

    #[inline(always)]
    unsafe fn four(from: *const i8) -> [u8; 32] {
        // SAFETY: the caller's pointer reaches four bytes.
        let four = unsafe { from.cast::<[u8; 4]>().read_unaligned() };
        std::array::from_fn(|index| four[index % 4])
    }

    #[inline(always)]
    unsafe fn low(bytes: [u8; 32]) -> [u8; 32] {
        bytes.map(|byte| byte & 15)
    }

    #[inline(always)]
    unsafe fn high(bytes: [u8; 32]) -> [u8; 32] {
        bytes.map(|byte| byte >> 4)
    }

    #[inline(always)]
    unsafe fn moved<const RIGHT: i32, const MASK: u8>(bytes: [u8; 32]) -> [u8; 32] {
        bytes.map(|byte| {
            MASK & if RIGHT < 0 {
                byte << -RIGHT
            } else {
                byte >> RIGHT
            }
        })
    }

    #[inline(always)]
    unsafe fn or(one: [u8; 32], other: [u8; 32]) -> [u8; 32] {
        std::array::from_fn(|index| one[index] | other[index])
    }

    #[inline(always)]
    unsafe fn put_bytes(to: *mut u8, bytes: [u8; 32]) {
        // SAFETY: the caller's pointer reaches 32 bytes.
        unsafe { to.cast::<[u8; 32]>().write_unaligned(bytes) }
    }

    #[inline(always)]
    unsafe fn no_sums() -> [i32; 8] {
        [0; 8]
    }

    #[inline(always)]
    unsafe fn add_products(sums: [i32; 8], weights: [u8; 32], activations: [u8; 32]) -> [i32; 8] {
        let product =
            |index: usize| i32::from(weights[index]) * i32::from(activations[index] as i8);
        std::array::from_fn(|row| {
            sums[row] + (0..4).map(|place| product(4 * row + place)).sum::<i32>()
        })
    }

    #[inline(always)]
    unsafe fn total(sums: [i32; 8]) -> [i32; 8] {
        sums
    }

    #[inline(always)]
    unsafe fn total_scaled(sums: [i32; 8], scales: [[i16; 2]; 8]) -> [i32; 8] {
        both(sums, scales, |sum, scale| sum * i32::from(scale[0]))
    }

    #[inline(always)]
    unsafe fn doubled(from: *const u8) -> [[i16; 2]; 8] {
        // SAFETY: the caller's pointer reaches eight bytes.
        each(unsafe { from.cast::<[u8; 8]>().read_unaligned() }, |byte| {
            [byte.into(); 2]
        })
    }

    #[inline(always)]
    unsafe fn doubled_signed(from: *const u8) -> [[i16; 2]; 8] {
        // SAFETY: the caller's pointer reaches eight bytes.
        each(unsafe { from.cast::<[i8; 8]>().read_unaligned() }, |byte| {
            [byte.into(); 2]
        })
    }

    #[inline(always)]
    unsafe fn paired(first: *const u8, second: *const u8) -> [[i16; 2]; 8] {
        // SAFETY: the caller's pointers reach eight bytes.
        let (first, second) = unsafe {
            (
                first.cast::<[u8; 8]>().read_unaligned(),
                second.cast::<[u8; 8]>().read_unaligned(),
            )
        };
        both(first, second, |first, second| [first.into(), second.into()])
    }

    #[inline(always)]
    unsafe fn paired_signed(first: *const u8, second: *const u8) -> [[i16; 2]; 8] {
        // SAFETY: the caller's pointers reach eight bytes.
        let (first, second) = unsafe {
            (
                first.cast::<[i8; 8]>().read_unaligned(),
                second.cast::<[i8; 8]>().read_unaligned(),
            )
        };
        both(first, second, |first, second| [first.into(), second.into()])
    }

    #[inline(always)]
    unsafe fn add_pair_products(
        ints: [i32; 8],
        shorts: [[i16; 2]; 8],
        two: *const i16,
    ) -> [i32; 8] {
        // SAFETY: the caller's pointer reaches two numbers.
        let [first, second] = unsafe { two.cast::<[i16; 2]>().read_unaligned() };
        both(ints, shorts, |sum, pair| {
            sum + i32::from(pair[0]) * i32::from(first) + i32::from(pair[1]) * i32::from(second)
        })
    }

    #[inline(always)]
    unsafe fn no_ints() -> [i32; 8] {
        [0; 8]
    }

    #[inline(always)]
    unsafe fn add_ints(one: [i32; 8], other: [i32; 8]) -> [i32; 8] {
        both(one, other, |one, other| one.wrapping_add(other))
    }

    #[inline(always)]
    unsafe fn less(ints: [i32; 8], number: i32) -> [i32; 8] {
        each(ints, |int| int.wrapping_sub(number))
    }

    #[inline(always)]
    unsafe fn less_times<const BITS: i32>(ints: [i32; 8], others: [i32; 8]) -> [i32; 8] {
        both(ints, others, |int, other| int.wrapping_sub(other << BITS))
    }

    #[inline(always)]
    unsafe fn add_signed_products(
        ints: [i32; 8],
        weights: [u8; 32],
        activations: [u8; 32],
    ) -> [i32; 8] {
        let product =
            |index: usize| i32::from(weights[index] as i8) * i32::from(activations[index] as i8);
        std::array::from_fn(|row| {
            ints[row] + (0..4).map(|place| product(4 * row + place)).sum::<i32>()
        })
    }

    #[inline(always)]
    unsafe fn floats(ints: [i32; 8]) -> [f32; 8] {
        each(ints, |int| int as f32)
    }

    #[inline(always)]
    unsafe fn splat(number: f32) -> [f32; 8] {
        [number; 8]
    }

    #[inline(always)]
    unsafe fn signed_bytes(from: *const i8) -> [f32; 8] {
        // SAFETY: the caller's pointer reaches eight bytes.
        each(
            unsafe { from.cast::<[i8; 8]>().read_unaligned() },
            f32::from,
        )
    }

    #[inline(always)]
    unsafe fn halves(from: *const u16) -> [f32; 8] {
        // SAFETY: the caller's pointer reaches eight halves.
        each(
            unsafe { from.cast::<[u16; 8]>().read_unaligned() },
            |bits| half::f16::from_bits(bits).to_f32_const(),
        )
    }

    #[inline(always)]
    unsafe fn brains(from: *const u16) -> [f32; 8] {
        // SAFETY: the caller's pointer reaches eight numbers.
        each(
            unsafe { from.cast::<[u16; 8]>().read_unaligned() },
            |bits| f32::from_bits(u32::from(bits) << 16),
        )
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> [f32; 8] {
        // SAFETY: the caller's pointer reaches eight floats.
        unsafe { from.cast::<[f32; 8]>().read_unaligned() }
    }

    #[inline(always)]
    unsafe fn put(to: *mut f32, floats: [f32; 8]) {
        // SAFETY: the caller's pointer reaches eight floats.
        unsafe { to.cast::<[f32; 8]>().write_unaligned(floats) }
    }

    #[inline(always)]
    unsafe fn mul(one: [f32; 8], other: [f32; 8]) -> [f32; 8] {
        both(one, other, |one, other| one * other)
    }

    #[inline(always)]
    unsafe fn add(one: [f32; 8], other: [f32; 8]) -> [f32; 8] {
        both(one, other, |one, other| one + other)
    }

    #[inline(always)]
    unsafe fn fma(one: [f32; 8], other: [f32; 8], more: [f32; 8]) -> [f32; 8] {
        // Not `mul_add`, which is a library call where there is no such instruction.
        std::array::from_fn(|row| one[row] * other[row] + more[row])
    }

    #[inline(always)]
    unsafe fn max(one: [f32; 8], other: [f32; 8]) -> [f32; 8] {
        both(one, other, f32::max)
    }

    #[inline(always)]
    unsafe fn sum(floats: [f32; 8]) -> f32 {
        floats.iter().sum()
    }

    #[inline(always)]
    unsafe fn prefetch(_: *const u8) {}
}
