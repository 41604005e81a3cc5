//! Encoders of BERT's family: all tokens of a text in, one vector out. Every token sees every other.

use super::rope::Rope;
use super::{Error, Linear, Pairing, Pooling, Tensors, multiply, pooling};
use crate::gguf::{Metadata, required};
use crate::kernels::{
    Attention, Isa, Keep, Matrix, PAGE, Pool, Stretch, add, gelu_exact, layer_norm, silu_product,
};

/// The encoders that the engine has, as GGUF names them.
const ARCHITECTURES: [&str; 2] = ["bert", "nomic-bert"];

/// Bounds on single dimensions, as for decoders.
const MAX_DIMENSION: usize = 1 << 20;

/// What an encoder is made of.
#[derive(Debug, Clone, PartialEq)]
pub struct EncoderConfig {
    /// As GGUF names it.
    pub architecture: String,
    /// Width of the residual stream, and of the vector.
    pub embedding: usize,
    /// Count of layers.
    pub layers: usize,
    /// Width inside the feed-forward part.
    pub feed_forward: usize,
    /// Heads.
    pub heads: usize,
    /// Longest text in tokens.
    pub context: usize,
    /// Keeps the norm from dividing by zero.
    pub norm_epsilon: f32,
    /// How the vector is made of the tokens' states.
    pub pooling: Pooling,
    /// Base of the rotary frequencies, for models that turn instead of adding positions.
    pub rope_base: Option<f64>,
}

impl EncoderConfig {
    /// Whether an architecture is an encoder.
    #[must_use]
    pub fn knows(architecture: &str) -> bool {
        ARCHITECTURES.contains(&architecture)
    }

    /// Reads the hyperparameters.
    ///
    /// # Errors
    /// When the architecture is another one, or a value is missing, absurd or not supported.
    pub fn read(metadata: &Metadata) -> Result<Self, Error> {
        let key = "general.architecture";
        let architecture = required(key, metadata.text(key)?)?.to_owned();
        if !Self::knows(&architecture) {
            return Err(Error::Architecture {
                found: architecture,
                allowed: ARCHITECTURES.join(", "),
            });
        }
        let dimension = |key: &str| {
            let key = format!("{architecture}.{key}");
            let found = required(&key, metadata.number(&key)?)?;
            match found {
                1..=MAX_DIMENSION => Ok(found),
                _ => Err(Error::unsupported(
                    key,
                    found,
                    format!("1 to {MAX_DIMENSION}"),
                )),
            }
        };
        let (embedding, heads) = (
            dimension("embedding_length")?,
            dimension("attention.head_count")?,
        );
        if embedding % heads != 0 || embedding / heads % 8 != 0 {
            return Err(Error::unsupported(
                format!("{architecture}.attention.head_count"),
                heads,
                format!("a divisor of the embedding length {embedding} into multiples of 8"),
            ));
        }
        let key = format!("{architecture}.attention.layer_norm_epsilon");
        let norm_epsilon = required(&key, metadata.float(&key)?)?;
        if !(0.0..1.0).contains(&norm_epsilon) {
            return Err(Error::unsupported(key, norm_epsilon, "from 0 to 1"));
        }
        let key = format!("{architecture}.rope.freq_base");
        let rope_base = metadata
            .float(&key)?
            .filter(|_| architecture == "nomic-bert");
        let rope_base = rope_base.or((architecture == "nomic-bert").then_some(10000.0));
        if let Some(base) = rope_base.filter(|&base| base <= 1.0) {
            return Err(Error::unsupported(key, base, "more than 1"));
        }
        Ok(Self {
            embedding,
            layers: dimension("block_count")?,
            feed_forward: dimension("feed_forward_length")?,
            heads,
            context: dimension("context_length")?,
            norm_epsilon: norm_epsilon as f32,
            pooling: Pooling::read(metadata, &architecture)?.unwrap_or(Pooling::Mean),
            rope_base,
            architecture,
        })
    }

    fn head_width(&self) -> usize {
        self.embedding / self.heads
    }
}

/// A norm's weights and what it adds.
struct Norm {
    weights: Vec<f32>,
    bias: Vec<f32>,
}

impl Norm {
    fn load(tensors: &dyn Tensors, name: &str, width: usize) -> Result<Self, Error> {
        Ok(Self {
            weights: tensors.vector(&format!("{name}.weight"), width)?,
            bias: tensors.vector(&format!("{name}.bias"), width)?,
        })
    }
}

struct Layer {
    query: Linear,
    key: Linear,
    value: Linear,
    output: Linear,
    attention_norm: Norm,
    /// Multiplied with `up` (nomic's); others bend `up` itself.
    gate: Option<Linear>,
    up: Linear,
    down: Linear,
    norm: Norm,
}

