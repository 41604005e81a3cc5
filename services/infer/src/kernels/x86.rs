//! The lanes of x86-64: AVX2 with FMA and F16C, and the same with the dot products of VNNI and
//! AVX-512's wide floats. AMX's tiles are no lanes: see `amx`.

use std::arch::x86_64::*;

use super::lanes::{Lanes, Pair, Wide};

/// AVX2, FMA and F16C.
pub(super) struct Avx2;

/// AVX-512's dot products on 256 bits (AVX512-VNNI and AVX512-VL), and floats on 512.
pub(super) struct Avx512Vnni;

/// The dot products of processors that have no AVX-512 (AVX-VNNI).
pub(super) struct AvxVnni;

/// What all of them say alike.
macro_rules! common {
    () => {
        type Bytes = __m256i;
        type Shorts = __m256i;
        type Sums = __m256i;
        type Ints = __m256i;
        type Floats = __m256;

        #[inline(always)]
        unsafe fn bytes(from: *const u8) -> __m256i {
            // SAFETY: see the trait.
            unsafe { _mm256_loadu_si256(from.cast()) }
        }
        #[inline(always)]
        unsafe fn four(from: *const i8) -> __m256i {
            // SAFETY: see the trait.
            unsafe { _mm256_set1_epi32(from.cast::<i32>().read_unaligned()) }
        }
        #[inline(always)]
        unsafe fn low(bytes: __m256i) -> __m256i {
            // SAFETY: see the trait.
            unsafe { _mm256_and_si256(bytes, _mm256_set1_epi8(15)) }
        }
        #[inline(always)]
        unsafe fn high(bytes: __m256i) -> __m256i {
            // SAFETY: see the trait.
            unsafe { _mm256_and_si256(_mm256_srli_epi16::<4>(bytes), _mm256_set1_epi8(15)) }
        }
        #[inline(always)]
        unsafe fn moved<const RIGHT: i32, const MASK: u8>(bytes: __m256i) -> __m256i {
            const { assert!(-4 <= RIGHT && RIGHT <= 6, "bits to move by") };
            // SAFETY: see the trait.
            unsafe {
                let moved = match RIGHT {
                    -4 => _mm256_slli_epi16::<4>(bytes),
                    -3 => _mm256_slli_epi16::<3>(bytes),
                    -2 => _mm256_slli_epi16::<2>(bytes),
                    -1 => _mm256_slli_epi16::<1>(bytes),
                    0 => bytes,
                    1 => _mm256_srli_epi16::<1>(bytes),
                    2 => _mm256_srli_epi16::<2>(bytes),
                    3 => _mm256_srli_epi16::<3>(bytes),
                    4 => _mm256_srli_epi16::<4>(bytes),
                    5 => _mm256_srli_epi16::<5>(bytes),
                    _ => _mm256_srli_epi16::<6>(bytes),
                };
                _mm256_and_si256(moved, _mm256_set1_epi8(MASK as i8))
            }
        }
        #[inline(always)]
        unsafe fn or(one: __m256i, other: __m256i) -> __m256i {
            // SAFETY: see the trait.
            unsafe { _mm256_or_si256(one, other) }
        }
        #[inline(always)]
        unsafe fn put_bytes(to: *mut u8, bytes: __m256i) {
            // SAFETY: see the trait.
            unsafe { _mm256_storeu_si256(to.cast(), bytes) }
        }
        #[inline(always)]
        unsafe fn no_sums() -> __m256i {
            // SAFETY: see the trait.
            unsafe { _mm256_setzero_si256() }
        }
        #[inline(always)]
        unsafe fn doubled(from: *const u8) -> __m256i {
            // SAFETY: see the trait.
            unsafe {
                let wide = _mm256_cvtepu8_epi32(_mm_loadl_epi64(from.cast()));
                _mm256_or_si256(wide, _mm256_slli_epi32::<16>(wide))
            }
        }
        #[inline(always)]
        unsafe fn doubled_signed(from: *const u8) -> __m256i {
            // SAFETY: see the trait.
            unsafe {
                let bytes = _mm_loadl_epi64(from.cast());
                _mm256_cvtepi8_epi16(_mm_unpacklo_epi8(bytes, bytes))
            }
        }
        #[inline(always)]
        unsafe fn paired(first: *const u8, second: *const u8) -> __m256i {
            // SAFETY: see the trait.
            unsafe {
                let (first, second) = (
                    _mm_loadl_epi64(first.cast()),
                    _mm_loadl_epi64(second.cast()),
                );
                _mm256_cvtepu8_epi16(_mm_unpacklo_epi8(first, second))
            }
        }
        #[inline(always)]
        unsafe fn paired_signed(first: *const u8, second: *const u8) -> __m256i {
            // SAFETY: see the trait.
            unsafe {
                let (first, second) = (
                    _mm_loadl_epi64(first.cast()),
                    _mm_loadl_epi64(second.cast()),
                );
                _mm256_cvtepi8_epi16(_mm_unpacklo_epi8(first, second))
            }
        }
        #[inline(always)]
        unsafe fn add_pair_products(ints: __m256i, shorts: __m256i, two: *const i16) -> __m256i {
            // SAFETY: see the trait.
            unsafe {
                let two = _mm256_set1_epi32(two.cast::<i32>().read_unaligned());
                _mm256_add_epi32(ints, _mm256_madd_epi16(shorts, two))
            }
        }
        #[inline(always)]
        unsafe fn no_ints() -> __m256i {
            // SAFETY: see the trait.
            unsafe { _mm256_setzero_si256() }
        }
        #[inline(always)]
        unsafe fn add_ints(one: __m256i, other: __m256i) -> __m256i {
            // SAFETY: see the trait.
            unsafe { _mm256_add_epi32(one, other) }
        }
        #[inline(always)]
        unsafe fn less(ints: __m256i, number: i32) -> __m256i {
            // SAFETY: see the trait.
            unsafe { _mm256_sub_epi32(ints, _mm256_set1_epi32(number)) }
        }
        #[inline(always)]
        unsafe fn less_times<const BITS: i32>(ints: __m256i, others: __m256i) -> __m256i {
            // SAFETY: see the trait.
            unsafe { _mm256_sub_epi32(ints, _mm256_slli_epi32::<BITS>(others)) }
        }
        #[inline(always)]
        unsafe fn floats(ints: __m256i) -> __m256 {
            // SAFETY: see the trait.
            unsafe { _mm256_cvtepi32_ps(ints) }
        }
        #[inline(always)]
        unsafe fn splat(number: f32) -> __m256 {
            // SAFETY: see the trait.
            unsafe { _mm256_set1_ps(number) }
        }
        #[inline(always)]
        unsafe fn signed_bytes(from: *const i8) -> __m256 {
            // SAFETY: see the trait.
            unsafe { _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(from.cast()))) }
        }
        #[inline(always)]
        unsafe fn halves(from: *const u16) -> __m256 {
            // SAFETY: see the trait.
            unsafe { _mm256_cvtph_ps(_mm_loadu_si128(from.cast())) }
        }
        #[inline(always)]
        unsafe fn brains(from: *const u16) -> __m256 {
            // SAFETY: see the trait.
            unsafe {
                let wide = _mm256_cvtepu16_epi32(_mm_loadu_si128(from.cast()));
                _mm256_castsi256_ps(_mm256_slli_epi32::<16>(wide))
            }
        }
        #[inline(always)]
        unsafe fn load(from: *const f32) -> __m256 {
            // SAFETY: see the trait.
            unsafe { _mm256_loadu_ps(from) }
        }
        #[inline(always)]
        unsafe fn put(to: *mut f32, floats: __m256) {
            // SAFETY: see the trait.
            unsafe { _mm256_storeu_ps(to, floats) }
        }
        #[inline(always)]
        unsafe fn mul(one: __m256, other: __m256) -> __m256 {
            // SAFETY: see the trait.
            unsafe { _mm256_mul_ps(one, other) }
        }
        #[inline(always)]
        unsafe fn add(one: __m256, other: __m256) -> __m256 {
            // SAFETY: see the trait.
            unsafe { _mm256_add_ps(one, other) }
        }
        #[inline(always)]
        unsafe fn fma(one: __m256, other: __m256, more: __m256) -> __m256 {
            // SAFETY: see the trait.
            unsafe { _mm256_fmadd_ps(one, other, more) }
        }
        #[inline(always)]
        unsafe fn max(one: __m256, other: __m256) -> __m256 {
            // SAFETY: see the trait.
            unsafe { _mm256_max_ps(one, other) }
        }
        #[inline(always)]
        unsafe fn sum(floats: __m256) -> f32 {
            // SAFETY: see the trait.
            unsafe {
                let halves = _mm_add_ps(
                    _mm256_castps256_ps128(floats),
                    _mm256_extractf128_ps::<1>(floats),
                );
                let quarters = _mm_add_ps(halves, _mm_movehl_ps(halves, halves));
                _mm_cvtss_f32(_mm_add_ss(quarters, _mm_movehdup_ps(quarters)))
            }
        }
        #[inline(always)]
        unsafe fn prefetch(at: *const u8) {
            // SAFETY: a prefetch reads nothing that could fault.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) }
        }
    };
}

