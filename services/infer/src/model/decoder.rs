//! A whole decoder: tokens of one or several sequences in, logits out.

use std::sync::{Mutex, PoisonError};

use super::layer::Layer;
use super::rope::Rope;
use super::{Activation, Cache, Config, Error, Linear, Tensors, multiply};
use crate::kernels::{
    Attention, Cut, Isa, Keep, Matrix, Pool, Stretch, Zeroed, add, gelu_product, rms_norm,
    silu_product,
};

/// A loaded model.
pub struct Decoder {
    config: Config,
    isa: Isa,
    embedding: Matrix,
    layers: Vec<Layer>,
    norm: Vec<f32>,
    output: Linear,
    rope: Rope,
    local_rope: Option<Rope>,
    /// Kept from pass to pass, so that memory is not given back and taken again.
    buffers: Mutex<Buffers>,
}

/// Which logits are wanted of some tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// None: more of the prompt follows.
    Nothing,
    /// Those of the token after the last.
    Last,
    /// Those after each token.
    All,
}

/// One sequence's part of a pass.
pub struct Part<'a> {
    /// New tokens, at least one.
    pub tokens: &'a [u32],
    /// What it has seen. There must be room for the tokens.
    pub cache: &'a mut Cache,
    /// Which logits it wants.
    pub wanted: Wanted,
}

/// What a pass computes with, side by side: each begins at a line of the cache.
#[derive(Default)]
struct Buffers(Vec<Cut<f32>>);

impl Buffers {
    /// Buffers of these lengths, with whatever is in them.
    fn sized<const N: usize>(&mut self, lengths: [usize; N]) -> Result<[&mut [f32]; N], Error> {
        let wide = self.0.len() == N
            && self
                .0
                .iter()
                .zip(lengths)
                .all(|(has, length)| has.len() >= length);
        if !wide {
            self.0.clear();
            let room = Zeroed::new(Zeroed::<f32>::together(&lengths)).map_err(Error::Memory)?;
            self.0 = room.cut(&lengths);
        }
        let mut buffers = self.0.iter_mut().zip(lengths);
        Ok(std::array::from_fn(|_| {
            let (buffer, length) = buffers.next().expect("as many as lengths");
            &mut buffer[..length]
        }))
    }
}

/// So many zeros.
fn zeros(length: usize) -> Result<Vec<f32>, Error> {
    let mut zeros = Vec::new();
    (zeros.try_reserve_exact(length)).map_err(|error| Error::Memory(error.into()))?;
    zeros.resize(length, 0.0);
    Ok(zeros)
}

impl Decoder {
    /// Finds the weights of a model whose vocabulary has `vocabulary` tokens. Matrices are read when
    /// they are used first, or by [`Self::prepare`].
    ///
    /// # Errors
    /// When a tensor is missing, of another shape, or unreadable.
    pub fn load(config: Config, vocabulary: usize, tensors: &dyn Tensors) -> Result<Self, Error> {
        let width = config.embedding;
        let embedding = tensors.matrix("token_embd.weight", vocabulary, width)?;
        let output = match tensors.has("output.weight") {
            true => tensors.matrix("output.weight", vocabulary, width)?,
            // Tied: the embedding is read the other way round.
            false => embedding.clone(),
        };
        let local_rope = match config.rope_base_local {
            Some(base) => {
                let local = Config {
                    rope_scale: 1.0,
                    ..config.clone()
                };
                Some(Rope::load(&local, base, tensors)?)
            }
            None => None,
        };
        let decoder = Self {
            isa: Isa::best(),
            embedding,
            layers: (0..config.layers)
                .map(|layer| Layer::load(&config, tensors, layer))
                .collect::<Result<_, Error>>()?,
            norm: tensors.vector("output_norm.weight", width)?,
            output: Linear {
                matrix: output,
                bias: tensors.optional_vector("output.bias", vocabulary)?,
            },
            rope: Rope::load(&config, config.rope_base, tensors)?,
            local_rope,
            buffers: Mutex::default(),
            config,
        };
        let layers = decoder.layers.iter().flat_map(Layer::linears);
        let all = layers.chain([&decoder.output]);
        let all: Vec<&Matrix> = all.map(|linear| &linear.matrix).collect();
        // If there is no room for all at once, each looks for its own when it is packed.
        let _ = Matrix::pack_together(&all);
        Ok(decoder)
    }

    /// The hyperparameters.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Tokens of its vocabulary: logits of one token.
    #[must_use]
    pub fn vocabulary(&self) -> usize {
        self.output.matrix.rows()
    }

