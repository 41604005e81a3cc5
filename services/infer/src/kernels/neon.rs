//! The lanes of 64-bit ARM: NEON, which every one has, and NEON with its dot products.

use std::arch::aarch64::*;
use std::arch::asm;

use super::lanes::{Lanes, Pair};

/// What every ARMv8 has.
pub(super) struct Neon;

/// The dot products of ARMv8.2 (`asimddp`).
pub(super) struct NeonDot;

/// The matrix products of ARMv8.6 (`i8mm`), and the dot products.
pub(super) struct NeonMatrix;

type Two<T> = (T, T);

/// acc + two rows' eight weights times two tokens' eight activations, with `smmla`.
#[inline(always)]
unsafe fn matrix(acc: int32x4_t, weights: int8x16_t, activations: int8x16_t) -> int32x4_t {
    let mut out = acc;
    // SAFETY: the caller found the instruction; it touches registers only.
    unsafe {
        asm!(
            ".arch_extension i8mm",
            "smmla {out:v}.4s, {weights:v}.16b, {activations:v}.16b",
            out = inout(vreg) out,
            weights = in(vreg) weights,
            activations = in(vreg) activations,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    out
}

/// acc + the products of four neighbours each, with `sdot`.
#[inline(always)]
unsafe fn dot(acc: int32x4_t, weights: int8x16_t, activations: int8x16_t) -> int32x4_t {
    let mut out = acc;
    // SAFETY: the caller found the instruction; it touches registers only.
    unsafe {
        asm!(
            ".arch_extension dotprod",
            "sdot {out:v}.4s, {weights:v}.16b, {activations:v}.16b",
            out = inout(vreg) out,
            weights = in(vreg) weights,
            activations = in(vreg) activations,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    out
}

/// The same in what every ARMv8 has. Two products stay within 16 bits.
#[inline(always)]
unsafe fn multiplied(acc: int32x4_t, weights: int8x16_t, activations: int8x16_t) -> int32x4_t {
    // SAFETY: NEON is part of the architecture.
    unsafe {
        let lower = vmull_s8(vget_low_s8(weights), vget_low_s8(activations));
        let upper = vmull_high_s8(weights, activations);
        vpadalq_s16(acc, vpaddq_s16(lower, upper))
    }
}

/// Four halves as floats.
#[inline(always)]
unsafe fn widened(halves: uint16x4_t) -> float32x4_t {
    let out: float32x4_t;
    // SAFETY: the instruction is part of the architecture and touches registers only.
    unsafe {
        asm!(
            "fcvtl {out:v}.4s, {halves:v}.4h",
            out = out(vreg) out,
            halves = in(vreg) halves,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    out
}

macro_rules! lanes {
    ($name:ident, $dot:ident $(, $matrix:item)*) => {
        impl Lanes for $name {
            type Bytes = Two<uint8x16_t>;
            type Shorts = Two<int16x8_t>;
            type Sums = Two<int32x4_t>;
            type Ints = Two<int32x4_t>;
            type Floats = Two<float32x4_t>;
            type Wide = Pair<Two<float32x4_t>>;

            $($matrix)*

            #[inline(always)]
            unsafe fn bytes(from: *const u8) -> Self::Bytes {
                // SAFETY: see the trait.
                unsafe { (vld1q_u8(from), vld1q_u8(from.add(16))) }
            }
            #[inline(always)]
            unsafe fn four(from: *const i8) -> Self::Bytes {
                // SAFETY: see the trait.
                unsafe {
                    let four = vreinterpretq_u8_u32(vdupq_n_u32(from.cast::<u32>().read_unaligned()));
                    (four, four)
                }
            }
            #[inline(always)]
            unsafe fn low(bytes: Self::Bytes) -> Self::Bytes {
                // SAFETY: see the trait.
                unsafe {
                    let mask = vdupq_n_u8(15);
                    (vandq_u8(bytes.0, mask), vandq_u8(bytes.1, mask))
                }
            }
            #[inline(always)]
            unsafe fn high(bytes: Self::Bytes) -> Self::Bytes {
                // SAFETY: see the trait.
                unsafe { (vshrq_n_u8::<4>(bytes.0), vshrq_n_u8::<4>(bytes.1)) }
            }
            #[inline(always)]
            unsafe fn moved<const RIGHT: i32, const MASK: u8>(bytes: Self::Bytes) -> Self::Bytes {
                // SAFETY: see the trait; a negative count shifts to the right.
                unsafe {
                    let (count, mask) = (vdupq_n_s8(-RIGHT as i8), vdupq_n_u8(MASK));
                    (
                        vandq_u8(vshlq_u8(bytes.0, count), mask),
                        vandq_u8(vshlq_u8(bytes.1, count), mask),
                    )
                }
            }
            #[inline(always)]
            unsafe fn or(one: Self::Bytes, other: Self::Bytes) -> Self::Bytes {
                // SAFETY: see the trait.
                unsafe { (vorrq_u8(one.0, other.0), vorrq_u8(one.1, other.1)) }
            }
            #[inline(always)]
            unsafe fn put_bytes(to: *mut u8, bytes: Self::Bytes) {
                // SAFETY: see the trait.
                unsafe {
                    vst1q_u8(to, bytes.0);
                    vst1q_u8(to.add(16), bytes.1);
                }
            }
            #[inline(always)]
            unsafe fn no_sums() -> Self::Sums {
                // SAFETY: see the trait.
                unsafe { (vdupq_n_s32(0), vdupq_n_s32(0)) }
            }
            #[inline(always)]
            unsafe fn add_products(
                sums: Self::Sums,
                weights: Self::Bytes,
                activations: Self::Bytes,
            ) -> Self::Sums {
                // SAFETY: see the trait; weights below 128 are the same with a sign.
                unsafe { Self::add_signed_products(sums, weights, activations) }
            }
            #[inline(always)]
            unsafe fn total(sums: Self::Sums) -> Self::Ints {
                sums
            }
            #[inline(always)]
            unsafe fn total_scaled(sums: Self::Sums, scales: Self::Shorts) -> Self::Ints {
                // SAFETY: see the trait; each scale stands there twice, its upper half is one.
                unsafe {
                    let scale = |pairs| vshrq_n_s32::<16>(vreinterpretq_s32_s16(pairs));
                    (
                        vmulq_s32(sums.0, scale(scales.0)),
                        vmulq_s32(sums.1, scale(scales.1)),
                    )
                }
            }
            #[inline(always)]
            unsafe fn doubled(from: *const u8) -> Self::Shorts {
                // SAFETY: see the trait.
                unsafe { Self::paired(from, from) }
            }
            #[inline(always)]
            unsafe fn doubled_signed(from: *const u8) -> Self::Shorts {
                // SAFETY: see the trait.
                unsafe { Self::paired_signed(from, from) }
            }
            #[inline(always)]
            unsafe fn paired(first: *const u8, second: *const u8) -> Self::Shorts {
                // SAFETY: see the trait.
                unsafe {
                    let first = vreinterpretq_s16_u16(vmovl_u8(vld1_u8(first)));
                    let second = vreinterpretq_s16_u16(vmovl_u8(vld1_u8(second)));
                    (vzip1q_s16(first, second), vzip2q_s16(first, second))
                }
            }
            #[inline(always)]
            unsafe fn paired_signed(first: *const u8, second: *const u8) -> Self::Shorts {
                // SAFETY: see the trait.
                unsafe {
                    let first = vmovl_s8(vld1_s8(first.cast()));
                    let second = vmovl_s8(vld1_s8(second.cast()));
                    (vzip1q_s16(first, second), vzip2q_s16(first, second))
                }
            }
            #[inline(always)]
            unsafe fn add_pair_products(
                ints: Self::Ints,
                shorts: Self::Shorts,
                two: *const i16,
            ) -> Self::Ints {
                // SAFETY: see the trait.
                unsafe {
                    let two = vreinterpretq_s16_s32(vdupq_n_s32(two.cast::<i32>().read_unaligned()));
                    let add = |sum, pairs| {
                        let lower = vmull_s16(vget_low_s16(pairs), vget_low_s16(two));
                        let upper = vmull_high_s16(pairs, two);
                        vaddq_s32(sum, vpaddq_s32(lower, upper))
                    };
                    (add(ints.0, shorts.0), add(ints.1, shorts.1))
                }
            }
            #[inline(always)]
            unsafe fn no_ints() -> Self::Ints {
                // SAFETY: see the trait.
                unsafe { (vdupq_n_s32(0), vdupq_n_s32(0)) }
            }
            #[inline(always)]
            unsafe fn add_ints(one: Self::Ints, other: Self::Ints) -> Self::Ints {
                // SAFETY: see the trait.
                unsafe { (vaddq_s32(one.0, other.0), vaddq_s32(one.1, other.1)) }
            }
            #[inline(always)]
            unsafe fn less(ints: Self::Ints, number: i32) -> Self::Ints {
                // SAFETY: see the trait.
                unsafe {
                    let number = vdupq_n_s32(number);
                    (vsubq_s32(ints.0, number), vsubq_s32(ints.1, number))
                }
            }
            #[inline(always)]
            unsafe fn less_times<const BITS: i32>(
                ints: Self::Ints,
                others: Self::Ints,
            ) -> Self::Ints {
                let by = -(1 << BITS);
                // SAFETY: see the trait.
                unsafe {
                    (
                        vmlaq_n_s32(ints.0, others.0, by),
                        vmlaq_n_s32(ints.1, others.1, by),
                    )
                }
            }
            #[inline(always)]
            unsafe fn add_signed_products(
                ints: Self::Ints,
                weights: Self::Bytes,
                activations: Self::Bytes,
            ) -> Self::Ints {
                // SAFETY: see the trait.
                unsafe {
                    let signed = |bytes| vreinterpretq_s8_u8(bytes);
                    (
                        $dot(ints.0, signed(weights.0), signed(activations.0)),
                        $dot(ints.1, signed(weights.1), signed(activations.1)),
                    )
                }
            }
            #[inline(always)]
            unsafe fn floats(ints: Self::Ints) -> Self::Floats {
                // SAFETY: see the trait.
                unsafe { (vcvtq_f32_s32(ints.0), vcvtq_f32_s32(ints.1)) }
            }
            #[inline(always)]
            unsafe fn splat(number: f32) -> Self::Floats {
                // SAFETY: see the trait.
                unsafe { (vdupq_n_f32(number), vdupq_n_f32(number)) }
            }
            #[inline(always)]
            unsafe fn signed_bytes(from: *const i8) -> Self::Floats {
                // SAFETY: see the trait.
                unsafe {
                    let wide = vmovl_s8(vld1_s8(from));
                    (
                        vcvtq_f32_s32(vmovl_s16(vget_low_s16(wide))),
                        vcvtq_f32_s32(vmovl_s16(vget_high_s16(wide))),
                    )
                }
            }
            #[inline(always)]
            unsafe fn halves(from: *const u16) -> Self::Floats {
                // SAFETY: see the trait.
                unsafe { (widened(vld1_u16(from)), widened(vld1_u16(from.add(4)))) }
            }
            #[inline(always)]
            unsafe fn brains(from: *const u16) -> Self::Floats {
                // SAFETY: see the trait.
                unsafe {
                    let wide = |four| vreinterpretq_f32_u32(vshll_n_u16::<16>(four));
                    (wide(vld1_u16(from)), wide(vld1_u16(from.add(4))))
                }
            }
            #[inline(always)]
            unsafe fn load(from: *const f32) -> Self::Floats {
                // SAFETY: see the trait.
                unsafe { (vld1q_f32(from), vld1q_f32(from.add(4))) }
            }
            #[inline(always)]
            unsafe fn put(to: *mut f32, floats: Self::Floats) {
                // SAFETY: see the trait.
                unsafe {
                    vst1q_f32(to, floats.0);
                    vst1q_f32(to.add(4), floats.1);
                }
            }
            #[inline(always)]
            unsafe fn mul(one: Self::Floats, other: Self::Floats) -> Self::Floats {
                // SAFETY: see the trait.
                unsafe { (vmulq_f32(one.0, other.0), vmulq_f32(one.1, other.1)) }
            }
            #[inline(always)]
            unsafe fn add(one: Self::Floats, other: Self::Floats) -> Self::Floats {
                // SAFETY: see the trait.
                unsafe { (vaddq_f32(one.0, other.0), vaddq_f32(one.1, other.1)) }
            }
            #[inline(always)]
            unsafe fn fma(
                one: Self::Floats,
                other: Self::Floats,
                more: Self::Floats,
            ) -> Self::Floats {
                // SAFETY: see the trait.
                unsafe {
                    (
                        vfmaq_f32(more.0, one.0, other.0),
                        vfmaq_f32(more.1, one.1, other.1),
                    )
                }
            }
            #[inline(always)]
            unsafe fn max(one: Self::Floats, other: Self::Floats) -> Self::Floats {
                // SAFETY: see the trait.
                unsafe { (vmaxq_f32(one.0, other.0), vmaxq_f32(one.1, other.1)) }
            }
            #[inline(always)]
            unsafe fn sum(floats: Self::Floats) -> f32 {
                // SAFETY: see the trait.
                unsafe { vaddvq_f32(vaddq_f32(floats.0, floats.1)) }
            }
            #[inline(always)]
            unsafe fn prefetch(at: *const u8) {
                // SAFETY: a prefetch reads nothing that could fault.
                unsafe {
                    asm!("prfm pldl1keep, [{at}]", at = in(reg) at, options(nostack, preserves_flags));
                }
            }
        }
    };
}

lanes!(Neon, multiplied);
lanes!(NeonDot, dot);
lanes!(
    NeonMatrix,
    dot,
    const MATRIX: bool = true;,
    // Of each pair of rows the first one's two tokens, then the second's: rows 0 to 3, and 4 to 7.
    #[inline(always)]
    unsafe fn add_matrix(
        sums: (Self::Sums, Self::Sums),
        (first, second): (Self::Bytes, Self::Bytes),
        one: *const i8,
        other: *const i8,
    ) -> (Self::Sums, Self::Sums) {
        // SAFETY: see the trait.
        unsafe {
            let activations = vcombine_s8(vld1_s8(one), vld1_s8(other));
            let add = |sums: Two<int32x4_t>, first, second| {
                let (first, second) = (vreinterpretq_u32_u8(first), vreinterpretq_u32_u8(second));
                let rows = |words| vreinterpretq_s8_u32(words);
                (
                    matrix(sums.0, rows(vzip1q_u32(first, second)), activations),
                    matrix(sums.1, rows(vzip2q_u32(first, second)), activations),
                )
            };
            (
                add(sums.0, first.0, second.0),
                add(sums.1, first.1, second.1),
            )
        }
    },
    #[inline(always)]
    unsafe fn split(sums: (Self::Sums, Self::Sums)) -> (Self::Sums, Self::Sums) {
        // SAFETY: see the trait.
        unsafe {
            let (lower, upper) = sums;
            (
                (vuzp1q_s32(lower.0, lower.1), vuzp1q_s32(upper.0, upper.1)),
                (vuzp2q_s32(lower.0, lower.1), vuzp2q_s32(upper.0, upper.1)),
            )
        }
    }
);
