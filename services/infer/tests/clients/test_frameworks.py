"""`langchain-ollama` and `litellm` against the box."""

import asyncio
import json
import os
import unittest
from typing import Literal

# It would ask the network for prices.
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

import litellm
import ollama
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_ollama import ChatOllama, OllamaEmbeddings, OllamaLLM
from pydantic import BaseModel

from fixture import (
    EMBEDDER, HEADERS, LIGHT, MESSAGES, MODEL, SCHEMA, TOKEN, URL, WEATHER, needs_embedder, prepare,
)

setUpModule = prepare


class Paint(BaseModel):
    colour: Literal["red", "green"]
    count: Literal[1, 2, 3]


class LangChain(unittest.TestCase):
    usual = {
        "model": MODEL, "base_url": URL, "temperature": 0, "num_predict": 12,
        "client_kwargs": {"headers": HEADERS, "timeout": 120},
    }

    def test_a_chat(self):
        chat = ChatOllama(**self.usual, validate_model_on_init=True)
        whole = chat.invoke([HumanMessage("hello")])
        self.assertEqual(whole.usage_metadata["output_tokens"], 12)
        text = "".join(part.content for part in chat.stream([HumanMessage("hello")]))
        self.assertEqual(text, whole.content)
        self.assertTrue(OllamaLLM(**self.usual).invoke("hello"))

    def test_structured_output(self):
        chat = ChatOllama(**{**self.usual, "num_predict": 200})
        paint = chat.with_structured_output(Paint, method="json_schema").invoke("hello")
        self.assertIn(paint.colour, ["red", "green"])

    def test_tools(self):
        chat = ChatOllama(**self.usual).bind_tools([WEATHER])
        call = {"name": "weather", "args": {"room": "hall", "days": 1}, "id": "1"}
        messages = [
            HumanMessage("hello"), AIMessage("", tool_calls=[call]),
            ToolMessage("cold", tool_call_id="1"),
        ]
        self.assertTrue(chat.invoke(messages).response_metadata["done"])

    def test_errors(self):
        chat = ChatOllama(**{**self.usual, "model": "nobody"})
        with self.assertRaises(ollama.ResponseError) as raised:
            chat.invoke([HumanMessage("hello")])
        self.assertEqual(raised.exception.status_code, 404)
        with self.assertRaisesRegex(ValueError, "nobody"):
            ChatOllama(**{**self.usual, "model": "nobody"}, validate_model_on_init=True)
        chat = ChatOllama(**self.usual)
        with self.assertRaises(ollama.ResponseError) as raised:
            chat.invoke([HumanMessage("long " * 5000)])
        self.assertEqual(raised.exception.status_code, 400)

    def test_who_leaves_in_the_middle_stops_the_answer(self):
        endless = ChatOllama(**{**self.usual, "num_predict": -1, "num_ctx": 500})
        for _ in range(3):
            stream = endless.stream([HumanMessage("hello")])
            next(stream)
            stream.close()
        answer = ChatOllama(**self.usual).invoke([HumanMessage("hello")])
        self.assertEqual(answer.usage_metadata["output_tokens"], 12)

    @needs_embedder
    def test_vectors(self):
        embedder = OllamaEmbeddings(
            model=EMBEDDER, base_url=URL, client_kwargs={"headers": HEADERS})
        self.assertEqual(len(embedder.embed_documents(["a", "b"])), 2)


class LiteLlm(unittest.TestCase):
    # By Ollama's routes, and by OpenAI's.
    ways = [
        {"model": f"ollama_chat/{MODEL}", "api_base": URL},
        {"model": f"openai/{MODEL}", "api_base": f"{URL}/v1"},
    ]
    usual = {
        "api_key": TOKEN or "none", "messages": MESSAGES, "temperature": 0, "timeout": 120,
        "num_retries": 0,
    }

    def test_a_chat(self):
        for way in self.ways:
            whole = litellm.completion(**way, **self.usual, max_tokens=12)
            self.assertEqual(whole.usage.completion_tokens, 12, way)
            parts = litellm.completion(**way, **self.usual, max_tokens=12, stream=True)
            text = "".join(part.choices[0].delta.content or "" for part in parts)
            self.assertEqual(text, whole.choices[0].message.content, way)

    def test_structured_output(self):
        for way in self.ways:
            schema = {"type": "json_schema", "json_schema": {"name": "paint", "schema": SCHEMA}}
            answer = litellm.completion(**way, **self.usual, response_format=schema)
            self.assertIn("colour", json.loads(answer.choices[0].message.content), way)

    def test_tools(self):
        answer = litellm.completion(
            **self.ways[1], **self.usual, tools=[WEATHER, LIGHT], tool_choice="required",
            parallel_tool_calls=False)
        [call] = answer.choices[0].message.tool_calls
        self.assertIn(call.function.name, ["weather", "light"])

    def test_errors(self):
        for way in self.ways:
            other = {**way, "model": way["model"].replace(MODEL, "nobody")}
            with self.assertRaises(Exception) as raised:
                litellm.completion(**other, **self.usual)
            self.assertIn("nobody", str(raised.exception))

    def test_who_leaves_in_the_middle_stops_the_answer(self):
        async def leave(way) -> None:
            # Without a limit of tokens: it ends because nobody listens.
            stream = await litellm.acompletion(**way, **self.usual, stream=True)
            await anext(aiter(stream))
            rest = asyncio.ensure_future(collect(stream))
            await asyncio.sleep(0)
            rest.cancel()
            with self.assertRaises(asyncio.CancelledError):
                await rest

        async def collect(stream) -> None:
            async for _ in stream:
                await asyncio.sleep(0)

        for way in self.ways:
            asyncio.run(leave(way))
            whole = litellm.completion(**way, **self.usual, max_tokens=12)
            self.assertEqual(whole.usage.completion_tokens, 12, way)

    @needs_embedder
    def test_vectors(self):
        for way in self.ways:
            name = way["model"].replace("ollama_chat", "ollama").replace(MODEL, EMBEDDER)
            answer = litellm.embedding(
                model=name, api_base=way["api_base"], api_key=TOKEN or "none", input=["a", "b"])
            self.assertEqual(len(answer.data), 2)


if __name__ == "__main__":
    unittest.main()