    /// Bytes of its matrices once they are packed.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let matrices = self.layers.iter().flat_map(Layer::linears);
        let all = matrices.chain([&self.output]);
        all.map(|linear| linear.matrix.bytes() as u64).sum()
    }

    /// Of these, the bytes that are packed already.
    #[must_use]
    pub fn resident(&self) -> u64 {
        let matrices = self.layers.iter().flat_map(Layer::linears);
        let all = matrices.chain([&self.output]);
        all.map(|linear| linear.matrix.resident() as u64).sum()
    }

    /// Reads and packs what has not been used yet, matrix by matrix; `told` hears how many of how
    /// many are ready, and ends it by answering false.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn prepare(
        &self,
        pool: &Pool,
        told: &mut dyn FnMut(usize, usize) -> bool,
    ) -> Result<(), Error> {
        let layers = self.layers.iter().flat_map(Layer::linears);
        let all: Vec<_> = layers.chain([&self.output]).collect();
        for (index, linear) in all.iter().enumerate() {
            if !told(index, all.len()) {
                return Ok(());
            }
            linear.matrix.prepare(pool).map_err(Error::Weights)?;
        }
        Ok(())
    }

    /// Reads each part's tokens after those in its cache. Returns logits, `vocabulary` numbers each,
    /// for all that was wanted, part by part and token by token.
    ///
    /// # Errors
    /// When the weights cannot be read, there is no memory, or a logit is not finite.
    ///
    /// # Panics
    /// When a part has no tokens or no room for them.
    pub fn forward(&self, pool: &Pool, parts: &mut [Part<'_>]) -> Result<Vec<f32>, Error> {
        let rows = self.rows(pool, parts)?;
        self.logits(pool, &rows)
    }

    /// As [`Self::forward`], but what is returned for each token wanted is its state, normed as before
    /// the logits: as many numbers as the embedding has.
    ///
    /// # Errors
    /// When the weights cannot be read.
    ///
    /// # Panics
    /// As [`Self::forward`].
    pub fn states(&self, pool: &Pool, parts: &mut [Part<'_>]) -> Result<Vec<f32>, Error> {
        let rows = self.rows(pool, parts)?;
        let mut normed = vec![0.0; rows.len()];
        self.norm(pool, &rows, &self.norm, &mut normed);
        Ok(normed)
    }

    /// Reads the parts' tokens; returns the stream's rows of those that are wanted.
    fn rows(&self, pool: &Pool, parts: &mut [Part<'_>]) -> Result<Vec<f32>, Error> {
        let mut buffers = self.buffers.lock().unwrap_or_else(PoisonError::into_inner);
        let config = &self.config;
        let keep = parts.first().map_or(Keep::Halves, |part| part.cache.keep());
        let rows: usize = parts.iter().map(|part| part.tokens.len()).sum();
        let mut spans = Vec::new();
        let mut positions = Vec::new();
        for part in &mut *parts {
            assert!(!part.tokens.is_empty(), "a part has tokens");
            assert_eq!(part.cache.keep(), keep, "caches of one kind");
            assert!(
                part.tokens.len() <= part.cache.left(),
                "room for the tokens"
            );
            let room = part.cache.reserve(part.tokens.len());
            room.map_err(Error::Memory)?;
            let seen = part.cache.tokens();
            let start = positions.len();
            positions.extend(seen..seen + part.tokens.len());
            spans.push((seen, start..positions.len()));
        }
        let angles = self.rope.angles(positions.iter().copied());
        let local = self.local_rope.as_ref();
        let local = local.map(|rope| (rope, rope.angles(positions.iter().copied())));

        let embedding = config.embedding;
        let width = config.heads * config.head_width;
        let [stream, normed, query, key, value, mixed, gate, up, added] = buffers.sized(
            [
                embedding,
                embedding,
                width,
                config.kv_width(),
                config.kv_width(),
                width,
                config.feed_forward,
                config.feed_forward,
                embedding,
            ]
            .map(|columns| rows * columns),
        )?;
        let tokens = parts.iter().flat_map(|part| part.tokens);
        for (row, token) in stream.chunks_exact_mut(embedding).zip(tokens) {
            self.embedding
                .row(*token as usize, row)
                .map_err(Error::Weights)?;
            if config.embedding_scale != 1.0 {
                row.iter_mut()
                    .for_each(|number| *number *= config.embedding_scale);
            }
        }
        for (index, layer) in self.layers.iter().enumerate() {
            let window = config.window(index);
            let (rope, angles) = match &local {
                Some((rope, angles)) if window.is_some() => (*rope, angles),
                _ => (&self.rope, &angles),
            };
            let shape = Attention {
                keep,
                heads: config.heads,
                kv_heads: config.kv_heads,
                width: config.head_width,
                scale: config.attention_scale,
                window,
                cap: config.attention_cap,
                both_ways: false,
            };
            self.norm(pool, stream, &layer.attention_norm, normed);
            let inputs = [
                (&layer.query, &mut *query),
                (&layer.key, key),
                (&layer.value, value),
            ];
            self.multiply(pool, normed, inputs)?;
            self.norm_heads(query, layer.query_norm.as_deref());
            self.norm_heads(key, layer.key_norm.as_deref());
            for (row, heads) in query.chunks_exact_mut(width).enumerate() {
                rope.turn(angles, row, heads);
            }
            for (row, heads) in key.chunks_exact_mut(config.kv_width()).enumerate() {
                rope.turn(angles, row, heads);
            }
            for (part, (seen, rows)) in parts.iter_mut().zip(&spans) {
                for (token, row) in (*seen..).zip(rows.clone()) {
                    let (page, place) = part.cache.page_mut(index, token);
                    let part = row * config.kv_width()..(row + 1) * config.kv_width();
                    shape.put(page, place, &key[part.clone()], &value[part]);
                }
            }
            let stretches: Vec<_> = parts
                .iter()
                .zip(&spans)
                .map(|(part, (seen, rows))| Stretch {
                    pages: part.cache.pages(index),
                    seen: *seen,
                    rows: rows.clone(),
                })
                .collect();
            shape.run(pool, self.isa, query, &stretches, mixed);
            self.multiply(pool, mixed, [(&layer.output, &mut *added)])?;
            self.add_to(
                pool,
                stream,
                added,
                layer.attention_after_norm.as_deref(),
                normed,
            );

            self.norm(pool, stream, &layer.feed_forward_norm, normed);
            self.multiply(pool, normed, [(&layer.gate, &mut *gate), (&layer.up, up)])?;
            match config.activation {
                Activation::Silu => silu_product(pool, self.isa, gate, up, config.feed_forward),
                Activation::Gelu => gelu_product(pool, self.isa, gate, up, config.feed_forward),
            }
            self.multiply(pool, gate, [(&layer.down, &mut *added)])?;
            self.add_to(
                pool,
                stream,
                added,
                layer.feed_forward_after_norm.as_deref(),
                normed,
            );
        }
        for part in &mut *parts {
            part.cache.advance(part.tokens.len());
        }
        let mut last = Vec::new();
        for (part, (_, rows)) in parts.iter().zip(&spans) {
            let wanted = match part.wanted {
                Wanted::Nothing => rows.end..rows.end,
                Wanted::Last => rows.end - 1..rows.end,
                Wanted::All => rows.clone(),
            };
            last.extend_from_slice(&stream[wanted.start * embedding..wanted.end * embedding]);
        }
        Ok(last)
    }

    /// The logits of rows of the stream.
    fn logits(&self, pool: &Pool, rows: &[f32]) -> Result<Vec<f32>, Error> {
        let mut normed = zeros(rows.len())?;
        self.norm(pool, rows, &self.norm, &mut normed);
        let mut logits = zeros(rows.len() / self.config.embedding * self.vocabulary())?;
        if !logits.is_empty() {
            self.multiply(pool, &normed, [(&self.output, &mut logits[..])])?;
        }
        if let Some(cap) = self.config.logit_cap {
            for logit in &mut logits {
                *logit = (*logit / cap).tanh() * cap;
            }
        }
        if logits.iter().any(|logit| !logit.is_finite()) {
            return Err(Error::NotFinite);
        }
        Ok(logits)
    }

    fn norm(&self, pool: &Pool, rows: &[f32], weights: &[f32], out: &mut [f32]) {
        rms_norm(pool, self.isa, rows, weights, self.config.norm_epsilon, out);
    }

    /// Norms each head by itself, in place.
    fn norm_heads(&self, heads: &mut [f32], weights: Option<&[f32]>) {
        let Some(weights) = weights else { return };
        for head in heads.chunks_exact_mut(weights.len()) {
            let squares: f32 = head.iter().map(|number| number * number).sum();
            let mean = squares / head.len() as f32;
            let scale = 1.0 / (mean + self.config.norm_epsilon).sqrt();
            for (number, weight) in head.iter_mut().zip(weights) {
                *number *= scale * weight;
            }
        }
    }

    /// Adds `more` to the stream, normed before where the model says so.
    fn add_to(
        &self,
        pool: &Pool,
        stream: &mut [f32],
        more: &[f32],
        after: Option<&[f32]>,
        normed: &mut [f32],
    ) {
        match after {
            Some(weights) => {
                self.norm(pool, more, weights, normed);
                add(stream, normed);
            }
            None => add(stream, more),
        }
    }

    fn multiply<const N: usize>(
        &self,
        pool: &Pool,
        rows: &[f32],
        outs: [(&Linear, &mut [f32]); N],
    ) -> Result<(), Error> {
        multiply(pool, self.isa, rows, outs)
    }
}
