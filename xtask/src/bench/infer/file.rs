//! Model files of real shapes with seeded weights: speed does not ask what a weight is.

use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::{Context, Result};

/// A model's shape, of the Llama architecture or one like it.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// As people know it.
    pub name: &'static str,
    /// As GGUF names it.
    pub architecture: &'static str,
    pub layers: usize,
    pub embedding: usize,
    pub feed_forward: usize,
    pub heads: usize,
    pub kv_heads: usize,
    pub head_width: usize,
    pub vocabulary: usize,
    /// Whether queries, keys and values have biases.
    pub biases: bool,
}

/// The shapes that are measured.
pub static SHAPES: [Shape; 4] = [
    Shape {
        name: "SmolLM2-135M",
        architecture: "llama",
        layers: 30,
        embedding: 576,
        feed_forward: 1536,
        heads: 9,
        kv_heads: 3,
        head_width: 64,
        vocabulary: 49152,
        biases: false,
    },
    Shape {
        name: "Qwen2.5-0.5B",
        architecture: "qwen2",
        layers: 24,
        embedding: 896,
        feed_forward: 4864,
        heads: 14,
        kv_heads: 2,
        head_width: 64,
        vocabulary: 151_936,
        biases: true,
    },
    Shape {
        name: "Llama-3.2-1B",
        architecture: "llama",
        layers: 16,
        embedding: 2048,
        feed_forward: 8192,
        heads: 32,
        kv_heads: 8,
        head_width: 64,
        vocabulary: 128_256,
        biases: false,
    },
    Shape {
        name: "Llama-3.2-3B",
        architecture: "llama",
        layers: 28,
        embedding: 3072,
        feed_forward: 8192,
        heads: 24,
        kv_heads: 8,
        head_width: 128,
        vocabulary: 128_256,
        biases: false,
    },
];

/// How a file's matrices are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum Mix {
    #[value(name = "q4_0")]
    Q4_0,
    #[value(name = "q8_0")]
    Q8_0,
    #[value(name = "q4_k_m")]
    Q4KM,
    #[value(name = "q6_k")]
    Q6K,
    #[value(name = "f16")]
    F16,
}

impl Mix {
    pub const ALL: [Mix; 5] = [Mix::Q4_0, Mix::Q8_0, Mix::Q4KM, Mix::Q6K, Mix::F16];

    pub fn name(self) -> &'static str {
        match self {
            Mix::Q4_0 => "Q4_0",
            Mix::Q8_0 => "Q8_0",
            Mix::Q4KM => "Q4_K_M",
            Mix::Q6K => "Q6_K",
            Mix::F16 => "F16",
        }
    }
}

/// A tensor's type: its number in the format, and its blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    F32,
    F16,
    Q4_0,
    Q5_0,
    Q8_0,
    Q4K,
    Q6K,
}

impl Kind {
    fn number(self) -> u32 {
        match self {
            Kind::F32 => 0,
            Kind::F16 => 1,
            Kind::Q4_0 => 2,
            Kind::Q5_0 => 6,
            Kind::Q8_0 => 8,
            Kind::Q4K => 12,
            Kind::Q6K => 14,
        }
    }

    /// Columns and bytes of a block.
    fn block(self) -> (usize, usize) {
        match self {
            Kind::F32 => (1, 4),
            Kind::F16 => (1, 2),
            Kind::Q4_0 => (32, 18),
            Kind::Q5_0 => (32, 22),
            Kind::Q8_0 => (32, 34),
            Kind::Q4K => (256, 144),
            Kind::Q6K => (256, 210),
        }
    }

    /// What llama.cpp's quantizer takes where rows are no whole blocks of 256.
    fn fitting(self, columns: usize) -> Kind {
        match self {
            Kind::Q4K if !columns.is_multiple_of(256) => Kind::Q5_0,
            Kind::Q6K if !columns.is_multiple_of(256) => Kind::Q8_0,
            kind => kind,
        }
    }
}

struct Tensor {
    name: String,
    kind: Kind,
    rows: usize,
    columns: usize,
}

impl Tensor {
    fn bytes(&self) -> usize {
        let (columns, bytes) = self.kind.block();
        self.rows * self.columns / columns * bytes
    }
}

/// Numbers that are the same each time (xorshift, seeded).
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

