#!/usr/bin/env python3
"""Writes the tiny models that the tests of `kos-infer`, the clients' and the end-to-end tests load.

    python3 -m venv VENV && VENV/bin/pip install numpy==2.4.6 gguf==0.19.0
    VENV/bin/python tests/models/generate.py

The weights are seeded noise, scaled so that attention, position and the feed-forward part all
matter and so that greedy choices are far apart (`expected.py` records how far). Nothing in these
files comes from a trained model. The same versions give the same bytes; SHA256SUMS is rewritten.

Each file of a Llama model is a different corner: weight types, tied or separate output, both
tokenizer families, grouped heads, and the rope factors of Llama 3.1. `tiny-bert` makes vectors.
"""

import hashlib
import sys
from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Type

HERE = Path(__file__).resolve().parent

# What the merges of the byte-level vocabulary are learned from.
TEXT = """
The box wakes up, counts its cores and mounts what it needs. A small kernel hands over to one
program, and that program starts the others, each in a room of its own. When a service falls, it
is started again, a little later each time; when it falls too often, it is left alone and the
reason is kept. Nothing is lost without a word. The model reads a prompt, one token after the
other, and answers in the same way. There is no shell here, no package manager, and no password
that everyone knows. You may turn it off at any time; it will be there when you come back. What is
the weather like in the house? It is warm in the kitchen and cold in the hall, and the old cat
sleeps on the stairs. The answer to the question is forty-two, as it has been for a long time.
"""

TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "<|start_header_id|>{{ message['role'] }}<|end_header_id|>\n\n"
    "{{ message['content'] | trim }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)

TEMPLATE_LLAMA = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message['role'] == 'user' %}[INST] {{ message['content'].strip() }} [/INST]"
    "{% elif message['role'] == 'assistant' %} {{ message['content'] }}{{ eos_token }}"
    "{% else %}<<SYS>>{{ message['content'] }}<</SYS>>\n{% endif %}{% endfor %}"
)


@dataclass
class Shape:
    """The dimensions of one model and how its weights are stored."""

    name: str
    seed: int
    embedding: int
    layers: int
    heads: int
    kv_heads: int
    feed_forward: int
    weights: Type
    # Types of single tensors, as real mixed files have them, by the end of the tensor's name.
    special: dict
    tied: bool = True
    tokenizer: str = "gpt2"
    rope_factors: bool = False
    context: int = 512


# The seeds are those of 1 to 40 whose greedy choices are farthest apart (see expected.py).
SHAPES = [
    Shape("tiny-f32", 20, 64, 2, 4, 2, 128, Type.F32, {}, tokenizer="llama", rope_factors=True),
    Shape("tiny-f16", 1, 64, 2, 4, 1, 128, Type.F16, {}),
    Shape("tiny-q4_0", 11, 64, 2, 4, 2, 128, Type.Q4_0, {"output.weight": Type.Q8_0}, tied=False),
    Shape("tiny-q8_0", 37, 256, 1, 4, 2, 256, Type.Q8_0, {}),
    Shape(
        "tiny-q4_k", 27, 256, 2, 4, 2, 256, Type.Q4_K,
        {"token_embd.weight": Type.Q6_K, "attn_v.weight": Type.Q6_K, "ffn_down.weight": Type.Q6_K},
    ),
    Shape("tiny-q6_k", 28, 256, 1, 8, 2, 256, Type.Q6_K, {}),
    # What remains: of blocks of 32 and of 256.
    Shape(
        "tiny-mix_32", 40, 64, 2, 4, 2, 128, Type.Q5_1,
        {"token_embd.weight": Type.Q8_0, "attn_v.weight": Type.Q5_0, "ffn_down.weight": Type.Q4_1},
    ),
    Shape(
        "tiny-mix_k", 32, 256, 1, 4, 2, 256, Type.Q3_K,
        {"token_embd.weight": Type.Q6_K, "attn_v.weight": Type.Q5_K, "ffn_down.weight": Type.Q5_K,
         "ffn_up.weight": Type.Q2_K},
    ),
]

# An encoder, with the types that converted files have: places and kinds stay 32-bit floats.
BERT = Shape(
    "tiny-bert", 5, 64, 2, 4, 4, 128, Type.F16,
    {"position_embd.weight": Type.F32, "token_types.weight": Type.F32},
    tokenizer="bert", context=64,
)


