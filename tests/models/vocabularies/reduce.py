#!/usr/bin/env python3
"""Cuts llama.cpp's vocabularies down to what its own test texts can touch.

    VENV/bin/pip install gguf==0.19.0
    VENV/bin/python tests/models/vocabularies/reduce.py LLAMA_CPP/models

LLAMA_CPP is the copy in the source of PyPI's llama-cpp-python 0.3.36 (vendor/llama.cpp). A merge can only
happen where its text occurs, so leaving out the tokens and merges of which the text occurs nowhere in the texts
changes no result; the tokens that are left get new numbers, in the same order. tests/vocabularies.rs runs
over the whole vocabularies, too, when it is told where they are.
"""

import shutil
import sys
import unicodedata
from pathlib import Path

import gguf

HERE = Path(__file__).resolve().parent
SEPARATOR = "\n__ggml_vocab_test__\n"
ROLES = ("bos", "eos", "eot", "unknown", "seperator", "padding", "cls", "mask")


def letters() -> list:
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = iter(range(256, 512))
    return [chr(byte) if byte in printable else chr(next(others)) for byte in range(256)]


LETTERS = letters()


def written(family: str, text: str) -> str:
    """A text as the family's tokens write it."""
    if family == "gpt2":
        return "".join(LETTERS[byte] for byte in text.encode())
    if family == "bert":
        plain = "".join(c for c in unicodedata.normalize("NFD", text.lower()) if unicodedata.category(c) != "Mn")
        return plain + " " + text.lower()
    return "\u2581" + text.replace(" ", "\u2581")


def value(field):
    return field.contents()


def reduce(path: Path, text_file: Path) -> int:
    reader = gguf.GGUFReader(path)
    fields = {name: field for name, field in reader.fields.items() if not name.startswith("GGUF.")}
    family = value(fields["tokenizer.ggml.model"])
    tokens = value(fields["tokenizer.ggml.tokens"])
    types = value(fields["tokenizer.ggml.token_type"])
    expected = [[int(n) for n in line.split()] for line in Path(f"{path}.out").read_text().splitlines()]
    texts = text_file.read_text().split(SEPARATOR)
    whole = "\n".join(written(family, text) for text in texts)
    plain = "\n".join(texts)
    roles = {name: value(fields[key]) for name in ROLES if (key := f"tokenizer.ggml.{name}_token_id") in fields}
    keep = {n for line in expected for n in line} | set(roles.values())
    for number, (token, kind) in enumerate(zip(tokens, types)):
        inner = token.removeprefix("\u2581") if family == "bert" else token
        if kind == 6 or len(token) == 1 or token in plain or (inner and inner in whole):
            # Of the letters only those that are used, but of the bytes all.
            if len(token) > 1 or token in whole or family == "gpt2":
                keep.add(number)
    order = sorted(keep)
    new = {old: place for place, old in enumerate(order)}
    writer = gguf.GGUFWriter(HERE / path.name, value(fields["general.architecture"]))
    writer.add_name(value(fields["general.name"]) if "general.name" in fields else path.stem)
    writer.add_tokenizer_model(family)
    writer.add_token_list([tokens[old].encode() for old in order])
    writer.add_token_types([types[old] for old in order])
    if "tokenizer.ggml.pre" in fields:
        writer.add_tokenizer_pre(value(fields["tokenizer.ggml.pre"]))
    if "tokenizer.ggml.scores" in fields and family == "llama":
        scores = value(fields["tokenizer.ggml.scores"])
        writer.add_token_scores([scores[old] for old in order])
    if "tokenizer.ggml.merges" in fields:
        kept = {tokens[old] for old in order}
        merges = value(fields["tokenizer.ggml.merges"])
        merges = [m for m in merges if m[0] + m[1:].replace(" ", "", 1) in kept and m[0] + m[1:].replace(" ", "", 1) in whole]
        writer.add_token_merges(merges)
    for name, old in roles.items():
        writer.add_uint32(f"tokenizer.ggml.{name}_token_id", new[old])
    for key in ("add_bos_token", "add_eos_token", "add_space_prefix"):
        if f"tokenizer.ggml.{key}" in fields:
            writer.add_bool(f"tokenizer.ggml.{key}", bool(value(fields[f"tokenizer.ggml.{key}"])))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    lines = [" ".join(str(new[n]) for n in line) for line in expected]
    (HERE / f"{path.name}.out").write_text("\n".join(lines) + "\n")
    return (HERE / path.name).stat().st_size


def main() -> None:
    models = Path(sys.argv[1])
    shared = models / "ggml-vocab-llama-bpe.gguf.inp"
    shutil.copyfile(shared, HERE / "texts.inp")
    for out in sorted(models.glob("*.gguf.out")):
        path = out.with_suffix("")
        own = path.with_name(f"{path.name}.inp")
        if own.read_text().removesuffix(SEPARATOR) != shared.read_text().removesuffix(SEPARATOR):
            shutil.copyfile(own, HERE / own.name)
        print(path.name, reduce(path, own))


if __name__ == "__main__":
    main()
