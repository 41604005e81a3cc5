#!/usr/bin/env python3
"""Writes NAME.json for each architecture: what `transformers` computes with seeded weights.

    VENV/bin/pip install torch==2.6.0 transformers==4.57.1 numpy
    VENV/bin/python services/infer/tests/expected/architectures/generate.py

No weights are committed: a tensor is a name, a shape (GGUF's names; rows, then columns), a middle and a spread, and
both sides make its numbers by the same rule (`weights` below, `Rule` in tests/architectures/). The metadata is that
of a GGUF file as llama.cpp's converter would write it, and the tensors have its conventions: llama's query and key
rows in pairs, gemma's norms with their 1 added, phi3's fused matrices, Llama 3.1's factors as `rope_freqs.weight`.

`prompt` is longer than the sliding windows. `logits` are those after each token in `places` of the prompt, `greedy`
the tokens that follow. `margin` is the smallest distance between the best two logits over these choices, `deviation`
the standard deviation of the last logits: the seed is searched so that the margin is not tiny.
"""

import hashlib
import json
import math
import sys
from pathlib import Path

import numpy as np
import torch
import transformers

HERE = Path(__file__).resolve().parent
VOCABULARY = 160
GREEDY = 16
PROMPT = [(7 + 31 * place + place * place) % VOCABULARY for place in range(24)]
PLACES = [0, 11, 23]


def weights(seed: int, name: str, shape: list, middle: float, spread: float) -> np.ndarray:
    """splitmix64 over seed, name and place: the upper 24 bits, as a fraction from -1 to 1, exact in 32 bits."""
    start = int.from_bytes(hashlib.sha256(f"{seed}/{name}".encode()).digest()[:8], "little")
    count = math.prod(shape)
    with np.errstate(over="ignore"):
        z = np.uint64(start) + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    fraction = (z >> np.uint64(40)).astype(np.float32) / np.float32(1 << 23) - np.float32(1)
    return (np.float32(middle) + np.float32(spread) * fraction).reshape(shape)


def tensors_of(arch: str, p: dict) -> dict:
    """Name → [shape, middle, spread]."""
    width, inner, heads, kv, head = p["width"], p["inner"], p["heads"], p["kv_heads"], p["head"]
    spread = lambda columns: round(1.6 / math.sqrt(columns), 4)
    norm = [1.0, 0.25]
    out = {"token_embd.weight": [[VOCABULARY, width], 0.0, p["embedding_spread"]]}
    for layer in range(p["layers"]):
        b = f"blk.{layer}."
        add = lambda name, *shape, s=None: out.update({b + name: [list(shape), 0.0, s or spread(shape[-1])]})
        add_norm = lambda name, size: out.update({b + name: [[size], *norm]})
        add_norm("attn_norm.weight", width)
        add_norm("ffn_norm.weight", width)
        if arch == "phi3":
            add("attn_qkv.weight", (heads + 2 * kv) * head, width)
            add("ffn_up.weight", 2 * inner, width)
        else:
            add("attn_q.weight", heads * head, width)
            add("attn_k.weight", kv * head, width)
            add("attn_v.weight", kv * head, width)
            add("ffn_gate.weight", inner, width)
            add("ffn_up.weight", inner, width)
        add("attn_output.weight", width, heads * head)
        add("ffn_down.weight", width, inner)
        if arch == "qwen2":
            for part, rows in (("q", heads), ("k", kv), ("v", kv)):
                add(f"attn_{part}.bias", rows * head, s=0.5)
        if arch in ("qwen3", "gemma3"):
            add_norm("attn_q_norm.weight", head)
            add_norm("attn_k_norm.weight", head)
        if arch.startswith("gemma"):
            add_norm("post_attention_norm.weight", width)
            add_norm("post_ffw_norm.weight", width)
    out["output_norm.weight"] = [[width], *norm]
    if not p["tied"]:
        out["output.weight"] = [[VOCABULARY, width], 0.0, spread(width)]
    return out