# --- vocabularies -----------------------------------------------------------------------------


def byte_letters() -> dict[int, str]:
    """GPT-2's printable letter for each byte."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = {byte: chr(byte) for byte in printable}
    for shift, byte in enumerate(byte for byte in range(256) if byte not in letters):
        letters[byte] = chr(256 + shift)
    return letters


def learn_merges(count: int) -> list[tuple[str, str]]:
    """Plain byte-pair encoding over TEXT; ties go to the pair that sorts first."""
    letters = byte_letters()
    words = [
        [letters[byte] for byte in (" " + word).encode()] for word in TEXT.split()
    ] + [[letters[byte] for byte in word.encode()] for word in TEXT.split()]
    merges = []
    while len(merges) < count:
        pairs: dict[tuple[str, str], int] = {}
        for word in words:
            for pair in zip(word, word[1:]):
                pairs[pair] = pairs.get(pair, 0) + 1
        best = max(sorted(pairs), key=lambda pair: pairs[pair])
        merges.append(best)
        for word in words:
            place = 0
            while place + 1 < len(word):
                if (word[place], word[place + 1]) == best:
                    word[place : place + 2] = [word[place] + word[place + 1]]
                place += 1
    return merges


def vocabulary_gpt2(writer: gguf.GGUFWriter) -> list[str]:
    """256 bytes, 119 merges and 9 special tokens: 384, which the tiled kernels can use."""
    merges = learn_merges(119)
    letters = byte_letters()
    tokens = [letters[byte] for byte in range(256)] + [left + right for left, right in merges]
    kinds = [gguf.TokenType.NORMAL] * len(tokens)
    special = [
        "<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>",
        "<|eot_id|>", "<|reserved_0|>", "<|reserved_1|>", "<|reserved_2|>",
    ]
    first = len(tokens)
    tokens += special
    kinds += [gguf.TokenType.CONTROL] * len(special)
    tokens.append("<note>")
    kinds.append(gguf.TokenType.USER_DEFINED)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("llama-bpe")
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges([f"{left} {right}" for left, right in merges])
    writer.add_bos_token_id(first)
    writer.add_eos_token_id(first + 1)
    writer.add_eot_token_id(first + 4)
    writer.add_add_bos_token(True)
    writer.add_chat_template(TEMPLATE)
    return tokens


def vocabulary_llama(writer: gguf.GGUFWriter) -> list[str]:
    """SentencePiece: control tokens, 256 byte tokens, letters, and pieces with scores."""
    tokens = ["<unk>", "<s>", "</s>"]
    kinds = [gguf.TokenType.UNKNOWN, gguf.TokenType.CONTROL, gguf.TokenType.CONTROL]
    scores = [0.0, 0.0, 0.0]
    for byte in range(256):
        tokens.append(f"<0x{byte:02X}>")
        kinds.append(gguf.TokenType.BYTE)
        scores.append(0.0)
    backward = {letter: byte for byte, letter in byte_letters().items()}
    pieces = []
    for left, right in learn_merges(80):
        text = bytes(backward[letter] for letter in left + right).decode()
        pieces.append(text.replace(" ", "\u2581"))
    letters = sorted({letter for letter in TEXT if letter not in " \n"} | {"\u2581"})
    for place, piece in enumerate(dict.fromkeys(pieces + letters)):
        tokens.append(piece)
        kinds.append(gguf.TokenType.NORMAL)
        scores.append(-float(place))
    while len(tokens) % 16:
        tokens.append(f"<|reserved_{len(tokens)}|>")
        kinds.append(gguf.TokenType.CONTROL)
        scores.append(0.0)
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_scores(scores)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_add_bos_token(True)
    writer.add_add_eos_token(False)
    writer.add_chat_template(TEMPLATE_LLAMA)
    return tokens


def vocabulary_bert(writer: gguf.GGUFWriter) -> list[str]:
    """WordPiece: marks, every small letter, digit and sign, and pieces. What begins a word has U+2581."""
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    kinds = [gguf.TokenType.CONTROL] * len(tokens)
    signs = [chr(sign) for sign in range(33, 127) if not chr(sign).isupper()]
    pieces = ["\u2581" + sign for sign in signs] + [sign for sign in signs if sign.isalnum()]
    for left, right in learn_merges(100):
        piece = (left + right).replace("\u0120", "\u2581")
        if piece.lstrip("\u2581").isalnum():
            pieces.append(piece.lower())
    pieces = list(dict.fromkeys(pieces))
    tokens += pieces
    kinds += [gguf.TokenType.NORMAL] * len(pieces)
    writer.add_tokenizer_model("bert")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_pad_token_id(0)
    writer.add_unk_token_id(1)
    writer.add_bos_token_id(2)
    writer.add_sep_token_id(3)
    writer.add_mask_token_id(4)
    return tokens


def speakable(token: str) -> bool:
    """Whether a greedy answer may hold the token: readable, and never the end of the text."""
    if token.startswith("<") and token.endswith(">"):
        return False
    return all(33 <= ord(letter) < 127 or letter in "\u0120\u2581" for letter in token)


# --- weights ----------------------------------------------------------------------------------


def halves(values: np.ndarray) -> np.ndarray:
    """Rounds to what a 16-bit float holds."""
    return values.astype(np.float16).astype(np.float32)


def quantize_q6_k(rows: np.ndarray) -> np.ndarray:
    """256 weights in 210 bytes: 16 signed scales of 8 bits, quants of 6 bits around 32."""
    blocks = rows.reshape(-1, 16, 16)
    scale = np.abs(blocks).max(axis=2) / 31.0
    super_scale = halves(np.maximum(scale.max(axis=1, keepdims=True) / 127.0, 1e-8))
    scales = np.clip(np.rint(scale / super_scale), 1, 127)
    quants = np.rint(blocks / (scales * super_scale)[:, :, None])
    quants = (np.clip(quants, -32, 31) + 32).astype(np.uint8).reshape(-1, 2, 4, 32)
    low = np.empty((len(quants), 2, 64), dtype=np.uint8)
    low[:, :, :32] = (quants[:, :, 0] & 15) | ((quants[:, :, 2] & 15) << 4)
    low[:, :, 32:] = (quants[:, :, 1] & 15) | ((quants[:, :, 3] & 15) << 4)
    high = np.zeros((len(quants), 2, 32), dtype=np.uint8)
    for part in range(4):
        high |= (quants[:, :, part] >> 4) << (2 * part)
    parts = [
        low.reshape(len(quants), 128),
        high.reshape(len(quants), 64),
        scales.astype(np.int8).view(np.uint8),
        super_scale.astype(np.float16).view(np.uint8),
    ]
    return np.concatenate(parts, axis=1).reshape(rows.shape[0], -1)


def quantize_q4_k(rows: np.ndarray) -> np.ndarray:
    """256 weights in 144 bytes: 8 scales and 8 minima of 6 bits, quants of 4 bits."""
    blocks = rows.reshape(-1, 8, 32)
    minimum = np.maximum(-blocks.min(axis=2), 0.0)
    scale = np.maximum((blocks.max(axis=2) + minimum) / 15.0, 1e-8)
    super_scale = halves(scale.max(axis=1, keepdims=True) / 63.0)
    super_minimum = halves(np.maximum(minimum.max(axis=1, keepdims=True) / 63.0, 1e-8))
    scales = np.clip(np.rint(scale / super_scale), 1, 63).astype(np.uint8)
    minima = np.clip(np.rint(minimum / super_minimum), 0, 63).astype(np.uint8)
    step = (scales * super_scale)[:, :, None]
    quants = np.rint((blocks + (minima * super_minimum)[:, :, None]) / step)
    quants = np.clip(quants, 0, 15).astype(np.uint8).reshape(-1, 4, 2, 32)
    packed = np.zeros((len(blocks), 12), dtype=np.uint8)
    packed[:, 0:4] = scales[:, :4] | ((scales[:, 4:] >> 4) << 6)
    packed[:, 4:8] = minima[:, :4] | ((minima[:, 4:] >> 4) << 6)
    packed[:, 8:12] = (scales[:, 4:] & 15) | ((minima[:, 4:] & 15) << 4)
    parts = [
        super_scale.astype(np.float16).view(np.uint8),
        super_minimum.astype(np.float16).view(np.uint8),
        packed,
        (quants[:, :, 0] | (quants[:, :, 1] << 4)).reshape(len(blocks), 128),
    ]
    return np.concatenate(parts, axis=1).reshape(rows.shape[0], -1)


# Where a block's scale lies, and that of its minima.
SCALES = {Type.Q2_K: (80, 82), Type.Q3_K: (108, None), Type.Q5_K: (0, 2)}


def noise_like(rows: np.ndarray, kind: Type) -> np.ndarray:
    """Random bytes as blocks of 256, whose weights are as large as those of `rows`, and 0 in the middle."""
    size = gguf.GGML_QUANT_SIZES[kind][1]
    noise = np.random.Generator(np.random.PCG64(rows.size))
    blocks = noise.integers(0, 256, (rows.size // 256, size), dtype=np.uint8)
    upper, lower = SCALES[kind]

    def weights(scale: float, minimum: float) -> np.ndarray:
        for place, number in [(upper, scale), (lower, minimum)]:
            if place is not None:
                blocks[:, place : place + 2] = np.array([number], dtype=np.float16).view(np.uint8)
        return gguf.quants.dequantize(blocks, kind)

    minimum = 0.0
    if lower is not None:
        minimum = -float(weights(1.0, 0.0).mean() / weights(0.0, 1.0).mean())
    scale = float(rows.std() / weights(1.0, minimum).std())
    weights(scale, scale * minimum)
    return blocks.reshape(rows.shape[0], -1)


def stored(rows: np.ndarray, kind: Type) -> np.ndarray:
    """The bytes of a matrix in one of GGUF's types."""
    if kind in SCALES:
        return noise_like(rows, kind)
    if kind == Type.Q6_K:
        return quantize_q6_k(rows)
    if kind == Type.Q4_K:
        return quantize_q4_k(rows)
    return gguf.quants.quantize(rows, kind)