impl Layer {
    fn load(config: &EncoderConfig, tensors: &dyn Tensors, layer: usize) -> Result<Self, Error> {
        let (width, inner) = (config.embedding, config.feed_forward);
        let name = |part: &str| format!("blk.{layer}.{part}");
        let linear = |part: &str, all: usize, rows: std::ops::Range<usize>, columns| {
            let bias = tensors.optional_vector(&name(&format!("{part}.bias")), all)?;
            Ok::<_, Error>(Linear {
                bias: bias.map(|bias| bias[rows.clone()].to_vec()),
                matrix: tensors.part(&name(&format!("{part}.weight")), all, rows, columns)?,
            })
        };
        let whole = |part: &str, rows, columns| linear(part, rows, 0..rows, columns);
        let of_qkv = |place: usize, own: &str| match tensors.has(&name("attn_qkv.weight")) {
            true => linear(
                "attn_qkv",
                3 * width,
                place * width..(place + 1) * width,
                width,
            ),
            false => whole(own, width, width),
        };
        let gated = tensors.has(&name("ffn_gate.weight"));
        Ok(Self {
            query: of_qkv(0, "attn_q")?,
            key: of_qkv(1, "attn_k")?,
            value: of_qkv(2, "attn_v")?,
            output: whole("attn_output", width, width)?,
            attention_norm: Norm::load(tensors, &name("attn_output_norm"), width)?,
            gate: gated.then(|| whole("ffn_gate", inner, width)).transpose()?,
            up: whole("ffn_up", inner, width)?,
            down: whole("ffn_down", width, inner)?,
            norm: Norm::load(tensors, &name("layer_output_norm"), width)?,
        })
    }

    fn linears(&self) -> impl Iterator<Item = &Linear> {
        let attention = [&self.query, &self.key, &self.value, &self.output];
        let rest = [&self.up, &self.down];
        attention.into_iter().chain(&self.gate).chain(rest)
    }
}

/// A loaded encoder.
pub struct Encoder {
    config: EncoderConfig,
    isa: Isa,
    tokens: Matrix,
    /// Added to each token's embedding, by its place: context × width. None where positions are turned.
    positions: Option<Vec<f32>>,
    /// Added to every token's: a text alone is of the first type.
    kind: Option<Vec<f32>>,
    norm: Norm,
    layers: Vec<Layer>,
    rope: Option<Rope>,
}

impl Encoder {
    /// Finds the weights of a model whose vocabulary has `vocabulary` tokens. Matrices are read when
    /// they are used first.
    ///
    /// # Errors
    /// When a tensor is missing, of another shape, or unreadable.
    pub fn load(
        config: EncoderConfig,
        vocabulary: usize,
        tensors: &dyn Tensors,
    ) -> Result<Self, Error> {
        let width = config.embedding;
        // Positions beyond the context are of no use.
        let rows_of = |name: &str, used: usize| -> Result<Vec<f32>, Error> {
            let all = tensors.find(name);
            let all = all
                .and_then(|stored| stored.shape.first().copied())
                .unwrap_or(used);
            let matrix = tensors.part(name, all.max(used), 0..used, width)?;
            let mut rows = vec![0.0; used * width];
            for (row, to) in rows.chunks_exact_mut(width).enumerate() {
                matrix.row(row, to).map_err(Error::Weights)?;
            }
            Ok(rows)
        };
        let types = "token_types.weight";
        Ok(Self {
            isa: Isa::best(),
            tokens: tensors.matrix("token_embd.weight", vocabulary, width)?,
            positions: match config.rope_base {
                None => Some(rows_of("position_embd.weight", config.context)?),
                Some(_) => None,
            },
            kind: match tensors.has(types) {
                true => Some(rows_of(types, 1)?),
                false => None,
            },
            norm: Norm::load(tensors, "token_embd_norm", width)?,
            layers: (0..config.layers)
                .map(|layer| Layer::load(&config, tensors, layer))
                .collect::<Result<_, Error>>()?,
            rope: config
                .rope_base
                .map(|base| Rope::plain(config.head_width(), base, Pairing::Halves)),
            config,
        })
    }

    /// The hyperparameters.
    #[must_use]
    pub fn config(&self) -> &EncoderConfig {
        &self.config
    }

