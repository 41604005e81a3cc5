//! The network: what the words of a request say together.
//!
//! A word's vector is the sum of its own and its pieces'. Two blocks follow, each of which looks at
//! neighbours (a convolution over three words), at all words (attention without positions, so that
//! it does not matter how much is said before), and at each word by itself. One vector of the whole
//! request tells the kind of call; every word's own tells its label. The same code runs in training
//! and in the box.

use candle_core::{D, Result, Shape, Tensor};

use super::call::Kind;
use super::labels::LABELS;
use super::words::{PIECE_ROWS, SHAPE_ROWS};

/// Length of a vector.
pub const WIDTH: usize = 128;
/// Blocks.
const BLOCKS: usize = 2;
/// Heads of attention.
const HEADS: usize = 4;
/// Width between the two products that look at a word by itself.
const INNER: usize = 256;
/// What is added to the attention to a place without a word.
const NOT_THERE: f64 = -1e4;

/// Requests as numbers. Words that occur more than once are computed once.
#[derive(Debug)]
pub struct Batch {
    /// Numbers of the different words, `[U]`.
    pub words: Tensor,
    /// Rows of their pieces, `[U, P]`.
    pub pieces: Tensor,
    /// Weight of each piece, 0 where there is none, `[U, P, 1]`.
    pub weights: Tensor,
    /// Which of the different words stands at each place, `[B × T]`.
    pub places: Tensor,
    /// 1 where a word is, 0 behind the request's end, `[B, T]`.
    pub mask: Tensor,
}

/// What changes a vector at random while training; none in the box.
pub type Noise<'a> = &'a mut dyn FnMut(&Tensor) -> Result<Tensor>;

/// Where a weight comes from, by name and shape.
pub type Weights<'a, E> = &'a mut dyn FnMut(&str, &[usize]) -> std::result::Result<Tensor, E>;

/// All weights.
#[derive(Debug)]
pub struct Encoder {
    words: Tensor,
    pieces: Tensor,
    blocks: Vec<Block>,
    asking: Tensor,
    hidden: Linear,
    kind: Linear,
    told: Linear,
    label: Linear,
}

#[derive(Debug)]
struct Block {
    neighbours: Linear,
    before_all: Scale,
    all: Linear,
    out: Linear,
    before_own: Scale,
    wide: Linear,
    narrow: Linear,
    first: Scale,
}

#[derive(Debug)]
struct Linear {
    weight: Tensor,
    bias: Tensor,
}

#[derive(Debug)]
struct Scale(Tensor);

impl Encoder {
    /// Takes the weights from where `get` finds them by name and shape. Products are stored as
    /// rows of inputs.
    ///
    /// # Errors
    /// When one is missing.
    pub fn new<E>(words: usize, get: Weights<E>) -> std::result::Result<Self, E> {
        let table = get("words", &[words, WIDTH])?;
        let pieces = get("pieces", &[SHAPE_ROWS + PIECE_ROWS, WIDTH])?;
        let mut blocks = Vec::with_capacity(BLOCKS);
        for block in 0..BLOCKS {
            let mut linear = |name: &str, inputs, outputs| {
                Linear::new(&format!("block.{block}.{name}"), inputs, outputs, get)
            };
            let neighbours = linear("neighbours", 3 * WIDTH, WIDTH)?;
            let all = linear("all", WIDTH, 3 * WIDTH)?;
            let out = linear("out", WIDTH, WIDTH)?;
            let wide = linear("wide", WIDTH, INNER)?;
            let narrow = linear("narrow", INNER, WIDTH)?;
            let mut scale = |name: &str| get(&format!("block.{block}.{name}"), &[WIDTH]).map(Scale);
            blocks.push(Block {
                neighbours,
                all,
                out,
                wide,
                narrow,
                first: scale("first")?,
                before_all: scale("before-all")?,
                before_own: scale("before-own")?,
            });
        }
        Ok(Encoder {
            words: table,
            pieces,
            blocks,
            asking: get("asking", &[WIDTH, 1])?,
            hidden: Linear::new("hidden", 2 * WIDTH, WIDTH, get)?,
            kind: Linear::new("kind", WIDTH, Kind::ALL.len(), get)?,
            told: Linear::new("told", 2 * WIDTH, WIDTH, get)?,
            label: Linear::new("label", WIDTH, LABELS.len(), get)?,
        })
    }