def tensors(shape: Shape, tokens: list[str]) -> dict[str, np.ndarray]:
    """The weights, named as GGUF names them."""
    noise = np.random.Generator(np.random.PCG64(shape.seed))
    width = shape.embedding
    kv_width = width // shape.heads * shape.kv_heads

    def matrix(rows: int, columns: int, gain: float) -> np.ndarray:
        # An input of mean square 1 gives an output of mean square gain².
        return (noise.standard_normal((rows, columns)) * gain / np.sqrt(columns)).astype(np.float32)

    def norm() -> np.ndarray:
        return (1.0 + 0.2 * noise.standard_normal(width)).astype(np.float32)

    # A token that must never win has a row of small weights: its logit stays near 0.
    loud = np.array([1.0 if speakable(token) else 0.02 for token in tokens], dtype=np.float32)
    # Where the output is the embedding, a token's own row would answer itself: the embedding is
    # kept small beside what the layers add, and the last norm brings the logits' size back.
    gain = 2.0 if shape.tied else 8.0
    weights = {"token_embd.weight": matrix(len(tokens), width, gain) * loud[:, None]}
    for layer in range(shape.layers):
        name = f"blk.{layer}."
        weights[name + "attn_norm.weight"] = norm()
        weights[name + "attn_q.weight"] = matrix(width, width, 1.5)
        weights[name + "attn_k.weight"] = matrix(kv_width, width, 1.5)
        weights[name + "attn_v.weight"] = matrix(kv_width, width, 1.2)
        weights[name + "attn_output.weight"] = matrix(width, width, 2.0)
        weights[name + "ffn_norm.weight"] = norm()
        weights[name + "ffn_gate.weight"] = matrix(shape.feed_forward, width, 1.5)
        weights[name + "ffn_up.weight"] = matrix(shape.feed_forward, width, 1.5)
        weights[name + "ffn_down.weight"] = matrix(width, shape.feed_forward, 2.0)
    weights["output_norm.weight"] = norm() * np.float32(8.0 / gain)
    if not shape.tied:
        weights["output.weight"] = matrix(len(tokens), width, 8.0) * loud[:, None]
    if shape.rope_factors:
        pairs = width // shape.heads // 2
        weights["rope_freqs.weight"] = np.linspace(1.0, 4.0, pairs, dtype=np.float32)
    return weights