fn tensors(shape: &Shape, mix: Mix) -> Vec<Tensor> {
    let tensor = |name: String, kind: Kind, rows: usize, columns: usize| Tensor {
        name,
        kind: kind.fitting(columns),
        rows,
        columns,
    };
    let usual = match mix {
        Mix::Q4_0 => Kind::Q4_0,
        Mix::Q8_0 => Kind::Q8_0,
        Mix::Q4KM => Kind::Q4K,
        Mix::Q6K => Kind::Q6K,
        Mix::F16 => Kind::F16,
    };
    // llama.cpp's quantizer keeps the output, and with it a tied embedding, finer.
    let output = match mix {
        Mix::Q4_0 | Mix::Q4KM => Kind::Q6K,
        _ => usual,
    };
    let mut all = vec![
        tensor(
            "token_embd.weight".into(),
            output,
            shape.vocabulary,
            shape.embedding,
        ),
        tensor("output_norm.weight".into(), Kind::F32, 1, shape.embedding),
    ];
    let (width, kv) = (
        shape.heads * shape.head_width,
        shape.kv_heads * shape.head_width,
    );
    for layer in 0..shape.layers {
        let eighth = shape.layers / 8;
        let more = layer < eighth
            || layer >= 7 * shape.layers / 8
            || layer.saturating_sub(eighth) % 3 == 2;
        let finer = if mix == Mix::Q4KM && more {
            Kind::Q6K
        } else {
            usual
        };
        let mut add = |part: &str, kind, rows, columns| {
            all.push(tensor(format!("blk.{layer}.{part}"), kind, rows, columns));
        };
        add("attn_norm.weight", Kind::F32, 1, shape.embedding);
        add("attn_q.weight", usual, width, shape.embedding);
        add("attn_k.weight", usual, kv, shape.embedding);
        add("attn_v.weight", finer, kv, shape.embedding);
        if shape.biases {
            add("attn_q.bias", Kind::F32, 1, width);
            add("attn_k.bias", Kind::F32, 1, kv);
            add("attn_v.bias", Kind::F32, 1, kv);
        }
        add("attn_output.weight", usual, shape.embedding, width);
        add("ffn_norm.weight", Kind::F32, 1, shape.embedding);
        add(
            "ffn_gate.weight",
            usual,
            shape.feed_forward,
            shape.embedding,
        );
        add("ffn_up.weight", usual, shape.feed_forward, shape.embedding);
        add(
            "ffn_down.weight",
            finer,
            shape.embedding,
            shape.feed_forward,
        );
    }
    all
}

/// Writes a file of a shape.
pub fn write(path: &Path, shape: &Shape, mix: Mix) -> Result<()> {
    let file = std::fs::File::create(path).with_context(|| format!("create {}", path.display()))?;
    let mut out = BufWriter::with_capacity(1 << 20, file);
    let header = header(shape, &tensors(shape, mix));
    let mut written = header.len();
    out.write_all(&header)?;
    let mut noise = Noise(0x9e37_79b9_7f4a_7c15);
    for tensor in tensors(shape, mix) {
        let padding = written.next_multiple_of(32) - written;
        out.write_all(&vec![0; padding])?;
        written += padding + tensor.bytes();
        weights(&mut out, &tensor, &mut noise)?;
    }
    out.flush()
        .with_context(|| format!("write {}", path.display()))
}

fn weights(out: &mut impl Write, tensor: &Tensor, noise: &mut Noise) -> Result<()> {
    let (columns, bytes) = tensor.kind.block();
    // A magnitude at which sums over a row stay near one.
    let size = 1.0 / (tensor.columns as f32).sqrt();
    let mut block = vec![0_u8; bytes];
    if tensor.kind == Kind::F16 {
        // Of a thousand different numbers: speed does not ask for more, and writing does.
        let numbers: Vec<u8> = (0..1021)
            .flat_map(|_| {
                let random = noise.next();
                half(size * (random as u16 as f32 / 32768.0 - 1.0)).to_le_bytes()
            })
            .collect();
        let mut left = 2 * tensor.rows * tensor.columns;
        while left > 0 {
            let some = left.min(numbers.len());
            out.write_all(&numbers[..some])?;
            left -= some;
        }
        return Ok(());
    }
    for _ in 0..tensor.rows * tensor.columns / columns {
        for eight in block.chunks_mut(8) {
            let random = noise.next().to_le_bytes();
            eight.copy_from_slice(&random[..eight.len()]);
        }
        let scale = |value: f32| half(value).to_le_bytes();
        match tensor.kind {
            Kind::F32 => block.copy_from_slice(&1.0_f32.to_le_bytes()),
            Kind::F16 => {}
            Kind::Q4_0 => block[..2].copy_from_slice(&scale(size / 8.0)),
            Kind::Q5_0 => block[..2].copy_from_slice(&scale(size / 16.0)),
            Kind::Q8_0 => block[..2].copy_from_slice(&scale(size / 128.0)),
            Kind::Q4K => {
                block[..2].copy_from_slice(&scale(size / 256.0));
                block[2..4].copy_from_slice(&scale(size / 32.0));
            }
            Kind::Q6K => block[208..].copy_from_slice(&scale(size / 512.0)),
        }
        out.write_all(&block)?;
    }
    Ok(())
}