def unpaired(matrix: np.ndarray, heads: int) -> np.ndarray:
    """GGUF's rows of a query or key matrix of llama, in Hugging Face's order."""
    rows, columns = matrix.shape
    return matrix.reshape(heads, rows // heads // 2, 2, columns).swapaxes(1, 2).reshape(rows, columns)


def state(arch: str, p: dict, values: dict) -> dict:
    """The same weights under Hugging Face's names."""
    norm = (lambda v: v - np.float32(1)) if arch.startswith("gemma") else (lambda v: v)
    names = {
        "attn_q.weight": "self_attn.q_proj.weight", "attn_k.weight": "self_attn.k_proj.weight",
        "attn_v.weight": "self_attn.v_proj.weight", "attn_output.weight": "self_attn.o_proj.weight",
        "attn_q.bias": "self_attn.q_proj.bias", "attn_k.bias": "self_attn.k_proj.bias",
        "attn_v.bias": "self_attn.v_proj.bias", "attn_q_norm.weight": "self_attn.q_norm.weight",
        "attn_k_norm.weight": "self_attn.k_norm.weight", "ffn_gate.weight": "mlp.gate_proj.weight",
        "ffn_up.weight": "mlp.up_proj.weight", "ffn_down.weight": "mlp.down_proj.weight",
        "attn_norm.weight": "input_layernorm.weight", "ffn_norm.weight": "post_attention_layernorm.weight",
        "attn_qkv.weight": "self_attn.qkv_proj.weight",
    }
    if arch == "phi3":
        names["ffn_up.weight"] = "mlp.gate_up_proj.weight"
    if arch.startswith("gemma"):
        names["ffn_norm.weight"] = "pre_feedforward_layernorm.weight"
        names["post_attention_norm.weight"] = "post_attention_layernorm.weight"
        names["post_ffw_norm.weight"] = "post_feedforward_layernorm.weight"
    out = {}
    for name, value in values.items():
        if "norm" in name:
            value = norm(value)
        if name == "token_embd.weight":
            out["model.embed_tokens.weight"] = value
        elif name == "output_norm.weight":
            out["model.norm.weight"] = value
        elif name == "output.weight":
            out["lm_head.weight"] = value
        elif name.startswith("blk."):
            _, layer, rest = name.split(".", 2)
            if arch == "llama" and rest in ("attn_q.weight", "attn_k.weight"):
                value = unpaired(value, p["heads"] if rest == "attn_q.weight" else p["kv_heads"])
            out[f"model.layers.{layer}.{names[rest]}"] = value
    return {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in out.items()}


def metadata(arch: str, p: dict) -> dict:
    out = {
        "general.architecture": arch,
        f"{arch}.block_count": p["layers"],
        f"{arch}.context_length": 512,
        f"{arch}.embedding_length": p["width"],
        f"{arch}.feed_forward_length": p["inner"],
        f"{arch}.attention.head_count": p["heads"],
        f"{arch}.attention.head_count_kv": p["kv_heads"],
        f"{arch}.attention.layer_norm_rms_epsilon": p["epsilon"],
        f"{arch}.rope.freq_base": p["rope"],
        f"{arch}.vocab_size": VOCABULARY,
    }
    if p["head"] * p["heads"] != p["width"]:
        out[f"{arch}.attention.key_length"] = p["head"]
        out[f"{arch}.attention.value_length"] = p["head"]
    if arch in ("llama", "phi3"):
        out[f"{arch}.rope.dimension_count"] = p["head"]
    if "window" in p:
        out[f"{arch}.attention.sliding_window"] = p["window"]
    if "rope_factor" in p:
        out[f"{arch}.rope.scaling.type"] = "linear"
        out[f"{arch}.rope.scaling.factor"] = p["rope_factor"]
    if arch == "gemma2":
        out["gemma2.attn_logit_softcapping"] = p["attention_cap"]
        out["gemma2.final_logit_softcapping"] = p["final_cap"]
    return out


def config(p: dict, **more) -> dict:
    out = dict(
        vocab_size=VOCABULARY, hidden_size=p["width"], intermediate_size=p["inner"], num_hidden_layers=p["layers"],
        num_attention_heads=p["heads"], num_key_value_heads=p["kv_heads"], head_dim=p["head"], rms_norm_eps=p["epsilon"],
        rope_theta=p["rope"], max_position_embeddings=512, tie_word_embeddings=p["tied"], attn_implementation="eager",
        bos_token_id=1, eos_token_id=2, pad_token_id=0,
    )
    out.update(more)
    return out


BASE = dict(embedding_spread=1.0, width=64, inner=96, heads=4, kv_heads=2, head=16, layers=2, epsilon=1e-5, rope=10000.0, tied=False)
LLAMA3_ROPE = dict(rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
                   original_max_position_embeddings=64)
GEMMA = dict(BASE, head=32, tied=True, epsilon=1e-6, embedding_spread=0.05)

# Name → (GGUF's architecture, shape, what transformers builds of it).
MODELS = {
    "llama": ("llama", BASE, lambda p: transformers.LlamaConfig(**config(p))),
    "llama-3": ("llama", dict(BASE, embedding_spread=0.2, tied=True, rope=500000.0),
                lambda p: transformers.LlamaConfig(**config(p, rope_scaling=LLAMA3_ROPE))),
    # Mistral's files say llama; newer ones have heads that are not width / count.
    "mistral": ("llama", dict(BASE, head=32, rope=1000000.0),
                lambda p: transformers.MistralConfig(**config(p, sliding_window=None))),
    "qwen2": ("qwen2", dict(BASE, embedding_spread=0.2, tied=True, epsilon=1e-6, rope=1000000.0),
              lambda p: transformers.Qwen2Config(**config(p))),
    "qwen3": ("qwen3", dict(BASE, embedding_spread=0.2, head=32, tied=True, epsilon=1e-6, rope=1000000.0),
              lambda p: transformers.Qwen3Config(**config(p))),
    "gemma2": ("gemma2", dict(GEMMA, layers=3, window=8, attention_cap=2.0, final_cap=1.0),
               lambda p: transformers.Gemma2Config(**config(
                   p, sliding_window=p["window"], attn_logit_softcapping=p["attention_cap"],
                   final_logit_softcapping=p["final_cap"], query_pre_attn_scalar=p["head"],
                   hidden_activation="gelu_pytorch_tanh"))),
    "gemma3": ("gemma3", dict(GEMMA, layers=7, window=8, rope=1000000.0, rope_factor=8.0),
               lambda p: transformers.Gemma3TextConfig(**config(
                   p, sliding_window=p["window"], rope_local_base_freq=10000.0, query_pre_attn_scalar=p["head"],
                   rope_scaling=dict(rope_type="linear", factor=p["rope_factor"]),
                   hidden_activation="gelu_pytorch_tanh"))),
    "phi3": ("phi3", BASE, lambda p: transformers.Phi3Config(**config(p, sliding_window=None))),
}


def llama3_factors(p: dict) -> list:
    """As llama.cpp's converter makes them."""
    r, out = LLAMA3_ROPE, []
    for place in range(0, p["head"], 2):
        frequency = 1.0 / p["rope"] ** (place / p["head"])
        length = 2 * math.pi / frequency
        old = r["original_max_position_embeddings"]
        if length < old / r["high_freq_factor"]:
            out.append(1.0)
        elif length > old / r["low_freq_factor"]:
            out.append(r["factor"])
        else:
            smooth = (old / length - r["low_freq_factor"]) / (r["high_freq_factor"] - r["low_freq_factor"])
            out.append(1.0 / ((1 - smooth) / r["factor"] + smooth))
    return [float(np.float32(factor)) for factor in out]


def compute(name: str, seed: int) -> dict:
    arch, p, build = MODELS[name]
    shapes = tensors_of(arch, p)
    values = {n: weights(seed, n, *rule) for n, rule in shapes.items()}
    model = transformers.AutoModelForCausalLM.from_config(build(p)).float().eval()
    missing, unexpected = model.load_state_dict(state(arch, p, values), strict=False)
    assert not unexpected, unexpected
    assert all(n == "lm_head.weight" and p["tied"] for n in missing), missing
    model.tie_weights()
    model = model.double()
    tokens, margin = list(PROMPT), math.inf
    with torch.no_grad():
        for step in range(GREEDY):
            logits = model(torch.tensor([tokens]), use_cache=False).logits[0]
            if step == 0:
                expected = [[round(x, 5) for x in logits[place].tolist()] for place in PLACES]
                deviation = logits[-1].std().item()
            best = logits[-1].topk(2).values
            margin = min(margin, (best[0] - best[1]).item())
            tokens.append(int(logits[-1].argmax()))
    out = dict(seed=seed, metadata=metadata(arch, p), vocabulary=VOCABULARY, tensors=shapes)
    if name == "llama-3":
        out["listed"] = {"rope_freqs.weight": llama3_factors(p)}
    out.update(prompt=PROMPT, places=PLACES, logits=expected, greedy=tokens[len(PROMPT):],
               margin=round(margin, 5), deviation=round(deviation, 5))
    return out


def main() -> None:
    for name in sys.argv[1:] or MODELS:
        best = None
        for seed in range(1, 40):
            found = compute(name, seed)
            # An answer that says one thing for ever shows little.
            if len(set(found["greedy"])) < 5:
                continue
            if (best is None or found["margin"] / found["deviation"] > best["margin"] / best["deviation"]):
                best = found
            if best and best["margin"] > 0.06 * best["deviation"]:
                break
        assert best, f"{name}: every answer is dull"
        lines = ",\n".join(f'"{key}": {json.dumps(value)}' for key, value in best.items())
        (HERE / f"{name}.json").write_text("{" + lines + "}\n")
        print(name, "seed", best["seed"], "margin", best["margin"], "deviation", best["deviation"], best["greedy"])


if __name__ == "__main__":
    main()