    /// Bytes of its matrices once they are packed, and of its positions.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let matrices = self.layers.iter().flat_map(Layer::linears);
        let matrices: u64 = matrices.map(|linear| linear.matrix.bytes() as u64).sum();
        let positions = self.positions.as_ref().map_or(0, Vec::len);
        matrices + (positions * size_of::<f32>()) as u64
    }

    /// Of these, the bytes that are in memory.
    #[must_use]
    pub fn resident(&self) -> u64 {
        let matrices = self.layers.iter().flat_map(Layer::linears);
        let matrices: u64 = matrices.map(|linear| linear.matrix.resident() as u64).sum();
        let positions = self.positions.as_ref().map_or(0, Vec::len);
        matrices + (positions * size_of::<f32>()) as u64
    }

    /// One vector for each text, not scaled yet. All texts are read in one pass.
    ///
    /// # Errors
    /// When the weights cannot be read.
    ///
    /// # Panics
    /// When a text has no tokens, or more than the context.
    pub fn forward(&self, pool: &Pool, texts: &[&[u32]]) -> Result<Vec<pooling::Pooled>, Error> {
        let config = &self.config;
        let (width, head) = (config.embedding, config.head_width());
        let mut spans = Vec::with_capacity(texts.len());
        for text in texts {
            assert!(
                (1..=config.context).contains(&text.len()),
                "a text's tokens"
            );
            let start = spans
                .last()
                .map_or(0, |span: &std::ops::Range<usize>| span.end);
            spans.push(start..start + text.len());
        }
        let rows = spans.last().map_or(0, |span| span.end);
        let mut stream = vec![0.0; rows * width];
        let places = texts.iter().flat_map(|text| text.iter().enumerate());
        for (row, (place, token)) in stream.chunks_exact_mut(width).zip(places) {
            let read = self.tokens.row(*token as usize, row);
            read.map_err(Error::Weights)?;
            if let Some(positions) = &self.positions {
                add(row, &positions[place * width..][..width]);
            }
            if let Some(kind) = &self.kind {
                add(row, kind);
            }
        }
        self.norm(pool, &mut stream, &self.norm);

        let angles = self.rope.as_ref().map(|rope| {
            let places = texts.iter().flat_map(|text| 0..text.len());
            (rope, rope.angles(places))
        });
        let shape = Attention {
            heads: config.heads,
            kv_heads: config.heads,
            width: head,
            keep: Keep::Floats,
            scale: 1.0 / (head as f32).sqrt(),
            window: None,
            cap: None,
            both_ways: true,
        };
        let pages = texts.iter().map(|text| text.len().div_ceil(PAGE));
        let mut pages: Vec<Vec<u16>> = pages
            .map(|count| vec![0; count * shape.page_words()])
            .collect();
        let sized = |columns: usize| vec![0.0; rows * columns];
        let (mut query, mut key, mut value) = (sized(width), sized(width), sized(width));
        let (mut mixed, mut added) = (sized(width), sized(width));
        let mut up = sized(config.feed_forward);
        let gated = self.layers.iter().any(|layer| layer.gate.is_some());
        let mut gate = sized(if gated { config.feed_forward } else { 0 });

        for layer in &self.layers {
            let inputs = [
                (&layer.query, &mut query[..]),
                (&layer.key, &mut key[..]),
                (&layer.value, &mut value[..]),
            ];
            multiply(pool, self.isa, &stream, inputs)?;
            if let Some((rope, angles)) = &angles {
                for side in [&mut query, &mut key] {
                    for (row, heads) in side.chunks_exact_mut(width).enumerate() {
                        rope.turn(angles, row, heads);
                    }
                }
            }
            for (pages, span) in pages.iter_mut().zip(&spans) {
                for (place, row) in span.clone().enumerate() {
                    let page = &mut pages[place / PAGE * shape.page_words()..];
                    let part = row * width..(row + 1) * width;
                    let page = &mut page[..shape.page_words()];
                    shape.put(page, place % PAGE, &key[part.clone()], &value[part]);
                }
            }
            let stretches: Vec<_> = pages
                .iter()
                .zip(&spans)
                .map(|(pages, span)| Stretch {
                    pages: pages.chunks_exact(shape.page_words()).collect(),
                    seen: 0,
                    rows: span.clone(),
                })
                .collect();
            shape.run(pool, self.isa, &query, &stretches, &mut mixed);
            multiply(pool, self.isa, &mixed, [(&layer.output, &mut added[..])])?;
            add(&mut stream, &added);
            self.norm(pool, &mut stream, &layer.attention_norm);

            let inner = match &layer.gate {
                None => {
                    multiply(pool, self.isa, &stream, [(&layer.up, &mut up[..])])?;
                    gelu_exact(pool, self.isa, &mut up, config.feed_forward);
                    &up
                }
                Some(linear) => {
                    let inputs = [(linear, &mut gate[..]), (&layer.up, &mut up[..])];
                    multiply(pool, self.isa, &stream, inputs)?;
                    silu_product(pool, self.isa, &mut gate, &up, config.feed_forward);
                    &gate
                }
            };
            multiply(pool, self.isa, inner, [(&layer.down, &mut added[..])])?;
            add(&mut stream, &added);
            self.norm(pool, &mut stream, &layer.norm);
        }
        let pooled = spans.into_iter().map(|span| {
            let mut pooled = pooling::Pooled::new(config.pooling, width);
            pooled.add(&stream[span.start * width..span.end * width]);
            pooled
        });
        Ok(pooled.collect())
    }

    fn norm(&self, pool: &Pool, rows: &mut [f32], norm: &Norm) {
        let epsilon = self.config.norm_epsilon;
        layer_norm(pool, self.isa, rows, &norm.weights, &norm.bias, epsilon);
    }
}