/// A normal number below one as a half, rounded towards zero.
fn half(value: f32) -> u16 {
    let bits = value.to_bits();
    let exponent = (bits >> 23 & 255) as i32 - 127 + 15;
    let sign = (bits >> 16 & 0x8000) as u16;
    if exponent <= 0 {
        let whole = bits & 0x7f_ffff | 0x80_0000;
        return sign | (whole >> (14 - exponent).min(31)) as u16;
    }
    sign | (exponent as u16) << 10 | (bits >> 13 & 0x3ff) as u16
}

fn header(shape: &Shape, tensors: &[Tensor]) -> Vec<u8> {
    let text = |out: &mut Vec<u8>, text: &str| {
        out.extend((text.len() as u64).to_le_bytes());
        out.extend(text.as_bytes());
    };
    let mut entries = Vec::new();
    let mut count = 0_u64;
    let mut texts = |entries: &mut Vec<u8>, key: &str, value: &str| {
        text(entries, key);
        entries.extend(8_u32.to_le_bytes());
        text(entries, value);
        count += 1;
    };
    let architecture = shape.architecture;
    texts(&mut entries, "general.architecture", architecture);
    texts(&mut entries, "tokenizer.ggml.model", "gpt2");
    texts(&mut entries, "tokenizer.ggml.pre", "llama-bpe");
    let numbers = [
        ("context_length", 4096),
        ("embedding_length", shape.embedding),
        ("block_count", shape.layers),
        ("feed_forward_length", shape.feed_forward),
        ("attention.head_count", shape.heads),
        ("attention.head_count_kv", shape.kv_heads),
        ("rope.dimension_count", shape.head_width),
    ];
    for (key, value) in numbers {
        text(&mut entries, &format!("{architecture}.{key}"));
        entries.extend(4_u32.to_le_bytes());
        entries.extend((value as u32).to_le_bytes());
    }
    for (key, value) in [
        ("attention.layer_norm_rms_epsilon", 1e-5_f32),
        ("rope.freq_base", 10000.0),
    ] {
        text(&mut entries, &format!("{architecture}.{key}"));
        entries.extend(6_u32.to_le_bytes());
        entries.extend(value.to_le_bytes());
    }
    for (key, value) in [("bos_token_id", 1_u32), ("eos_token_id", 2)] {
        text(&mut entries, &format!("tokenizer.ggml.{key}"));
        entries.extend(4_u32.to_le_bytes());
        entries.extend(value.to_le_bytes());
    }
    // A vocabulary of numbers, and one merge, without which llama.cpp refuses the file.
    text(&mut entries, "tokenizer.ggml.tokens");
    entries.extend(9_u32.to_le_bytes());
    entries.extend(8_u32.to_le_bytes());
    entries.extend((shape.vocabulary as u64).to_le_bytes());
    for token in 0..shape.vocabulary {
        text(&mut entries, &format!("t{token}"));
    }
    text(&mut entries, "tokenizer.ggml.merges");
    entries.extend(9_u32.to_le_bytes());
    entries.extend(8_u32.to_le_bytes());
    entries.extend(1_u64.to_le_bytes());
    text(&mut entries, "t 1");
    count += numbers.len() as u64 + 2 + 2 + 2;

    let mut out = b"GGUF".to_vec();
    out.extend(3_u32.to_le_bytes());
    out.extend((tensors.len() as u64).to_le_bytes());
    out.extend(count.to_le_bytes());
    out.extend(entries);
    let mut offset = 0_u64;
    for tensor in tensors {
        text(&mut out, &tensor.name);
        let vector = tensor.rows == 1;
        out.extend(if vector { 1_u32 } else { 2 }.to_le_bytes());
        out.extend((tensor.columns as u64).to_le_bytes());
        if !vector {
            out.extend((tensor.rows as u64).to_le_bytes());
        }
        out.extend(tensor.kind.number().to_le_bytes());
        out.extend(offset.to_le_bytes());
        offset = (offset + tensor.bytes() as u64).next_multiple_of(32);
    }
    out
}
