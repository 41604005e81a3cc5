//! Matrix tiles (AMX): sixteen rows of weights times sixteen tokens in one instruction.
//!
//! Weights are unpacked into bytes once for all tokens of a panel, in the order in which groups hold
//! them already. Of blocks of 256 each number is multiplied with its sub-block's scale before, and
//! split into two bytes: so a whole block is one sum. What comes out are the same integers that
//! the other sets make, and floats are summed in the same order, so that a token's result does not
//! depend on how many others it came with.

use std::arch::asm;
use std::arch::x86_64::*;
use std::mem::MaybeUninit;
use std::sync::OnceLock;

use super::activations::{Grain, PANEL, TILE, TILE_COLUMNS, Tokens};
use super::blocks::Of32;
use super::lanes::Lanes;
use super::super_blocks::{Of256, SubBlocks};
use super::tiles::Work;
use super::x86::Avx512Vnni;

/// Rows of a tile: two groups.
const ROWS: usize = 16;

/// Blocks whose sums are on their way: what the unit stores can be read only long after.
const AHEAD: usize = 4;

/// Tokens of a panel at most.
const MOST: usize = 512;

/// Tokens of so many columns whose bytes stay near while all rows meet them: up to 1 MiB, of a cache of 2.
pub(super) fn panel(columns: usize) -> usize {
    ((1 << 20) / columns.max(1)).clamp(PANEL, MOST) / TILE * TILE
}

/// Whether this machine has tiles and the system lets this process use them, for which it is asked.
pub(super) fn found() -> bool {
    /// What `arch_prctl` calls asking for a part of the processor's state, and that part.
    const ARCH_REQ_XCOMP_PERM: libc::c_long = 0x1023;
    const XFEATURE_XTILEDATA: libc::c_long = 18;
    static FOUND: OnceLock<bool> = OnceLock::new();
    *FOUND.get_or_init(|| {
        let (tiles, bytes) = (1 << 24, 1 << 25);
        let leaf = __cpuid_count(7, 0);
        if __cpuid(0).eax < 7 || leaf.edx & tiles == 0 || leaf.edx & bytes == 0 {
            return false;
        }
        // SAFETY: it changes only what this process may use.
        unsafe {
            libc::syscall(
                libc::SYS_arch_prctl,
                ARCH_REQ_XCOMP_PERM,
                XFEATURE_XTILEDATA,
            ) == 0
        }
    })
}

/// How the tile registers are cut: rows, and bytes of each row.
#[repr(C, align(64))]
struct Configuration {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    bytes: [u16; 16],
    rows: [u8; 16],
}