impl Lanes for Avx2 {
    common!();
    type Wide = Pair<__m256>;

    #[inline(always)]
    unsafe fn add_products(sums: __m256i, weights: __m256i, activations: __m256i) -> __m256i {
        // SAFETY: see the trait.
        unsafe { _mm256_add_epi16(sums, _mm256_maddubs_epi16(weights, activations)) }
    }
    #[inline(always)]
    unsafe fn total(sums: __m256i) -> __m256i {
        // SAFETY: see the trait.
        unsafe { _mm256_madd_epi16(sums, _mm256_set1_epi16(1)) }
    }
    #[inline(always)]
    unsafe fn total_scaled(sums: __m256i, scales: __m256i) -> __m256i {
        // SAFETY: see the trait.
        unsafe { _mm256_madd_epi16(sums, scales) }
    }
    #[inline(always)]
    unsafe fn add_signed_products(
        ints: __m256i,
        weights: __m256i,
        activations: __m256i,
    ) -> __m256i {
        // SAFETY: see the trait.
        unsafe {
            let products = _mm256_maddubs_epi16(
                _mm256_abs_epi8(weights),
                _mm256_sign_epi8(activations, weights),
            );
            _mm256_add_epi32(ints, _mm256_madd_epi16(products, _mm256_set1_epi16(1)))
        }
    }
}

