"""What the tests of Python's clients share: where the box is, and a model of their own in it.

`cargo xtask clients` sets the environment:

    KOS_CLIENTS_URL       the models' port, http://HOST:PORT
    KOS_CLIENTS_TOKEN     the pairing code; empty when the engine is asked without a door before it
    KOS_CLIENTS_MODEL     a small GGUF file of a decoder, to be uploaded
    KOS_CLIENTS_EMBEDDER  the same of an embedding model; empty when there is none
"""

import os
import unittest

import ollama

URL = os.environ["KOS_CLIENTS_URL"]
TOKEN = os.environ.get("KOS_CLIENTS_TOKEN", "")
HEADERS = {"Authorization": f"Bearer {TOKEN}"} if TOKEN else {}
FILE = os.environ["KOS_CLIENTS_MODEL"]
EMBEDDER_FILE = os.environ.get("KOS_CLIENTS_EMBEDDER", "")

MODEL = "clients/tiny"
EMBEDDER = "clients/embedder"

# A template that knows tools: what a model can do is read from it. Only their names, because the
# context of a tiny model is short.
TEMPLATE = (
    "{% for tool in tools or [] %}{{ tool.function.name }}\n{% endfor %}"
    "{% for message in messages %}[{{ message.role }}] {{ message.content }}"
    "{% for call in message.tool_calls or [] %}{{ call.function | tojson }}{% endfor %}\n"
    "{% endfor %}[assistant] "
)

# Greedy, so that two answers to one question are the same.
OPTIONS = {"temperature": 0, "num_predict": 12}
MESSAGES = [{"role": "user", "content": "hello"}]

WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "What the weather is like",
        "parameters": {
            "type": "object",
            "properties": {
                "room": {"type": "string", "enum": ["kitchen", "hall"]},
                "days": {"type": "integer", "minimum": 1, "maximum": 9},
            },
            "required": ["room", "days"],
        },
    },
}
LIGHT = {
    "type": "function",
    "function": {
        "name": "light",
        "description": "Turns the light on or off",
        "parameters": {
            "type": "object",
            "properties": {"on": {"type": "boolean"}},
            "required": ["on"],
        },
    },
}
SCHEMA = {
    "type": "object",
    "properties": {
        "colour": {"type": "string", "enum": ["red", "green"]},
        "count": {"type": "integer", "minimum": 0, "maximum": 99},
    },
    "required": ["colour", "count"],
}

client = ollama.Client(host=URL, headers=HEADERS, timeout=120)


def upload(name: str, path: str, **more) -> None:
    """Makes a model of a file, as `ollama create` does."""
    digest = client.create_blob(path)
    assert digest.startswith("sha256:"), digest
    steps = [step.status for step in client.create(
        model=name, files={os.path.basename(path): digest}, stream=True, **more)]
    assert steps[-1] == "success", steps


def prepare() -> None:
    """The models that every test asks."""
    names = {model.model for model in client.list().models}
    if f"{MODEL}:latest" not in names:
        upload(MODEL, FILE, template=TEMPLATE)
    if EMBEDDER_FILE and f"{EMBEDDER}:latest" not in names:
        upload(EMBEDDER, EMBEDDER_FILE)


needs_embedder = unittest.skipUnless(EMBEDDER_FILE, "there is no embedding model to upload")
