#!/usr/bin/env python3
"""Writes expected.json: what llama.cpp makes of the tiny models.

    VENV/bin/pip install llama-cpp-python==0.3.36   # builds llama.cpp, about 10 CPU-minutes
    VENV/bin/python tests/models/expected.py

For each file: the tokens of some texts, and for a prompt the logits after its last token and 32
greedy tokens. llama.cpp runs with one thread, 32-bit keys and values and no flash attention, so
that what is compared is the model and not the cache's rounding. `margin` is the smallest distance
between the best and the second-best logit over the 32 choices: while both programs' logits differ
by less than half of it, the greedy tokens cannot differ.

For the encoder: of some texts the tokens, and the vector, of length 1.
"""

import json
import re
import sys
from pathlib import Path

import llama_cpp
import numpy as np

HERE = Path(__file__).resolve().parent
GREEDY = 32

PROMPTS = {
    "tiny-f32": "The box wakes up, counts its cores",
    "tiny-f16": "A small kernel hands over to one program",
    "tiny-q4_0": "What is the answer to the question?",
    "tiny-q8_0": "The old cat sleeps on the stairs.",
    "tiny-q4_k": "Nothing is lost without a word, and",
    "tiny-q6_k": "You may turn it off at any time;",
    "tiny-mix_32": "There is no shell here, and no password",
    "tiny-mix_k": "When a service falls, it is started again",
}

ENCODER = "tiny-bert"
# No longer than its context, and without marks, which `embed` takes for text.
SENTENCES = [
    "a cat",
    "The box wakes up, counts its cores!",
    "Caf\u00e9 \u00dcBER 42% x",
    "",
]

# Texts on which tokenizers go wrong.
TEXTS = [
    "",
    " ",
    "Hello, world!",
    "  two  spaces   three ",
    "line\nline\r\n\n\n  indented\ttab ",
    "It's we'll THEY'VE 'tis",
    "1 12 123 1234 12345678 3.14",
    "na\u00efve caf\u00e9 \u00fcber stra\u00dfe",
    "\u4f60\u597d\uff0c\u4e16\u754c \u3053\u3093\u306b\u3061\u306f \uc548\ub155",
    "\U0001f600\U0001f468\u200d\U0001f469\u200d\U0001f467 e\u0301 \u0645\u0631\u062d\u0628\u0627",
    "\u00a0no\u2003break\u3000spaces\u2028line",
    "x<|begin_of_text|>y<|eot_id|> z <note>z</note>",
    "x<s>one</s> two<unk>",
    "\u2581under\u2581score and the then other",
    "a\u0000b\u0001\u007f\ufffd",
    "fn main() { println!(\"{}\", 1 << 3); } // ok?",
    "the the the thethe The THE kernel kernels",
]


def load(path: Path, **options) -> llama_cpp.Llama:
    return llama_cpp.Llama(
        str(path), n_ctx=256, n_batch=256, n_threads=1, n_threads_batch=1, seed=1,
        type_k=llama_cpp.GGML_TYPE_F32, type_v=llama_cpp.GGML_TYPE_F32, flash_attn=False,
        verbose=False, logits_all=True, **options,
    )


def margin(logits: np.ndarray) -> float:
    second, first = np.sort(logits)[-2:]
    return float(first - second)


def describe(path: Path) -> dict:
    model = load(path)
    prompt = PROMPTS[path.stem]
    tokens = model.tokenize(prompt.encode(), add_bos=True, special=True)
    model.eval(tokens)
    logits = np.array(model.scores[model.n_tokens - 1], dtype=np.float64)
    greedy, smallest = [], margin(logits)
    current = logits
    for _ in range(GREEDY):
        smallest = min(smallest, margin(current))
        greedy.append(int(np.argmax(current)))
        model.eval([greedy[-1]])
        current = np.array(model.scores[model.n_tokens - 1], dtype=np.float64)
    text = model.detokenize(greedy)
    return {
        "prompt": prompt,
        "prompt_tokens": tokens,
        "greedy_tokens": greedy,
        "greedy_text": text.decode(),
        "margin": round(smallest, 4),
        "deviation": round(float(logits.std()), 4),
        "logits": [round(float(logit), 4) for logit in logits],
        "texts": [
            {"text": text, "tokens": model.tokenize(text.encode(), add_bos=True, special=True)}
            for text in TEXTS
        ],
    }


def encode(path: Path) -> list[dict]:
    model = llama_cpp.Llama(
        str(path), embedding=True, n_ctx=64, n_batch=64, n_ubatch=64, n_threads=1,
        n_threads_batch=1, flash_attn=False, verbose=False,
    )
    return [
        {
            "text": text,
            "tokens": model.tokenize(text.encode(), add_bos=True, special=True),
            "vector": [round(number, 6) for number in model.embed(text, normalize=True)],
        }
        for text in SENTENCES
    ]


def main() -> None:
    directory = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE
    result = {
        "made_by": "expected.py",
        "versions": {"llama-cpp-python": llama_cpp.__version__, "numpy": np.__version__},
        "models": {},
        "encoder": encode(directory / f"{ENCODER}.gguf"),
    }
    for name in PROMPTS:
        found = describe(directory / f"{name}.gguf")
        result["models"][name] = found
        print(
            f"{name}: margin {found['margin']}, deviation {found['deviation']}, "
            f"{len(set(found['greedy_tokens']))} different: {found['greedy_text']!r}"
        )
    # One short line for each list: a diff shows which one changed.
    text = json.dumps(result, indent=1, ensure_ascii=True)
    text = re.sub(r"\[\s+([-0-9.,\s]+?)\s+\]", lambda m: "[" + " ".join(m[1].split()) + "]", text)
    (directory / "expected.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
