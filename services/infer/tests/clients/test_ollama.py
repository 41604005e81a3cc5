"""The Python client `ollama` against the box."""

import asyncio
import json
import unittest
from datetime import datetime

import ollama
from ollama import ResponseError

from fixture import (
    EMBEDDER, FILE, HEADERS, MESSAGES, MODEL, OPTIONS, SCHEMA, TEMPLATE, URL, WEATHER, client,
    needs_embedder, prepare, upload,
)

setUpModule = prepare


class Models(unittest.TestCase):
    def test_a_model_is_listed_and_shown(self):
        listed = {model.model: model for model in client.list().models}
        model = listed[f"{MODEL}:latest"]
        self.assertIsInstance(model.modified_at, datetime)
        self.assertEqual(len(model.digest), 64)
        self.assertGreater(model.size, 10_000)
        self.assertEqual(model.details.format, "gguf")
        self.assertEqual(model.details.family, "llama")
        shown = client.show(MODEL)
        self.assertEqual(shown.template, TEMPLATE)
        self.assertIn("completion", shown.capabilities)
        self.assertIn("tools", shown.capabilities)
        self.assertEqual(shown.modelinfo["general.architecture"], "llama")
        self.assertIn("FROM", shown.modelfile)

    def test_a_model_is_made_copied_and_deleted(self):
        answer = client.create(
            model="clients/kind", from_=MODEL, system="be kind", parameters={"num_predict": 3},
            license=["none"], messages=[{"role": "user", "content": "hi"}],
        )
        self.assertEqual(answer.status, "success")
        shown = client.show("clients/kind")
        self.assertIn("num_predict", shown.parameters)
        self.assertEqual(shown.license, "none")
        answer = client.chat("clients/kind", MESSAGES)
        self.assertEqual((answer.eval_count, answer.done_reason), (3, "length"))
        self.assertEqual(client.copy("clients/kind", "clients/copy").status, "success")
        self.assertEqual(client.delete("clients/kind").status, "success")
        self.assertEqual(client.show("clients/copy").license, "none")
        self.assertEqual(client.delete("clients/copy").status, "success")
        with self.assertRaises(ResponseError) as raised:
            client.delete("clients/copy")
        self.assertEqual(raised.exception.status_code, 404)

    def test_an_upload_that_is_here_is_not_sent_again(self):
        self.assertEqual(client.create_blob(FILE), client.create_blob(FILE))
        upload("clients/again", FILE)
        client.delete("clients/again")
        # What another model still has stays.
        self.assertEqual(client.generate(MODEL, "a", options=OPTIONS).done, True)

    def test_a_model_is_loaded_kept_and_let_go(self):
        answer = client.generate(MODEL, keep_alive="10m")
        self.assertEqual((answer.done, answer.done_reason), (True, "load"))
        running = {model.model: model for model in client.ps().models}
        self.assertIsInstance(running[f"{MODEL}:latest"].expires_at, datetime)
        self.assertGreater(running[f"{MODEL}:latest"].context_length, 0)
        answer = client.chat(MODEL, keep_alive=0)
        self.assertEqual(answer.done_reason, "unload")
        self.assertNotIn(f"{MODEL}:latest", [model.model for model in client.ps().models])


