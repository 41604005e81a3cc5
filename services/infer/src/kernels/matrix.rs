//! A weight matrix: where it lies in its file, and packed once it has been used.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use super::activations::{Activations, Grain};
use super::packing::{GROUP, pack, unpack_row};
use super::tiles::{self, Work};
use super::zeroed::{Cut, Zeroed};
use super::{Isa, Pool, blocks, for_isa, super_blocks};
use crate::gguf::Kind;

/// How activations must be for weights that are stored so.
fn grain(kind: Kind) -> Grain {
    match kind {
        Kind::F32 | Kind::F16 | Kind::Bf16 => Grain::Floats,
        Kind::Q4_0 | Kind::Q4_1 | Kind::Q5_0 | Kind::Q5_1 | Kind::Q8_0 => Grain::Of32,
        Kind::Q2K | Kind::Q3K | Kind::Q4K | Kind::Q5K | Kind::Q6K => Grain::Of256,
    }
}

/// A weight matrix of `rows × columns`. Cloning shares it.
#[derive(Clone)]
pub struct Matrix {
    inner: Arc<Inner>,
}

struct Inner {
    file: Arc<File>,
    offset: u64,
    format: Kind,
    rows: usize,
    columns: usize,
    packed: OnceLock<Cut<u8>>,
    /// Where it will be packed, if that was said.
    room: Mutex<Option<Cut<u8>>>,
}

/// One product of a call: a matrix, and where its result goes: activations' rows × matrix' rows.
pub struct Product<'a> {
    /// The weights.
    pub matrix: &'a Matrix,
    /// The result, token by token.
    pub out: &'a mut [f32],
}

/// Bytes of weights in one piece of work: some five microseconds of reading.
const PIECE_BYTES: usize = 64 * 1024;

/// Bytes of a file that are read at once: what stays in a processor's own cache.
const READ_BYTES: usize = 128 * 1024;

/// Memory of these lengths, side by side.
fn together(lengths: &[usize]) -> io::Result<Vec<Cut<u8>>> {
    Ok(Zeroed::new(Zeroed::<u8>::together(lengths))?.cut(lengths))
}

impl Matrix {
    /// A matrix at `offset` in `file`. Nothing is read before it is used.
    ///
    /// # Panics
    /// When the columns are not whole blocks.
    #[must_use]
    pub fn new(file: Arc<File>, offset: u64, format: Kind, rows: usize, columns: usize) -> Self {
        assert_eq!(columns % format.block_columns(), 0, "whole blocks");
        Self {
            inner: Arc::new(Inner {
                file,
                offset,
                format,
                rows,
                columns,
                packed: OnceLock::new(),
                room: Mutex::default(),
            }),
        }
    }