macro_rules! vnni {
    ($name:ident, $dot:ident, $wide:ty) => {
        impl Lanes for $name {
            common!();
            type Wide = $wide;

            #[inline(always)]
            unsafe fn add_products(
                sums: __m256i,
                weights: __m256i,
                activations: __m256i,
            ) -> __m256i {
                // SAFETY: see the trait.
                unsafe { $dot(sums, weights, activations) }
            }
            #[inline(always)]
            unsafe fn total(sums: __m256i) -> __m256i {
                sums
            }
            #[inline(always)]
            unsafe fn total_scaled(sums: __m256i, scales: __m256i) -> __m256i {
                // SAFETY: see the trait.
                unsafe { _mm256_mullo_epi32(sums, _mm256_srai_epi32::<16>(scales)) }
            }
            #[inline(always)]
            unsafe fn add_signed_products(
                ints: __m256i,
                weights: __m256i,
                activations: __m256i,
            ) -> __m256i {
                // SAFETY: see the trait.
                unsafe {
                    $dot(
                        ints,
                        _mm256_abs_epi8(weights),
                        _mm256_sign_epi8(activations, weights),
                    )
                }
            }
        }
    };
}

vnni!(Avx512Vnni, _mm256_dpbusd_epi32, __m512);
vnni!(AvxVnni, _mm256_dpbusd_avx_epi32, Pair<__m256>);

impl Wide<Avx512Vnni> for __m512 {
    const SUMS: usize = 12;

    #[inline(always)]
    unsafe fn of(one: __m256, other: __m256) -> __m512 {
        // SAFETY: see the trait. By doubles, as the same by floats is of AVX-512DQ.
        unsafe {
            let (one, other) = (_mm256_castps_pd(one), _mm256_castps_pd(other));
            _mm512_castpd_ps(_mm512_insertf64x4::<1>(_mm512_castpd256_pd512(one), other))
        }
    }
    #[inline(always)]
    unsafe fn splat(number: f32) -> __m512 {
        // SAFETY: see the trait.
        unsafe { _mm512_set1_ps(number) }
    }
    #[inline(always)]
    unsafe fn fma(one: __m512, other: __m512, more: __m512) -> __m512 {
        // SAFETY: see the trait.
        unsafe { _mm512_fmadd_ps(one, other, more) }
    }
    #[inline(always)]
    unsafe fn parts(self) -> [__m256; 2] {
        // SAFETY: see the trait.
        unsafe {
            let upper = _mm512_extractf64x4_pd::<1>(_mm512_castps_pd(self));
            [_mm512_castps512_ps256(self), _mm256_castpd_ps(upper)]
        }
    }
}
