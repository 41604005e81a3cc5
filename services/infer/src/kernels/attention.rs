//! Attention over pages of keys and values.
//!
//! A page holds [`PAGE`] tokens of one layer as halves, floats or scaled bytes, packed like weights: keys as
//! groups of eight tokens, values as groups of eight numbers, so that both sides are products like all
//! others. Pages that several sequences begin with are shared; see `model::cache`.

use half::f16;

use super::lanes::{Lanes, Wide};
use super::matrix::Pieces;
use super::tiles::{Groups, Number};
use super::vectors::shares;
use super::{Isa, Pool, for_isa};

/// Tokens of a page.
pub const PAGE: usize = 64;

/// How keys and values are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// As 16-bit floats.
    Halves,
    /// As 32-bit floats.
    Floats,
    /// As 8-bit integers, 32 of a head with one scale (Q8_0): a little over half of `Halves`.
    Bytes,
}

/// Numbers of a head that have one scale when they are bytes.
const BLOCK: usize = 32;

impl Keep {
    /// Sixteen-bit words of a page's keys, or of its values, of one head of `width` numbers.
    #[must_use]
    pub const fn head_words(self, width: usize) -> usize {
        match self {
            Keep::Halves => width * PAGE,
            Keep::Floats => 2 * width * PAGE,
            // Bytes, and then for each block of all tokens the scales, as halves.
            Keep::Bytes => width * PAGE / 2 + width.div_ceil(BLOCK) * PAGE,
        }
    }
}

/// The shape of a layer's attention.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Attention {
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; each serves `heads / kv_heads` query heads.
    pub kv_heads: usize,
    /// Numbers of a head, a multiple of eight.
    pub width: usize,
    /// How keys and values are kept.
    pub keep: Keep,
    /// Scores are multiplied by it.
    pub scale: f32,
    /// A token sees only so many, itself among them; None for all.
    pub window: Option<usize>,
    /// Scores are bent to stay below it (Gemma 2); None for not at all.
    pub cap: Option<f32>,
    /// Whether a token sees those after it, too (encoders).
    pub both_ways: bool,
}

/// One sequence's part of a batch.
#[derive(Debug)]
pub struct Stretch<'a> {
    /// Its pages of this layer, the new tokens' keys and values in them.
    pub pages: Vec<&'a [u16]>,
    /// Tokens before the new ones.
    pub seen: usize,
    /// The new tokens' rows in the batch.
    pub rows: std::ops::Range<usize>,
}

/// New tokens of one sequence that one piece of work attends with: their scores stay near.
const TOKENS: usize = 8;

impl Attention {
    /// Words of a page: keys, then values.
    #[must_use]
    pub fn page_words(&self) -> usize {
        2 * self.kv_heads * self.keep.head_words(self.width)
    }

    /// Puts a token's keys and values (each kv_heads × width) into its page.
    pub fn put(&self, page: &mut [u16], place: usize, keys: &[f32], values: &[f32]) {
        assert_eq!(page.len(), self.page_words(), "a whole page");
        assert!(place < PAGE, "a place of the page");
        let width = self.width;
        let (key_page, value_page) = page.split_at_mut(self.page_words() / 2);
        let heads = keys.chunks_exact(width).zip(values.chunks_exact(width));
        for (head, (keys, values)) in heads.enumerate() {
            if self.keep == Keep::Bytes {
                let words = self.keep.head_words(width);
                let part = head * words..(head + 1) * words;
                put_bytes(&mut key_page[part.clone()], place, keys, |column| {
                    place / 8 * 8 * width + 8 * column + place % 8
                });
                put_bytes(&mut value_page[part], place, values, |column| {
                    column / 8 * 8 * PAGE + 8 * place + column % 8
                });
                continue;
            }
            let from = head * width * PAGE + place / 8 * 8 * width + place % 8;
            for (column, key) in keys.iter().enumerate() {
                self.set(key_page, from + 8 * column, *key);
            }
            for (eight, values) in values.chunks_exact(8).enumerate() {
                let from = head * width * PAGE + eight * 8 * PAGE + 8 * place;
                for (to, value) in (from..).zip(values) {
                    self.set(value_page, to, *value);
                }
            }
        }
    }

    fn set(&self, words: &mut [u16], place: usize, number: f32) {
        match self.keep {
            Keep::Bytes => unreachable!("whole heads of bytes are put by `put_bytes`"),
            Keep::Halves => words[place] = f16::from_f32(number).to_bits(),
            Keep::Floats => {
                let bits = number.to_bits();
                // In the machine's order, as they are read.
                let halves: [u16; 2] = if cfg!(target_endian = "little") {
                    [bits as u16, (bits >> 16) as u16]
                } else {
                    [(bits >> 16) as u16, bits as u16]
                };
                words[2 * place..2 * place + 2].copy_from_slice(&halves);
            }
        }
    }