    /// Rows: numbers of its result.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.inner.rows
    }

    /// Columns: numbers of an activation's row.
    #[must_use]
    pub fn columns(&self) -> usize {
        self.inner.columns
    }

    fn row_bytes(&self) -> usize {
        self.inner.format.row_bytes(self.inner.columns)
    }

    fn group_bytes(&self) -> usize {
        GROUP * self.row_bytes()
    }

    /// Bytes that it takes once it is packed.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.inner.rows.div_ceil(GROUP) * self.group_bytes()
    }

    /// Of these, the bytes that it takes already.
    #[must_use]
    pub fn resident(&self) -> usize {
        self.inner.packed.get().map_or(0, |packed| packed.len())
    }

    /// A row as floats. It is read from the file.
    ///
    /// # Errors
    /// When the file cannot be read there, or has no such row.
    pub fn row(&self, row: usize, to: &mut [f32]) -> io::Result<()> {
        if row >= self.inner.rows {
            return Err(io::Error::other(format!(
                "found row {row}, allowed: below {}",
                self.inner.rows
            )));
        }
        let bytes = self.row_bytes();
        let mut buffer = vec![0; bytes];
        let offset = self.inner.offset + (row * bytes) as u64;
        self.inner.file.read_exact_at(&mut buffer, offset)?;
        unpack_row(self.inner.format, &buffer, to);
        Ok(())
    }

    /// Says that these will be packed side by side, in memory that is taken from the system at once
    /// but used as they are packed: large pages hold several small matrices.
    ///
    /// # Errors
    /// When there is no room for so much.
    pub fn pack_together(matrices: &[&Matrix]) -> io::Result<()> {
        let lengths: Vec<usize> = matrices.iter().map(|matrix| matrix.bytes()).collect();
        for (matrix, room) in matrices.iter().zip(together(&lengths)?) {
            *matrix.room() = Some(room);
        }
        Ok(())
    }

    fn room(&self) -> MutexGuard<'_, Option<Cut<u8>>> {
        let room = self.inner.room.lock();
        room.unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads and packs it, if that has not been done.
    ///
    /// # Errors
    /// When the file cannot be read there, or there is no memory for it.
    pub fn prepare(&self, pool: &Pool) -> io::Result<()> {
        self.packed(pool).map(|_| ())
    }

    fn packed(&self, pool: &Pool) -> io::Result<&[u8]> {
        if let Some(packed) = self.inner.packed.get() {
            return Ok(packed);
        }
        let (row_bytes, group_bytes) = (self.row_bytes(), self.group_bytes());
        let mut room = self.room();
        // Somebody else may have packed it in the meantime.
        if let Some(packed) = self.inner.packed.get() {
            return Ok(packed);
        }
        let mut packed = match room.take() {
            Some(packed) => packed,
            None => together(&[self.bytes()])?.remove(0),
        };
        let failure = OnceLock::new();
        let groups_each = (READ_BYTES / group_bytes).max(1);
        let pieces = Pieces::new(&mut packed, groups_each * group_bytes);
        pool.run(pieces.len(), &|index| {
            // SAFETY: each piece is taken once.
            let groups = unsafe { pieces.take(index) };
            let first = GROUP * groups_each * index;
            let rows = (GROUP * groups_each).min(self.inner.rows - first);
            let mut buffer = vec![0; rows * row_bytes];
            let offset = self.inner.offset + (first * row_bytes) as u64;
            match self.inner.file.read_exact_at(&mut buffer, offset) {
                Ok(()) => {
                    let groups = groups.chunks_exact_mut(group_bytes);
                    for (rows, group) in buffer.chunks(group_bytes).zip(groups) {
                        pack(self.inner.format, rows, row_bytes, group);
                    }
                }
                // One of several is enough.
                Err(error) => drop(failure.set(error)),
            }
        });
        match failure.into_inner() {
            Some(error) => {
                *room = Some(packed);
                Err(error)
            }
            None => Ok(self.inner.packed.get_or_init(|| packed)),
        }
    }

    /// Multiplies rows of activations with several matrices of as many columns, all at once.
    ///
    /// # Errors
    /// When a matrix cannot be read from its file.
    ///
    /// # Panics
    /// When an `out` is not of its matrix' rows times the activations'.
    pub fn multiply(
        pool: &Pool,
        isa: Isa,
        floats: &[f32],
        products: &mut [Product<'_>],
    ) -> io::Result<()> {
        let Some(columns) = products.first().map(|product| product.matrix.columns()) else {
            return Ok(());
        };
        let mut sides: Vec<Activations> = Vec::new();
        for product in &*products {
            let wanted = grain(product.matrix.inner.format);
            if sides.iter().all(|side| side.grain() != wanted) {
                // SAFETY: `floats` is borrowed for longer than `sides` live.
                sides.push(unsafe { Activations::new(pool, isa, wanted, floats, columns)? });
            }
        }
        let mut parts = Vec::new();
        let mut pieces = 0;
        for product in products {
            let matrix = product.matrix;
            assert_eq!(matrix.columns(), columns, "matrices of one width");
            let wanted = grain(matrix.inner.format);
            let side = sides.iter().find(|side| side.grain() == wanted);
            let activations = side.expect("each grain was made above");
            assert_eq!(
                product.out.len(),
                activations.rows() * matrix.rows(),
                "its result"
            );
            let groups = matrix.rows().div_ceil(GROUP);
            let group_bytes = matrix.group_bytes();
            let tokens = activations.rows();
            // Many tokens make a piece long by themselves.
            let wanted = (PIECE_BYTES / tokens.div_ceil(4)).max(1);
            // Numbers go by four groups at once, tiles by two.
            let least = match grain(matrix.inner.format) {
                Grain::Floats => 4,
                _ if isa.tiles() => 2,
                _ => 1,
            };
            let groups_each = (wanted / group_bytes / least).max(1) * least;
            let groups_each = groups_each.min(groups);
            let panels = tokens.div_ceil(activations.panel()).max(1);
            let part = Part {
                format: matrix.inner.format,
                weights: matrix.packed(pool)?.as_ptr(),
                rows: matrix.rows(),
                group_bytes,
                activations,
                out: product.out.as_mut_ptr(),
                first_piece: pieces,
                groups_each,
                pieces_per_panel: groups.div_ceil(groups_each),
            };
            pieces += panels * part.pieces_per_panel;
            parts.push(part);
        }
        pool.run(pieces, &|piece| {
            let index = parts.partition_point(|part| part.first_piece <= piece) - 1;
            parts[index].run(isa, piece - parts[index].first_piece);
        });
        (sides.into_iter()).for_each(|side| pool.keep(side.into_room()));
        Ok(())
    }
}