class Answers(unittest.TestCase):
    def test_a_text_streamed_is_the_same_as_whole(self):
        whole = client.generate(MODEL, "hello", options=OPTIONS)
        self.assertEqual((whole.eval_count, whole.done_reason), (12, "length"))
        self.assertGreater(whole.total_duration, 0)
        self.assertGreater(whole.prompt_eval_count, 0)
        parts = list(client.generate(MODEL, "hello", options=OPTIONS, stream=True))
        self.assertGreater(len(parts), 2)
        self.assertEqual("".join(part.response for part in parts), whole.response)
        self.assertEqual([part.done for part in parts[:-1]], [False] * (len(parts) - 1))
        self.assertEqual(parts[-1].eval_count, 12)
        further = client.generate(MODEL, "more", context=whole.context, options=OPTIONS)
        self.assertGreater(further.prompt_eval_count, whole.prompt_eval_count)

    def test_a_chat_streamed_is_the_same_as_whole(self):
        whole = client.chat(MODEL, MESSAGES, options=OPTIONS)
        self.assertEqual(whole.message.role, "assistant")
        parts = list(client.chat(MODEL, MESSAGES, options=OPTIONS, stream=True))
        self.assertEqual("".join(part.message.content for part in parts), whole.message.content)
        self.assertTrue(parts[-1].done)

    def test_an_answer_keeps_a_schema(self):
        answer = client.chat(MODEL, MESSAGES, format=SCHEMA, options={"temperature": 0})
        value = json.loads(answer.message.content)
        self.assertIn(value["colour"], ["red", "green"])
        self.assertTrue(0 <= value["count"] <= 99)
        self.assertEqual(answer.done_reason, "stop")

    def test_a_call_and_its_result_are_part_of_a_chat(self):
        call = {"function": {"name": "weather", "arguments": {"room": "hall", "days": 1}}}
        messages = MESSAGES + [
            {"role": "assistant", "content": "", "tool_calls": [call]},
            {"role": "tool", "content": "cold", "tool_name": "weather"},
        ]
        answer = client.chat(MODEL, messages, tools=[WEATHER], options=OPTIONS)
        self.assertEqual(answer.message.role, "assistant")
        without = client.chat(MODEL, MESSAGES, options=OPTIONS)
        self.assertGreater(answer.prompt_eval_count, without.prompt_eval_count)
        # A call that the format forces is found in the text.
        name = {"const": "weather"}
        schema = {
            "type": "object",
            "properties": {"name": name, "arguments": WEATHER["function"]["parameters"]},
            "required": ["name", "arguments"],
        }
        answer = client.chat(MODEL, MESSAGES, tools=[WEATHER], format=schema)
        [call] = answer.message.tool_calls
        self.assertEqual(call.function.name, "weather")
        self.assertIn(call.function.arguments["room"], ["kitchen", "hall"])

    def test_probabilities_come_with_the_text(self):
        answer = client.chat(MODEL, MESSAGES, options=OPTIONS, logprobs=True, top_logprobs=2)
        self.assertEqual(len(answer.logprobs), 12)
        for token in answer.logprobs:
            self.assertEqual(len(token.top_logprobs), 2)
            self.assertLessEqual(token.logprob, 0)

    @needs_embedder
    def test_texts_become_vectors(self):
        answer = client.embed(EMBEDDER, ["a cat", "a dog", "a cat"])
        self.assertEqual(len(answer.embeddings), 3)
        self.assertEqual(answer.embeddings[0], answer.embeddings[2])
        length = sum(number * number for number in answer.embeddings[0])
        self.assertAlmostEqual(length, 1, places=3)
        self.assertGreater(answer.prompt_eval_count, 0)
        old = client.embeddings(EMBEDDER, "a cat").embedding
        self.assertEqual(len(old), len(answer.embeddings[0]))


class Failures(unittest.TestCase):
    def refused(self, act) -> ResponseError:
        with self.assertRaises(ResponseError) as raised:
            act()
        return raised.exception

    def test_what_is_wrong_is_told(self):
        for stream in [False, True]:
            error = self.refused(lambda: list(client.chat("nobody", MESSAGES, stream=stream)))
            self.assertEqual(error.status_code, 404)
            self.assertIn("nobody", error.error)
        error = self.refused(lambda: client.generate(MODEL, "a", options={"top_p": 7}))
        self.assertEqual(error.status_code, 400)
        error = self.refused(lambda: client.chat(MODEL, MESSAGES, think=True))
        self.assertEqual(error.status_code, 400)
        self.assertIn("does not support thinking", error.error)
        error = self.refused(lambda: client.generate(MODEL, "a " * 5000, options=OPTIONS))
        self.assertEqual(error.status_code, 400)
        error = self.refused(lambda: client.create("clients/x", from_="nobody"))
        self.assertEqual(error.status_code, 404)
        error = self.refused(lambda: client.show("nobody"))
        self.assertEqual(error.status_code, 404)

    def test_who_leaves_in_the_middle_stops_the_answer(self):
        async def leave() -> None:
            other = ollama.AsyncClient(host=URL, headers=HEADERS, timeout=120)
            stream = await other.generate(
                MODEL, "hello", stream=True, options={"num_predict": -1, "num_ctx": 500})
            async for _ in stream:
                break
            await stream.aclose()

        for _ in range(3):
            asyncio.run(leave())
        self.assertEqual(client.generate(MODEL, "hello", options=OPTIONS).eval_count, 12)


if __name__ == "__main__":
    unittest.main()