/// How they are cut here, from [`run`]'s beginning to its end. The compiler has no use for them, so that
/// they keep what one piece of assembly leaves for the next: 0 and 1 hold sums, 2 tokens of 64 columns and 3 and 4 weights of as many; 5 holds tokens of
/// 32 columns, and 6 weights.
static CONFIGURATION: Configuration = Configuration {
    palette: 1,
    start_row: 0,
    reserved: [0; 14],
    bytes: [64, 64, 64, 64, 64, 32, 64, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    rows: [16, 16, 16, 16, 16, 16, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0],
};

/// Sums of sixteen tokens with sixteen rows.
#[repr(align(64))]
pub(super) struct Ints([i32; TILE * ROWS]);

impl Ints {
    /// A token's.
    #[inline(always)]
    unsafe fn of(&self, token: usize) -> __m512i {
        // SAFETY: sixteen numbers.
        unsafe { _mm512_load_si512(self.0[ROWS * token..].as_ptr().cast()) }
    }
}

/// Up to [`TILE_COLUMNS`] of two groups' blocks, unpacked.
pub(super) trait Blocks {
    /// How activations must be.
    const GRAIN: Grain;
    /// Bytes of eight rows' blocks.
    const BYTES: usize;

    /// Room for them.
    fn new() -> Self;

    /// Unpacks so many blocks of two groups.
    ///
    /// # Safety
    /// The machine has tiles; both have so many blocks, which are at most [`TILE_COLUMNS`].
    unsafe fn unpack(&mut self, groups: [*const u8; 2], blocks: usize);

    /// Adds the products with a tile of tokens to `sums`, which are sixteen floats of each.
    ///
    /// # Safety
    /// The machine has tiles, which are configured; tokens have as many blocks.
    unsafe fn add_products(&self, x: Tokens, ints: &mut [Ints; AHEAD], sums: *mut f32);
}

/// Computes `work`, whose tokens are whole tiles.
///
/// # Safety
/// The machine has tiles; otherwise as `tiles::run` says.
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vnni")]
pub(super) unsafe fn run<B: Blocks>(work: &Work<'_>) {
    let count = work.activations.columns() / B::GRAIN.columns();
    let at_once = TILE_COLUMNS / B::GRAIN.columns();
    let mut blocks = B::new();
    let mut ints = [const { Ints([0; TILE * ROWS]) }; AHEAD];
    let mut sums = [const { MaybeUninit::<[f32; ROWS]>::uninit() }; MOST];
    let sums = &mut sums[..work.tokens.len()];
    let all = work.activations.tile(work.tokens.start);
    // SAFETY: the caller's.
    unsafe {
        asm!("ldtilecfg [{}]", in(reg) &raw const CONFIGURATION, options(nostack, readonly));
        for group in work.groups.clone().step_by(2) {
            let second = (group + 1).min(work.groups.end - 1);
            let first = [group, second].map(|group| work.weights.add(group * work.group_bytes));
            sums.fill(MaybeUninit::new([0.0; ROWS]));
            for block in (0..count).step_by(at_once) {
                let weights = first.map(|weights| weights.add(block * B::BYTES));
                let together = at_once.min(count - block);
                blocks.unpack(weights, together);
                let x = all.at(B::GRAIN, work.tokens.len() * block);
                let last = block + together == count;
                // What is unpacked next; it need not exist.
                let next = first.map(|weights| match last {
                    false => weights.wrapping_add((block + together) * B::BYTES),
                    true => weights.wrapping_add(2 * work.group_bytes),
                });
                let lines = (at_once * B::BYTES).div_ceil(64 * (sums.len() / TILE));
                for (tile, sums) in sums.chunks_exact_mut(TILE).enumerate() {
                    let first = work.tokens.start + TILE * tile;
                    // Lines that are written to next: each is far from the one before.
                    for token in (first..first + TILE).take_while(|_| last) {
                        let to = work.out.add(token * work.stride + 8 * group);
                        _mm_prefetch::<_MM_HINT_ET0>(to.cast());
                    }
                    for line in lines * tile..lines * (tile + 1) {
                        for weights in next {
                            _mm_prefetch::<_MM_HINT_T1>(weights.wrapping_add(64 * line).cast());
                        }
                    }
                    let x = x.at(B::GRAIN, TILE * tile * together);
                    blocks.add_products(x, &mut ints, sums.as_mut_ptr().cast());
                }
            }
            let row = 8 * group;
            let rows = (8 * (second + 1)).min(work.rows) - row;
            for (token, sums) in work.tokens.clone().zip(&*sums) {
                let to = work.out.add(token * work.stride + row);
                if rows == ROWS {
                    _mm512_storeu_ps(to, _mm512_loadu_ps(sums.as_ptr().cast()));
                } else {
                    std::ptr::copy_nonoverlapping(sums.as_ptr().cast(), to, rows);
                }
            }
        }
        // Nothing is left to save when the thread is exchanged.
        asm!("tilerelease", options(nostack, nomem));
    }
}

/// Sixteen halves of two groups as floats.
#[inline(always)]
unsafe fn halves(groups: [*const u8; 2]) -> __m512 {
    // SAFETY: the caller's.
    unsafe {
        let first = _mm_loadu_si128(groups[0].cast());
        let second = _mm_loadu_si128(groups[1].cast());
        _mm512_cvtph_ps(_mm256_inserti128_si256::<1>(
            _mm256_castsi128_si256(first),
            second,
        ))
    }
}

/// What [`Of32`] says of two groups: for each four columns four bytes of each row, with their sign.
#[repr(align(64))]
pub(super) struct By32<F> {
    bytes: [[u8; 32 * ROWS]; 8],
    scales: [__m512; 8],
    minima: [__m512; 8],
    blocks: usize,
    format: std::marker::PhantomData<F>,
}

impl<F> By32<F> {
    /// The sums of a tile's tokens with one block.
    #[inline(always)]
    unsafe fn multiply(&self, block: usize, x: Tokens, ints: &mut Ints) {
        // SAFETY: the caller's.
        unsafe {
            asm!(
                "tilezero tmm0",
                "tileloadd tmm5, [{tokens} + {columns}]",
                "tileloadd tmm6, [{weights} + {line}]",
                "tdpbssd tmm0, tmm5, tmm6",
                "tilestored [{ints} + {line}], tmm0",
                tokens = in(reg) x.bytes,
                columns = in(reg) 32usize,
                weights = in(reg) self.bytes[block].as_ptr(),
                line = in(reg) 64usize,
                ints = in(reg) ints.0.as_mut_ptr(),
                options(nostack)
            );
        }
    }
}

impl<F: Of32> Blocks for By32<F> {
    const GRAIN: Grain = Grain::Of32;
    const BYTES: usize = F::BYTES;

    #[inline(always)]
    fn new() -> Self {
        // SAFETY: numbers.
        unsafe { std::mem::zeroed() }
    }

    #[inline(always)]
    unsafe fn unpack(&mut self, groups: [*const u8; 2], blocks: usize) {
        self.blocks = blocks;
        for block in 0..blocks {
            // SAFETY: the caller's.
            unsafe {
                let groups = groups.map(|group| group.add(block * F::BYTES));
                for (half, group) in groups.into_iter().enumerate() {
                    let to = self.bytes[block].as_mut_ptr().add(32 * half);
                    let fours = F::fours::<Avx512Vnni>(group);
                    for (step, four) in fours.into_iter().enumerate() {
                        let four = _mm256_sub_epi8(four, _mm256_set1_epi8(F::ABOVE as i8));
                        Avx512Vnni::put_bytes(to.add(64 * step), four);
                    }
                }
                self.scales[block] = halves(groups);
                if let Some(at) = F::MINIMUM {
                    self.minima[block] = halves(groups.map(|group| group.add(at)));
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn add_products(&self, x: Tokens, ints: &mut [Ints; AHEAD], sums: *mut f32) {
        // SAFETY: the caller's.
        unsafe {
            let mut all = [_mm512_setzero_ps(); TILE];
            for (token, sum) in all.iter_mut().enumerate() {
                *sum = _mm512_loadu_ps(sums.add(ROWS * token));
            }
            // What comes out of the unit can be read long after: the block before is added meanwhile.
            let first = (AHEAD - 1).min(self.blocks);
            for (block, ints) in ints[..first].iter_mut().enumerate() {
                self.multiply(block, x.at(Grain::Of32, TILE * block), ints);
            }
            for block in 0..self.blocks {
                let next = block + AHEAD - 1;
                if next < self.blocks {
                    let x = x.at(Grain::Of32, TILE * next);
                    self.multiply(next, x, &mut ints[next % AHEAD]);
                }
                let x = x.at(Grain::Of32, TILE * block);
                for (token, sum) in all.iter_mut().enumerate() {
                    let ints = _mm512_cvtepi32_ps(ints[block % AHEAD].of(token));
                    let size = _mm512_set1_ps(*x.scales.add(token));
                    *sum = _mm512_fmadd_ps(ints, _mm512_mul_ps(self.scales[block], size), *sum);
                    if F::MINIMUM.is_some() {
                        let size = _mm512_set1_ps(*x.scaled_sums.add(token));
                        *sum = _mm512_fmadd_ps(self.minima[block], size, *sum);
                    }
                }
            }
            for (token, sum) in all.into_iter().enumerate() {
                _mm512_storeu_ps(sums.add(ROWS * token), sum);
            }
        }
    }
}

/// What [`Of256`] says of two groups, times the sub-blocks' scales: for each four columns four lower
/// bytes of each row, and as many upper ones, which have the sign.
#[repr(align(64))]
pub(super) struct By256<F> {
    lower: [u8; 256 * ROWS],
    upper: [u8; 256 * ROWS],
    minima: [__m512i; 8],
    scale: __m512,
    below: __m512,
    format: std::marker::PhantomData<F>,
}

/// Where one group's numbers go.
struct Half<F> {
    lower: *mut u8,
    upper: *mut u8,
    format: std::marker::PhantomData<F>,
}

impl<F: Of256> SubBlocks<Avx512Vnni> for Half<F> {
    #[inline(always)]
    unsafe fn take(&mut self, sub: usize, fours: [__m256i; 4], scale: __m256i) {
        // SAFETY: the caller's.
        unsafe {
            // Each row's scale four times, in the order in which bytes become wider.
            let scales = [
                _mm256_unpacklo_epi32(scale, scale),
                _mm256_unpackhi_epi32(scale, scale),
            ];
            for (step, four) in fours.into_iter().enumerate() {
                let zero = _mm256_setzero_si256();
                let wide = [
                    _mm256_unpacklo_epi8(four, zero),
                    _mm256_unpackhi_epi8(four, zero),
                ];
                let above = _mm256_set1_epi16(F::ABOVE);
                let first = _mm256_mullo_epi16(_mm256_sub_epi16(wide[0], above), scales[0]);
                let last = _mm256_mullo_epi16(_mm256_sub_epi16(wide[1], above), scales[1]);
                let byte = _mm256_set1_epi16(255);
                let lower = _mm256_packus_epi16(
                    _mm256_and_si256(first, byte),
                    _mm256_and_si256(last, byte),
                );
                let upper =
                    _mm256_packs_epi16(_mm256_srai_epi16::<8>(first), _mm256_srai_epi16::<8>(last));
                let at = 64 * (4 * sub + step);
                _mm256_store_si256(self.lower.add(at).cast(), lower);
                _mm256_store_si256(self.upper.add(at).cast(), upper);
            }
        }
    }
}

impl<F: Of256> Blocks for By256<F> {
    const GRAIN: Grain = Grain::Of256;
    const BYTES: usize = F::BYTES;

    #[inline(always)]
    fn new() -> Self {
        // SAFETY: numbers.
        unsafe { std::mem::zeroed() }
    }

    #[inline(always)]
    unsafe fn unpack(&mut self, groups: [*const u8; 2], _: usize) {
        // SAFETY: the caller's.
        unsafe {
            for (half, group) in groups.into_iter().enumerate() {
                let mut to = Half::<F> {
                    lower: self.lower.as_mut_ptr().add(32 * half),
                    upper: self.upper.as_mut_ptr().add(32 * half),
                    format: std::marker::PhantomData,
                };
                F::sub_blocks::<Avx512Vnni, _>(group, &mut to);
            }
            self.scale = halves(groups);
            if F::MINIMA > 0 {
                let below = halves(groups.map(|group| group.add(16)));
                self.below = _mm512_mul_ps(below, _mm512_set1_ps(-1.0));
                let first = F::minima::<Avx512Vnni>(groups[0]);
                let second = F::minima::<Avx512Vnni>(groups[1]);
                for (to, (first, second)) in
                    self.minima.iter_mut().zip(first.into_iter().zip(second))
                {
                    *to = _mm512_inserti64x4::<1>(_mm512_castsi256_si512(first), second);
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn add_products(&self, x: Tokens, ints: &mut [Ints; AHEAD], sums: *mut f32) {
        // SAFETY: the caller's.
        unsafe {
            asm!("tilezero tmm0", "tilezero tmm1", options(nostack, nomem));
            for part in 0..4 {
                asm!(
                    "tileloadd tmm2, [{tokens} + {columns}]",
                    "tileloadd tmm3, [{lower} + {line}]",
                    "tileloadd tmm4, [{upper} + {line}]",
                    "tdpbsud tmm0, tmm2, tmm3",
                    "tdpbssd tmm1, tmm2, tmm4",
                    tokens = in(reg) x.bytes.add(64 * part),
                    columns = in(reg) 256usize,
                    lower = in(reg) self.lower[1024 * part..].as_ptr(),
                    upper = in(reg) self.upper[1024 * part..].as_ptr(),
                    line = in(reg) 64usize,
                    options(nostack, readonly)
                );
            }
            asm!(
                "tilestored [{lower} + {line}], tmm0",
                "tilestored [{upper} + {line}], tmm1",
                lower = in(reg) ints[0].0.as_mut_ptr(),
                upper = in(reg) ints[1].0.as_mut_ptr(),
                line = in(reg) 64usize,
                options(nostack)
            );
            for token in 0..TILE {
                let upper = _mm512_slli_epi32::<8>(ints[1].of(token));
                let all = _mm512_add_epi32(ints[0].of(token), upper);
                let all = _mm512_cvtepi32_ps(all);
                let size = _mm512_set1_ps(*x.scales.add(token));
                let sums = sums.add(ROWS * token);
                let before = _mm512_loadu_ps(sums);
                let sum = if F::MINIMA == 0 {
                    _mm512_fmadd_ps(all, _mm512_mul_ps(self.scale, size), before)
                } else {
                    let of_tokens = if F::MINIMA == 8 {
                        x.sums_of_32.add(8 * token)
                    } else {
                        x.sums_of_16.add(16 * token)
                    };
                    let mut below = _mm512_setzero_si512();
                    for (pair, minima) in self.minima[..F::MINIMA / 2].iter().enumerate() {
                        let two = of_tokens.add(2 * pair).cast::<i32>().read_unaligned();
                        below = _mm512_dpwssd_epi32(below, *minima, _mm512_set1_epi32(two));
                    }
                    let below = _mm512_mul_ps(_mm512_cvtepi32_ps(below), self.below);
                    _mm512_fmadd_ps(_mm512_fmadd_ps(all, self.scale, below), size, before)
                };
                _mm512_storeu_ps(sums, sum);
            }
        }
    }
}