    /// Attends from each new token (`queries`: rows × heads × width, already turned) to those
    /// before it and itself, or to all of its sequence, into `out` of the same shape.
    ///
    /// # Panics
    /// When a stretch has too few pages or rows beyond the batch, or there is a window both ways.
    pub fn run(
        &self,
        pool: &Pool,
        isa: Isa,
        queries: &[f32],
        stretches: &[Stretch<'_>],
        out: &mut [f32],
    ) {
        let row = self.heads * self.width;
        assert_eq!(queries.len(), out.len(), "as many numbers");
        assert!(self.width.is_multiple_of(8), "heads of whole groups");
        assert!(self.heads.is_multiple_of(self.kv_heads), "heads in groups");
        assert!(
            !self.both_ways || self.window.is_none(),
            "no window both ways"
        );
        let mut parts = Vec::new();
        for stretch in stretches {
            assert!(stretch.rows.end * row <= queries.len(), "rows of the batch");
            let total = stretch.seen + stretch.rows.len();
            let whole = |page: &&[u16]| page.len() == self.page_words();
            assert!(stretch.pages.iter().all(whole), "whole pages");
            assert!(stretch.pages.len() * PAGE >= total, "pages for all tokens");
            for start in stretch.rows.clone().step_by(TOKENS) {
                let tokens = start..(start + TOKENS).min(stretch.rows.end);
                // Late tokens see most: they go first, so that no thread is left with them.
                parts.extend((0..self.kv_heads).map(|head| (stretch, head, tokens.clone())));
            }
        }
        parts.reverse();
        let (queries, out) = (queries.as_ptr() as usize, Pieces::new(out, 1));
        pool.run(parts.len(), &|index| {
            let (stretch, head, tokens) = &parts[index];
            let part = &Part {
                shape: self,
                stretch,
                head: *head,
                tokens: tokens.clone(),
                queries: queries as *const f32,
                out: out.start(),
            };
            // SAFETY: the set was found on this machine; the assertions above bound what is read
            // and written, and no other part has this head and these tokens.
            unsafe {
                match self.keep {
                    Keep::Halves => for_isa!(isa, attend[u16](part): (&Part<'_>)),
                    Keep::Floats => for_isa!(isa, attend[f32](part): (&Part<'_>)),
                    Keep::Bytes => for_isa!(isa, attend[Bytes](part): (&Part<'_>)),
                }
            }
        });
    }
}

struct Part<'a> {
    shape: &'a Attention,
    stretch: &'a Stretch<'a>,
    head: usize,
    tokens: std::ops::Range<usize>,
    queries: *const f32,
    out: *mut f32,
}

impl Part<'_> {
    /// Where the numbers of a row of scores are in the batch: tokens, and of each its heads.
    #[inline(always)]
    fn place(&self, row: usize) -> usize {
        let group = self.shape.heads / self.shape.kv_heads;
        let (token, head) = (
            self.tokens.start + row / group,
            self.head * group + row % group,
        );
        (token * self.shape.heads + head) * self.shape.width
    }
}

/// Puts a token's numbers of one head as bytes into the head's part of a page; `at` says where a
/// column's byte is.
fn put_bytes(part: &mut [u16], place: usize, numbers: &[f32], at: impl Fn(usize) -> usize) {
    let (bytes, scales) = part.split_at_mut(numbers.len() * PAGE / 2);
    for (block, numbers) in numbers.chunks(BLOCK).enumerate() {
        let largest = numbers.iter().fold(0.0_f32, |most, n| most.max(n.abs()));
        let scale = match numbers.iter().all(|number| number.is_finite()) {
            true => f16::from_f32(largest / 127.0),
            // What is not finite must show in the result.
            false => f16::NAN,
        };
        scales[block * PAGE + place] = scale.to_bits();
        let inverse = match scale.to_f32() {
            0.0 => 0.0,
            scale => 1.0 / scale,
        };
        for (column, number) in (BLOCK * block..).zip(numbers) {
            // Saturates: a scale that was rounded down makes the largest a little more than 127.
            let byte = (number * inverse).round().max(-127.0) as i8;
            let to = at(column);
            let mut both = bytes[to / 2].to_ne_bytes();
            both[to % 2] = byte.to_ne_bytes()[0];
            bytes[to / 2] = u16::from_ne_bytes(both);
        }
    }
}

/// How a page's numbers are read.
trait Kept {
    /// The scores of `T` rows with the keys of a page's first `tokens` tokens; `keys` is the head's part.
    ///
    /// # Safety
    /// As [`attend`].
    unsafe fn score<L: Lanes, const T: usize>(
        part: &Part<'_>,
        keys: *const u16,
        tokens: usize,
        row: usize,
        scores: Scores,
    ) -> usize;

    /// Adds the values of a page's first `tokens` tokens in the shares of `T` rows to the result.
    ///
    /// # Safety
    /// As [`attend`].
    unsafe fn mix<L: Lanes, const T: usize>(
        part: &Part<'_>,
        values: *const u16,
        tokens: usize,
        row: usize,
        scores: Scores,
    ) -> usize;
}

/// The scores of one page: of each row [`PAGE`], rows `stride` apart.
#[derive(Clone, Copy)]
struct Scores {
    start: *mut f32,
    stride: usize,
    /// Whether it is the first page: nothing has been mixed before.
    fresh: bool,
}

/// Scaled bytes.
struct Bytes;

/// # Safety
/// The instruction set is there, and the part's pages, queries and results are as [`Attention::run`] has
/// checked.
#[inline(always)]
unsafe fn attend<L: Lanes, N: Kept>(part: &Part<'_>) {
    let shape = part.shape;
    let rows = part.tokens.len() * (shape.heads / shape.kv_heads);
    // Tokens that this part's last one sees.
    let before = part.stretch.seen + (part.tokens.start - part.stretch.rows.start);
    let total = match shape.both_ways {
        true => part.stretch.seen + part.stretch.rows.len(),
        false => before + part.tokens.len(),
    };
    let first = match shape.window {
        Some(window) => (before + 1).saturating_sub(window) / PAGE,
        None => 0,
    };
    let pages = first..total.div_ceil(PAGE);
    let stride = pages.len() * PAGE;
    let mut scores = vec![0.0_f32; rows * stride];
    // SAFETY: the caller's; scores have room for all rows and pages.
    unsafe {
        for page in pages.clone() {
            let keys = part.stretch.pages[page].as_ptr();
            let keys = keys.add(part.head * shape.keep.head_words(shape.width));
            let tokens = PAGE.min(total - page * PAGE);
            let to = Scores {
                start: scores.as_mut_ptr().add((page - first) * PAGE),
                stride,
                fresh: page == first,
            };
            let mut row = 0;
            while row < rows {
                row += match rows - row {
                    12.. if const { L::Wide::SUMS == 12 } => {
                        N::score::<L, 12>(part, keys, tokens, row, to)
                    }
                    6.. => N::score::<L, 6>(part, keys, tokens, row, to),
                    4.. => N::score::<L, 4>(part, keys, tokens, row, to),
                    2.. => N::score::<L, 2>(part, keys, tokens, row, to),
                    _ => N::score::<L, 1>(part, keys, tokens, row, to),
                };
            }
        }
        let group = shape.heads / shape.kv_heads;
        for (row, scores) in scores.chunks_exact_mut(stride).enumerate() {
            let sees = match shape.both_ways {
                true => total,
                false => before + row / group + 1 - first * PAGE,
            };
            let hidden = match shape.window {
                Some(window) => sees.saturating_sub(window),
                None => 0,
            };
            if let Some(cap) = shape.cap {
                for score in &mut scores[hidden..sees] {
                    *score = (*score / cap).tanh() * cap;
                }
            }
            scores[..hidden].fill(0.0);
            shares::<L>(&mut scores[hidden..sees]);
            scores[sees..].fill(0.0);
        }
        for page in pages.clone() {
            let values = part.stretch.pages[page].as_ptr();
            let head = shape.kv_heads + part.head;
            let values = values.add(head * shape.keep.head_words(shape.width));
            let tokens = PAGE.min(total - page * PAGE);
            let from = Scores {
                start: scores.as_mut_ptr().add((page - first) * PAGE),
                stride,
                fresh: page == first,
            };
            let mut row = 0;
            while row < rows {
                row += match rows - row {
                    12.. if const { L::Wide::SUMS == 12 } => {
                        N::mix::<L, 12>(part, values, tokens, row, from)
                    }
                    6.. => N::mix::<L, 6>(part, values, tokens, row, from),
                    4.. => N::mix::<L, 4>(part, values, tokens, row, from),
                    2.. => N::mix::<L, 2>(part, values, tokens, row, from),
                    _ => N::mix::<L, 1>(part, values, tokens, row, from),
                };
            }
        }
    }
}

impl<N: Number> Kept for N {
    #[inline(always)]
    unsafe fn score<L: Lanes, const T: usize>(
        part: &Part<'_>,
        keys: *const u16,
        tokens: usize,
        row: usize,
        scores: Scores,
    ) -> usize {
        let width = part.shape.width;
        // SAFETY: the caller's; a page is whole, whatever of it is filled.
        unsafe {
            let x = std::array::from_fn(|index| part.queries.add(part.place(row + index)));
            let scale = L::splat(part.shape.scale);
            let groups = &Groups {
                first: keys.cast::<N>(),
                stride: 8 * width,
                count: tokens.div_ceil(8),
            };
            groups.products::<L, T>(x, width, |eight, index, sums| {
                let to = scores.start.add((row + index) * scores.stride + 8 * eight);
                L::put(to, L::mul(sums, scale));
            });
        }
        T
    }

    #[inline(always)]
    unsafe fn mix<L: Lanes, const T: usize>(
        part: &Part<'_>,
        values: *const u16,
        tokens: usize,
        row: usize,
        scores: Scores,
    ) -> usize {
        // SAFETY: the caller's.
        unsafe {
            let x = std::array::from_fn(|index| {
                scores.start.add((row + index) * scores.stride).cast_const()
            });
            let to: [_; T] = std::array::from_fn(|index| part.out.add(part.place(row + index)));
            let groups = &Groups {
                first: values.cast::<N>(),
                stride: 8 * PAGE,
                count: part.shape.width / 8,
            };
            groups.products::<L, T>(x, tokens, |eight, index, sums| {
                put_more::<L>(to[index].add(8 * eight), sums, scores.fresh);
            });
        }
        T
    }
}

impl Kept for Bytes {
    #[inline(always)]
    unsafe fn score<L: Lanes, const T: usize>(
        part: &Part<'_>,
        keys: *const u16,
        tokens: usize,
        row: usize,
        scores: Scores,
    ) -> usize {
        let width = part.shape.width;
        // SAFETY: the caller's; a page is whole, whatever of it is filled: bytes, then scales.
        unsafe {
            let scale = L::splat(part.shape.scale);
            let from: [_; T] =
                std::array::from_fn(|index| part.queries.add(part.place(row + index)));
            for block in 0..width.div_ceil(BLOCK) {
                let x = from.map(|from| from.add(BLOCK * block));
                let groups = &Groups {
                    first: keys.cast::<i8>().add(8 * BLOCK * block),
                    stride: 8 * width,
                    count: tokens.div_ceil(8),
                };
                let scales = keys.add(width * PAGE / 2 + block * PAGE);
                let columns = BLOCK.min(width - BLOCK * block);
                groups.products::<L, T>(x, columns, |eight, index, sums| {
                    let scale = L::mul(L::halves(scales.add(8 * eight)), scale);
                    let to = scores.start.add((row + index) * scores.stride + 8 * eight);
                    put_more::<L>(to, L::mul(sums, scale), block == 0);
                });
            }
        }
        T
    }

    #[inline(always)]
    unsafe fn mix<L: Lanes, const T: usize>(
        part: &Part<'_>,
        values: *const u16,
        tokens: usize,
        row: usize,
        scores: Scores,
    ) -> usize {
        let width = part.shape.width;
        let mut shares = [[0.0_f32; PAGE]; T];
        // SAFETY: the caller's; a page is whole, and so is a page's part of a row of scores.
        unsafe {
            let to: [_; T] = std::array::from_fn(|index| part.out.add(part.place(row + index)));
            for block in 0..width.div_ceil(BLOCK) {
                let scales = values.add(width * PAGE / 2 + block * PAGE);
                // Once for all columns of the block.
                for (index, shares) in shares.iter_mut().enumerate() {
                    let from = scores.start.add((row + index) * scores.stride);
                    for eight in (0..tokens).step_by(8) {
                        let scale = L::halves(scales.add(eight));
                        let share = L::load(from.add(eight).cast_const());
                        L::put(shares.as_mut_ptr().add(eight), L::mul(share, scale));
                    }
                }
                let x = std::array::from_fn(|index| shares[index].as_ptr());
                let columns = BLOCK.min(width - BLOCK * block);
                let groups = &Groups {
                    first: values.cast::<i8>().add(PAGE * BLOCK * block),
                    stride: 8 * PAGE,
                    count: columns / 8,
                };
                groups.products::<L, T>(x, tokens, |eight, index, sums| {
                    let to = to[index].add(BLOCK * block + 8 * eight);
                    put_more::<L>(to, sums, scores.fresh);
                });
            }
        }
        T
    }
}

/// Puts eight sums, or adds them to what is there.
///
/// # Safety
/// As [`Lanes`] says.
#[inline(always)]
unsafe fn put_more<L: Lanes>(to: *mut f32, sums: L::Floats, fresh: bool) {
    // SAFETY: the caller's.
    unsafe {
        let sums = match fresh {
            true => sums,
            false => L::add(sums, L::load(to.cast_const())),
        };
        L::put(to, sums);
    }
}