    /// Logarithms of the probabilities of kinds, `[B, kinds]`, and of labels, `[B, T, labels]`.
    ///
    /// # Errors
    /// When candle refuses.
    pub fn forward(&self, batch: &Batch, mut noise: Option<Noise>) -> Result<(Tensor, Tensor)> {
        let (requests, length) = batch.mask.dims2()?;
        let mut noisy = |values: Tensor| match &mut noise {
            Some(noise) => noise(&values),
            None => Ok(values),
        };
        let mask = batch.mask.unsqueeze(2)?;
        let own = self.words.index_select(&batch.words, 0)?;
        let (different, most) = batch.pieces.dims2()?;
        let pieces = self
            .pieces
            .index_select(&batch.pieces.flatten_all()?, 0)?
            .reshape((different, most, WIDTH))?
            .broadcast_mul(&batch.weights)?
            .sum(1)?;
        let vectors = (own + pieces)?.index_select(&batch.places, 0)?;
        let vectors = noisy(vectors)?.reshape((requests, length, WIDTH))?;
        let mut vectors = vectors.broadcast_mul(&mask)?;
        let behind = ((batch.mask.affine(-1.0, 1.0)?) * NOT_THERE)?;
        for block in &self.blocks {
            vectors = block.forward(&vectors, &mask, &behind)?;
        }
        let vectors = noisy(vectors)?;

        // The whole request: what answers to what is asked of every word, and the loudest of each.
        let answers = vectors
            .reshape((requests * length, WIDTH))?
            .matmul(&self.asking)?
            .reshape((requests, length))?;
        let shares = candle_nn::ops::softmax(&(answers + &behind)?, D::Minus1)?;
        let summed = vectors.broadcast_mul(&shares.unsqueeze(2)?)?.sum(1)?;
        let loudest = vectors.broadcast_add(&behind.unsqueeze(2)?)?.max(1)?;
        let whole = Tensor::cat(&[summed, loudest], 1)?;
        let whole = self.hidden.forward(&whole)?.relu()?;
        let whole = noisy(whole)?;
        let kinds = self.kind.forward(&whole)?;

        let context = whole
            .unsqueeze(1)?
            .broadcast_as((requests, length, WIDTH))?;
        let each = Tensor::cat(&[vectors, context.contiguous()?], 2)?;
        let each = each.reshape((requests * length, 2 * WIDTH))?;
        let labels = self.label.forward(&self.told.forward(&each)?.relu()?)?;
        let labels = labels.reshape((requests, length, LABELS.len()))?;
        Ok((
            candle_nn::ops::log_softmax(&kinds, D::Minus1)?,
            candle_nn::ops::log_softmax(&labels, D::Minus1)?,
        ))
    }
}

impl Block {
    fn forward(&self, vectors: &Tensor, mask: &Tensor, behind: &Tensor) -> Result<Tensor> {
        let (requests, length, _) = vectors.dims3()?;
        let flat = |values: &Tensor, width: usize| values.reshape((requests * length, width));
        let shaped = |values: Tensor| values.reshape((requests, length, WIDTH));

        let normal = self.first.forward(vectors)?.broadcast_mul(mask)?;
        let nothing = normal.narrow(1, 0, 1)?.zeros_like()?;
        let (left, right) = match length {
            1 => (nothing.clone(), nothing),
            _ => (
                Tensor::cat(&[&nothing, &normal.narrow(1, 0, length - 1)?], 1)?,
                Tensor::cat(&[&normal.narrow(1, 1, length - 1)?, &nothing], 1)?,
            ),
        };
        let three = Tensor::cat(&[left, normal, right], 2)?;
        let near = self.neighbours.forward(&flat(&three, 3 * WIDTH)?)?.relu()?;
        let vectors = (vectors + shaped(near)?)?;

        let normal = self.before_all.forward(&vectors)?;
        let parts = self.all.forward(&flat(&normal, WIDTH)?)?;
        let part = |which: usize| {
            parts
                .narrow(1, which * WIDTH, WIDTH)?
                .reshape((requests, length, HEADS, WIDTH / HEADS))?
                .transpose(1, 2)?
                .contiguous()
        };
        #[expect(clippy::cast_precision_loss)]
        let scale = 1.0 / ((WIDTH / HEADS) as f64).sqrt();
        let keys = part(1)?.transpose(2, 3)?.contiguous()?;
        let scores = (part(0)?.matmul(&keys)? * scale)?;
        let behind = behind.reshape((requests, 1, 1, length))?;
        let shares = candle_nn::ops::softmax(&scores.broadcast_add(&behind)?, D::Minus1)?;
        let seen = shares.matmul(&part(2)?)?.transpose(1, 2)?.contiguous()?;
        let seen = self.out.forward(&flat(&seen, WIDTH)?)?;
        let vectors = (vectors + shaped(seen)?)?;

        let normal = self.before_own.forward(&vectors)?;
        let wide = self.wide.forward(&flat(&normal, WIDTH)?)?.relu()?;
        vectors + shaped(self.narrow.forward(&wide)?)?
    }
}

impl Linear {
    fn new<E>(
        name: &str,
        inputs: usize,
        outputs: usize,
        get: Weights<E>,
    ) -> std::result::Result<Self, E> {
        Ok(Linear {
            weight: get(&format!("{name}.weight"), &[inputs, outputs])?,
            bias: get(&format!("{name}.bias"), &[outputs])?,
        })
    }

    fn forward(&self, rows: &Tensor) -> Result<Tensor> {
        rows.matmul(&self.weight)?.broadcast_add(&self.bias)
    }
}

impl Scale {
    /// Brings each vector to length one on the average, then scales its parts.
    fn forward(&self, vectors: &Tensor) -> Result<Tensor> {
        let size = (vectors.sqr()?.mean_keepdim(D::Minus1)? + 1e-5)?.sqrt()?;
        vectors.broadcast_div(&size)?.broadcast_mul(&self.0)
    }
}

/// A shape's count of numbers, for who makes noise or first weights.
#[must_use]
pub fn elements(shape: &[usize]) -> usize {
    Shape::from(shape).elem_count()
}