def add_tensors(writer: gguf.GGUFWriter, shape: Shape, weights: dict[str, np.ndarray]) -> None:
    """Puts the weights into the file, and ends it."""
    for name, values in weights.items():
        kind = shape.weights
        for ending, other in shape.special.items():
            if name.endswith(ending):
                kind = other
        if values.ndim == 1:
            kind = Type.F32
        writer.add_tensor(name, stored(values, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def tensors_bert(shape: Shape, tokens: list[str]) -> dict[str, np.ndarray]:
    """The same of an encoder."""
    noise = np.random.Generator(np.random.PCG64(shape.seed))
    width, inner = shape.embedding, shape.feed_forward

    def numbers(middle: float, spread: float, *dimensions: int) -> np.ndarray:
        return (middle + spread * noise.standard_normal(dimensions)).astype(np.float32)

    weights = {
        "token_embd.weight": numbers(0.0, 1.0, len(tokens), width),
        "position_embd.weight": numbers(0.0, 0.3, shape.context, width),
        "token_types.weight": numbers(0.0, 0.3, 2, width),
    }

    def norm(name: str) -> None:
        weights[f"{name}.weight"] = numbers(1.0, 0.2, width)
        weights[f"{name}.bias"] = numbers(0.0, 0.1, width)

    def linear(name: str, rows: int, columns: int) -> None:
        weights[f"{name}.weight"] = numbers(0.0, 1.5 / np.sqrt(columns), rows, columns)
        weights[f"{name}.bias"] = numbers(0.0, 0.1, rows)

    norm("token_embd_norm")
    for layer in range(shape.layers):
        name = f"blk.{layer}."
        for part in ["attn_q", "attn_k", "attn_v", "attn_output"]:
            linear(name + part, width, width)
        norm(name + "attn_output_norm")
        linear(name + "ffn_up", inner, width)
        linear(name + "ffn_down", width, inner)
        norm(name + "layer_output_norm")
    return weights


def write_bert(shape: Shape, directory: Path) -> Path:
    """Writes the encoder."""
    path = directory / f"{shape.name}.gguf"
    writer = gguf.GGUFWriter(path, "bert")
    writer.add_name(shape.name)
    writer.add_description("Seeded noise in the shape of a BERT encoder, for the tests of kOS")
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.embedding)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.feed_forward)
    writer.add_head_count(shape.heads)
    writer.add_layer_norm_eps(1e-12)
    writer.add_causal_attention(False)
    writer.add_pooling_type(gguf.PoolingType.MEAN)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    tokens = vocabulary_bert(writer)
    writer.add_vocab_size(len(tokens))
    writer.add_token_type_count(2)
    add_tensors(writer, shape, tensors_bert(shape, tokens))
    return path


