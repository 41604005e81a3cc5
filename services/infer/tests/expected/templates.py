#!/usr/bin/env python3
"""Writes templates.json: what transformers makes of chat templates and conversations.

    VENV/bin/pip install transformers==4.57.1 jinja2
    VENV/bin/python services/infer/tests/expected/templates.py [--templates DIR] [--out FILE]

The templates are those beside this file, which are ours, or every `*.jinja` of DIR: those of real models are not
ours to keep, but can be compared all the same:

    TEMPLATES=FILE cargo test -p kos-infer --test templates
"""

import argparse
import json
from pathlib import Path

from transformers.utils import chat_template_utils

HERE = Path(__file__).resolve().parent

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather <now> & later,\nin a place.",
        "parameters": {
            "type": "object",
            "properties": {
                "place": {"type": "string", "description": "Where, as in \"Zürich\""},
                "days": {"type": "integer", "minimum": 1, "default": 1.0},
                "unit": {"type": "string", "enum": ["celsius", "kelvin"]},
                "also": {"type": "array", "items": {"type": ["string", "null"]}},
            },
            "required": ["place"],
        },
    },
}
CLOCK = {
    "type": "function",
    "function": {"name": "clock", "parameters": {"type": "object", "properties": {}}},
}


def call(name, arguments, number=1):
    function = {"name": name, "arguments": arguments}
    return {"type": "function", "id": f"call{number:05}", "function": function}


def said(role, content, **more):
    return {"role": role, "content": content, **more}


ASKED = said("user", "How's the <weather> in Zürich?\n")
CALLED = said("assistant", "", tool_calls=[call("get_weather", {"place": "Zürich", "days": 2})])
ANSWERED = said("tool", "{\"sky\": \"clear\"}", name="get_weather", tool_call_id="call00001")

CASES = [
    {"messages": [said("user", "Hi")]},
    {"messages": [said("system", " Be brief. "), said("user", "Hi ")]},
    {"messages": [said("user", "Hi"), said("assistant", " Hello. "), said("user", "Bye")]},
    {"messages": [said("system", "S"), said("user", "1"), said("assistant", "2"), said("user", "3")]},
    {"messages": [said("user", "one"), said("user", "two")]},
    {"messages": [said("critic", "no")]},
    {"messages": [ASKED], "tools": [WEATHER]},
    {"messages": [said("system", "S"), ASKED], "tools": [WEATHER, CLOCK]},
    {"messages": [ASKED, CALLED, ANSWERED], "tools": [WEATHER]},
    {"messages": [ASKED, CALLED, ANSWERED, said("assistant", "Clear."), said("user", "And now?")], "tools": [WEATHER]},
    {
        "messages": [
            ASKED,
            said("assistant", "", tool_calls=[call("clock", {}), call("get_weather", {"place": "B", "a": [1.5, None, True]}, 2)]),
            said("tool", "12:00", name="clock", tool_call_id="call00001"),
            said("tool", "rain", name="get_weather", tool_call_id="call00002"),
        ],
        "tools": [WEATHER, CLOCK],
    },
    {"messages": [said("user", "Think"), said("assistant", "42", reasoning_content="\nHm.\n"), said("user", "More")]},
    {"messages": [said("user", "Think"), said("assistant", "<think>\nHm.\n</think>\n\n42"), said("user", "More")]},
    {"messages": [said("user", "Hi")], "think": True},
    {"messages": [said("user", "Hi")], "think": False},
]


def render(template, case):
    more = {} if case.get("think") is None else {"enable_thinking": case["think"]}
    compiled = chat_template_utils._compile_jinja_template(template)
    return compiled.render(
        messages=case["messages"],
        tools=case.get("tools"),
        add_generation_prompt=True,
        bos_token="<s>",
        eos_token="</s>",
        **more,
    )


def expected(template, case):
    try:
        return {**case, "text": render(template, case)}
    except Exception as error:  # What a template refuses, it refuses here, too.
        return {**case, "error": f"{type(error).__name__}: {error}"}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--templates", type=Path, default=HERE / "templates")
    parser.add_argument("--out", type=Path, default=HERE / "templates.json")
    arguments = parser.parse_args()
    found = [
        {
            "name": path.stem,
            "template": path.read_text(),
            "cases": [expected(path.read_text(), case) for case in CASES],
        }
        for path in sorted(arguments.templates.glob("*.jinja"))
    ]
    arguments.out.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")


main()
