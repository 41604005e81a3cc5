#!/usr/bin/env python3
"""Writes DIR/expected.json: the tokens and the vectors that sentence-transformers makes of some texts with the
embedding model in DIR, for `KOS_SENTENCES=DIR cargo test -p kos-infer --test packages -- --ignored`.

    VENV/bin/pip install torch==2.6.0 transformers==4.57.1 sentence-transformers==5.7.0
    VENV/bin/python services/infer/tests/expected/packages/sentences.py DIR
"""

import json
import sys
from pathlib import Path

from sentence_transformers import SentenceTransformer

TEXTS = [
    "This is an example sentence", "Each sentence is converted", "", "a", "The box wakes up.",
    "Ünïcode über alles! naïve café — déjà vu", "你好，世界。今天天气怎么样？", "Привет, мир! Как дела?", "مرحبا بالعالم",
    "שלום עולם", "こんにちは世界 カタカナ", "한국어 문장입니다", "emoji 🙂🚀 and ZWJ 👩‍💻 and flags 🇩🇪", "\ttabs\nand\r\nlines  and   spaces ",
    "zero\u200bwidth\u00adsoft\ufeffmark\x00nul\x7f", "it's 3.14159 (or 22/7) & more: http://example.com/?q=1#x", "x" * 99, "x" * 101,
    "antidisestablishmentarianism pneumonoultramicroscopicsilicovolcanoconiosis", "ÀÉÎÕÜ àéîõü ß İ ı ſ ŉ",
    "[MASK] and [SEP] in a text", "What is the capital of France?", "Paris is the capital of France.",
    "fn main() { println!(\"{}\", 1 << 4); }", "word " * 700, "The quick brown fox jumps over the lazy dog. " * 40,
]


def main() -> None:
    directory = Path(sys.argv[1])
    model = SentenceTransformer(str(directory), device="cpu")
    out = []
    for text in TEXTS:
        tokens = model.tokenize([text])["input_ids"][0].tolist()
        vector = model.encode(text, normalize_embeddings=True)
        out.append(dict(text=text, tokens=tokens, vector=[float(x) for x in vector]))
    (directory / "expected.json").write_text(json.dumps(dict(texts=out)))
    print(f"{len(out)} texts, {model.get_sentence_embedding_dimension()} numbers each")


if __name__ == "__main__":
    main()