def write(shape: Shape, directory: Path) -> Path:
    """Writes one model file."""
    path = directory / f"{shape.name}.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name(shape.name)
    writer.add_description("Seeded noise in the shape of a Llama model, for the tests of kOS")
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.embedding)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.feed_forward)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(shape.embedding // shape.heads)
    writer.add_rope_freq_base(10000.0)
    file_type = {
        Type.F32: gguf.LlamaFileType.ALL_F32,
        Type.F16: gguf.LlamaFileType.MOSTLY_F16,
        Type.Q4_0: gguf.LlamaFileType.MOSTLY_Q4_0,
        Type.Q8_0: gguf.LlamaFileType.MOSTLY_Q8_0,
        Type.Q4_K: gguf.LlamaFileType.MOSTLY_Q4_K_M,
        Type.Q6_K: gguf.LlamaFileType.MOSTLY_Q6_K,
        Type.Q5_1: gguf.LlamaFileType.MOSTLY_Q5_1,
        Type.Q3_K: gguf.LlamaFileType.MOSTLY_Q3_K_M,
    }
    writer.add_file_type(file_type[shape.weights])
    tokens = (vocabulary_llama if shape.tokenizer == "llama" else vocabulary_gpt2)(writer)
    writer.add_vocab_size(len(tokens))
    add_tensors(writer, shape, tensors(shape, tokens))
    return path


def main() -> None:
    directory = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE
    sums = []
    for shape in [*SHAPES, BERT]:
        path = (write_bert if shape is BERT else write)(shape, directory)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        sums.append(f"{digest}  {path.name}\n")
        print(f"{path.name}: {path.stat().st_size} bytes")
    (directory / "SHA256SUMS").write_text("".join(sums))


if __name__ == "__main__":
    main()