struct Part<'a> {
    format: Kind,
    weights: *const u8,
    rows: usize,
    group_bytes: usize,
    activations: &'a Activations,
    out: *mut f32,
    first_piece: usize,
    groups_each: usize,
    pieces_per_panel: usize,
}

// SAFETY: pieces read shared memory and write to places of their own.
unsafe impl Sync for Part<'_> {}

impl Part<'_> {
    fn run(&self, isa: Isa, piece: usize) {
        let (panel, piece) = (piece / self.pieces_per_panel, piece % self.pieces_per_panel);
        let groups = self.rows.div_ceil(GROUP);
        let start = piece * self.groups_each;
        let tokens = self.activations.rows();
        let first = panel * self.activations.panel();
        let mut work = Work {
            weights: self.weights,
            group_bytes: self.group_bytes,
            groups: start..(start + self.groups_each).min(groups),
            rows: self.rows,
            activations: self.activations,
            tokens: first..(first + self.activations.panel()).min(tokens),
            out: self.out,
            stride: self.rows,
        };
        if isa.tiles() {
            self.run_tiles(&mut work);
        }
        let work = &work;
        use blocks::{Five, Four, Q8_0};
        use super_blocks::{Q2K, Q3K, Q4K, Q5K, Q6K};
        use tiles::{Brain, run, run_numbers};
        // SAFETY: the set was found on this machine; the packed weights are whole groups; the
        // ranges are within the matrix and the activations, and no other piece has both.
        unsafe {
            match self.format {
                Kind::F32 => for_isa!(isa, run_numbers[f32](work): (&Work<'_>)),
                Kind::F16 => for_isa!(isa, run_numbers[u16](work): (&Work<'_>)),
                Kind::Bf16 => for_isa!(isa, run_numbers[Brain](work): (&Work<'_>)),
                Kind::Q4_0 => for_isa!(isa, run[Four<false>](work): (&Work<'_>)),
                Kind::Q4_1 => for_isa!(isa, run[Four<true>](work): (&Work<'_>)),
                Kind::Q5_0 => for_isa!(isa, run[Five<false>](work): (&Work<'_>)),
                Kind::Q5_1 => for_isa!(isa, run[Five<true>](work): (&Work<'_>)),
                Kind::Q8_0 => for_isa!(isa, run[Q8_0](work): (&Work<'_>)),
                Kind::Q2K => for_isa!(isa, run[Q2K](work): (&Work<'_>)),
                Kind::Q3K => for_isa!(isa, run[Q3K](work): (&Work<'_>)),
                Kind::Q4K => for_isa!(isa, run[Q4K](work): (&Work<'_>)),
                Kind::Q5K => for_isa!(isa, run[Q5K](work): (&Work<'_>)),
                Kind::Q6K => for_isa!(isa, run[Q6K](work): (&Work<'_>)),
            }
        }
    }

    /// Computes the whole tiles of `work`'s tokens, and leaves the others.
    #[cfg(target_arch = "x86_64")]
    fn run_tiles(&self, work: &mut Work<'_>) {
        use super::activations::TILE;
        use super::amx::{By32, By256, run};
        use blocks::{Five, Four, Q8_0};
        use super_blocks::{Q2K, Q3K, Q4K, Q5K, Q6K};
        let whole = work.tokens.len() / TILE * TILE;
        if whole == 0 || self.activations.grain() == Grain::Floats {
            return;
        }
        let rest = work.tokens.start + whole..work.tokens.end;
        work.tokens.end = rest.start;
        // SAFETY: the set was found on this machine; otherwise as in `run`.
        unsafe {
            match self.format {
                Kind::F32 | Kind::F16 | Kind::Bf16 => {}
                Kind::Q4_0 => run::<By32<Four<false>>>(work),
                Kind::Q4_1 => run::<By32<Four<true>>>(work),
                Kind::Q5_0 => run::<By32<Five<false>>>(work),
                Kind::Q5_1 => run::<By32<Five<true>>>(work),
                Kind::Q8_0 => run::<By32<Q8_0>>(work),
                Kind::Q2K => run::<By256<Q2K>>(work),
                Kind::Q3K => run::<By256<Q3K>>(work),
                Kind::Q4K => run::<By256<Q4K>>(work),
                Kind::Q5K => run::<By256<Q5K>>(work),
                Kind::Q6K => run::<By256<Q6K>>(work),
            }
        }
        work.tokens = rest;
    }

    /// No other machine has tiles.
    #[cfg(not(target_arch = "x86_64"))]
    fn run_tiles(&self, _: &mut Work<'_>) {}
}

/// A slice cut into pieces that threads write to, each its own.
pub(super) struct Pieces<T> {
    start: *mut T,
    length: usize,
    each: usize,
}

// SAFETY: pieces do not overlap, and `take`'s callers take each once.
unsafe impl<T: Send> Sync for Pieces<T> {}

impl<T> Pieces<T> {
    /// Cuts a slice into pieces of `each`; the last may be shorter. The slice must not be used
    /// before the last piece was.
    pub fn new(slice: &mut [T], each: usize) -> Self {
        Self {
            start: slice.as_mut_ptr(),
            length: slice.len(),
            each,
        }
    }

    /// The slice's start, for pieces that do not lie side by side.
    pub fn start(&self) -> *mut T {
        self.start
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.length.div_ceil(self.each)
    }

    /// A piece.
    ///
    /// # Safety
    /// Each may be taken once while the slice is not used otherwise.
    #[expect(
        clippy::mut_from_ref,
        reason = "each piece is handed out once, see above"
    )]
    pub unsafe fn take(&self, index: usize) -> &mut [T] {
        assert!(index < self.len(), "a piece of the slice");
        let start = index * self.each;
        let length = self.each.min(self.length - start);
        // SAFETY: within the slice; nobody else has this piece.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(start), length) }
    }

    /// Puts the only number of a piece.
    ///
    /// # Safety
    /// As [`Self::take`] says.
    pub unsafe fn put(&self, index: usize, number: T) {
        // SAFETY: the caller's.
        unsafe { self.take(index)[0] = number };
    }
}
