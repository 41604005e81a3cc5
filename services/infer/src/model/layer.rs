//! One layer's weights, by the names that GGUF gives them.

use super::{Config, Error, Linear, Tensors};

/// A layer.
pub struct Layer {
    pub attention_norm: Vec<f32>,
    pub query: Linear,
    pub key: Linear,
    pub value: Linear,
    /// Scales each head of the queries (Qwen 3, Gemma 3).
    pub query_norm: Option<Vec<f32>>,
    pub key_norm: Option<Vec<f32>>,
    pub output: Linear,
    /// Of what attention adds to the stream (Gemma 2 and 3).
    pub attention_after_norm: Option<Vec<f32>>,
    pub feed_forward_norm: Vec<f32>,
    pub gate: Linear,
    pub up: Linear,
    pub down: Linear,
    /// Of what the feed-forward part adds to the stream.
    pub feed_forward_after_norm: Option<Vec<f32>>,
}

impl Layer {
    /// Finds a layer's weights. Matrices are not read yet.
    ///
    /// # Errors
    /// When a tensor is missing, of another shape, or unreadable.
    pub fn load(config: &Config, tensors: &dyn Tensors, layer: usize) -> Result<Self, Error> {
        let name = |part: &str, kind: &str| format!("blk.{layer}.{part}.{kind}");
        let norm = |part: &str| tensors.vector(&name(part, "weight"), config.embedding);
        let optional = |part: &str, length| tensors.optional_vector(&name(part, "weight"), length);
        let (embedding, width) = (config.embedding, config.heads * config.head_width);
        let kv_width = config.kv_width();
        let linear = |part: &str, rows, columns| -> Result<Linear, Error> {
            Ok(Linear {
                matrix: tensors.matrix(&name(part, "weight"), rows, columns)?,
                bias: tensors.optional_vector(&name(part, "bias"), rows)?,
            })
        };
        // Some models store matrices of one input in one tensor.
        let part = |whole: &str, all, rows: std::ops::Range<usize>| -> Result<Linear, Error> {
            let bias = tensors.optional_vector(&name(whole, "bias"), all)?;
            Ok(Linear {
                bias: bias.map(|bias| bias[rows.clone()].to_vec()),
                matrix: tensors.part(&name(whole, "weight"), all, rows, embedding)?,
            })
        };
        let (query, key, value) = if tensors.has(&name("attn_qkv", "weight")) {
            let all = width + 2 * kv_width;
            (
                part("attn_qkv", all, 0..width)?,
                part("attn_qkv", all, width..width + kv_width)?,
                part("attn_qkv", all, width + kv_width..all)?,
            )
        } else {
            (
                linear("attn_q", width, embedding)?,
                linear("attn_k", kv_width, embedding)?,
                linear("attn_v", kv_width, embedding)?,
            )
        };
        let inner = config.feed_forward;
        let (gate, up) = if tensors.has(&name("ffn_gate", "weight")) {
            (
                linear("ffn_gate", inner, embedding)?,
                linear("ffn_up", inner, embedding)?,
            )
        } else {
            (
                part("ffn_up", 2 * inner, 0..inner)?,
                part("ffn_up", 2 * inner, inner..2 * inner)?,
            )
        };
        Ok(Self {
            attention_norm: norm("attn_norm")?,
            query,
            key,
            value,
            query_norm: optional("attn_q_norm", config.head_width)?,
            key_norm: optional("attn_k_norm", config.head_width)?,
            output: linear("attn_output", embedding, width)?,
            attention_after_norm: optional("post_attention_norm", embedding)?,
            feed_forward_norm: norm("ffn_norm")?,
            gate,
            up,
            down: linear("ffn_down", embedding, inner)?,
            feed_forward_after_norm: optional("post_ffw_norm", embedding)?,
        })
    }

    /// All its matrices.
    pub fn linears(&self) -> [&Linear; 7] {
        [
            &self.query,
            &self.key,
            &self.value,
            &self.output,
            &self.gate,
            &self.up,
            &self.down,
        ]
    }
}
