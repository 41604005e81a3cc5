//! Names of tensors: Hugging Face's to GGUF's.

/// The name that GGUF has for a decoder's tensor; None for what the engine has no use for. Of Gemma 2 and 3,
/// `sandwich`, a layer norms before and after each of its parts.
pub(super) fn decoder(name: &str, sandwich: bool) -> Option<String> {
    let whole = match name {
        "model.embed_tokens.weight" => "token_embd.weight",
        "model.norm.weight" => "output_norm.weight",
        "lm_head.weight" => "output.weight",
        _ => {
            return layer(name.strip_prefix("model.layers.")?, |part| {
                Some(match part {
                    "input_layernorm" => "attn_norm",
                    "post_attention_layernorm" if sandwich => "post_attention_norm",
                    "post_attention_layernorm" => "ffn_norm",
                    "pre_feedforward_layernorm" => "ffn_norm",
                    "post_feedforward_layernorm" => "post_ffw_norm",
                    "self_attn.q_proj" => "attn_q",
                    "self_attn.k_proj" => "attn_k",
                    "self_attn.v_proj" => "attn_v",
                    "self_attn.qkv_proj" => "attn_qkv",
                    "self_attn.o_proj" => "attn_output",
                    "self_attn.q_norm" => "attn_q_norm",
                    "self_attn.k_norm" => "attn_k_norm",
                    "mlp.gate_proj" => "ffn_gate",
                    "mlp.up_proj" | "mlp.gate_up_proj" => "ffn_up",
                    "mlp.down_proj" => "ffn_down",
                    _ => return None,
                })
            });
        }
    };
    Some(whole.to_owned())
}

/// The name that GGUF has for a tensor of BERT.
pub(super) fn bert(name: &str) -> Option<String> {
    let name = name.strip_prefix("bert.").unwrap_or(name);
    let whole = match name {
        "embeddings.word_embeddings.weight" => "token_embd.weight",
        "embeddings.position_embeddings.weight" => "position_embd.weight",
        "embeddings.token_type_embeddings.weight" => "token_types.weight",
        "embeddings.LayerNorm.weight" => "token_embd_norm.weight",
        "embeddings.LayerNorm.bias" => "token_embd_norm.bias",
        _ => {
            return layer(name.strip_prefix("encoder.layer.")?, |part| {
                Some(match part {
                    "attention.self.query" => "attn_q",
                    "attention.self.key" => "attn_k",
                    "attention.self.value" => "attn_v",
                    "attention.output.dense" => "attn_output",
                    "attention.output.LayerNorm" => "attn_output_norm",
                    "intermediate.dense" => "ffn_up",
                    "output.dense" => "ffn_down",
                    "output.LayerNorm" => "layer_output_norm",
                    _ => return None,
                })
            });
        }
    };
    Some(whole.to_owned())
}

/// `NUMBER.PART.KIND` of a layer.
fn layer(rest: &str, of: impl Fn(&str) -> Option<&'static str>) -> Option<String> {
    let (number, rest) = rest.split_once('.')?;
    let number: u32 = number.parse().ok()?;
    let (part, kind) = rest.rsplit_once('.')?;
    let known = matches!(kind, "weight" | "bias");
    let part = of(part).filter(|_| known)?;
    Some(format!("blk.{number}.{part}.{kind}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_gguf() {
        for (name, sandwich, expected) in [
            ("model.norm.weight", false, Some("output_norm.weight")),
            (
                "model.layers.12.self_attn.q_proj.bias",
                false,
                Some("blk.12.attn_q.bias"),
            ),
            (
                "model.layers.0.post_attention_layernorm.weight",
                true,
                Some("blk.0.post_attention_norm.weight"),
            ),
            (
                "model.layers.0.post_attention_layernorm.weight",
                false,
                Some("blk.0.ffn_norm.weight"),
            ),
            ("model.layers.0.self_attn.rotary_emb.inv_freq", false, None),
            ("model.layers.x.self_attn.q_proj.weight", false, None),
        ] {
            assert_eq!(decoder(name, sandwich).as_deref(), expected, "{name}");
        }
        assert_eq!(
            bert("bert.encoder.layer.3.output.LayerNorm.bias").as_deref(),
            Some("blk.3.layer_output_norm.bias")
        );
        assert_eq!(bert("pooler.dense.weight"), None);
    }
}
