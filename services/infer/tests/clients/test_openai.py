"""The Python client `openai` against the box."""

import json
import unittest
from typing import Literal

import openai
from pydantic import BaseModel

from fixture import (
    EMBEDDER, LIGHT, MESSAGES, MODEL, SCHEMA, TOKEN, URL, WEATHER, needs_embedder, prepare,
)

setUpModule = prepare

client = openai.OpenAI(base_url=f"{URL}/v1", api_key=TOKEN or "none", timeout=120, max_retries=0)
GREEDY = {"model": MODEL, "temperature": 0}
SHORT = {**GREEDY, "messages": MESSAGES, "max_completion_tokens": 12}


class Paint(BaseModel):
    colour: Literal["red", "green"]
    count: Literal[1, 2, 3]


class Models(unittest.TestCase):
    def test_models_are_listed(self):
        names = [model.id for model in client.models.list()]
        self.assertIn(f"{MODEL}:latest", names)
        self.assertEqual(client.models.retrieve(MODEL).object, "model")
        with self.assertRaises(openai.NotFoundError):
            client.models.retrieve("nobody")


class Chat(unittest.TestCase):
    def test_an_answer_streamed_is_the_same_as_whole(self):
        whole = client.chat.completions.create(**SHORT)
        [choice] = whole.choices
        self.assertEqual((choice.finish_reason, choice.message.role), ("length", "assistant"))
        self.assertEqual(whole.usage.completion_tokens, 12)
        chunks = list(client.chat.completions.create(
            **SHORT, stream=True, stream_options={"include_usage": True}))
        text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
        self.assertEqual(text, choice.message.content)
        self.assertEqual(chunks[-1].usage, whole.usage)
        self.assertEqual(chunks[-2].choices[0].finish_reason, "length")
        self.assertEqual(len({chunk.id for chunk in chunks}), 1)
        with client.chat.completions.stream(
            **GREEDY, messages=MESSAGES, response_format=Paint
        ) as stream:
            final = stream.get_final_completion()
        self.assertIn(final.choices[0].message.parsed.colour, ["red", "green"])

    def test_an_answer_keeps_a_schema(self):
        answer = client.chat.completions.parse(
            **GREEDY, messages=MESSAGES, response_format=Paint, logprobs=True, top_logprobs=3)
        paint = answer.choices[0].message.parsed
        self.assertIn(paint.colour, ["red", "green"])
        for token in answer.choices[0].logprobs.content:
            # Only what may come is told, however much was asked for.
            self.assertTrue(1 <= len(token.top_logprobs) <= 3)
            for other in token.top_logprobs:
                self.assertLessEqual(other.logprob, 0)
        plain = client.chat.completions.create(
            **GREEDY, messages=MESSAGES,
            response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}})
        self.assertIn("colour", json.loads(plain.choices[0].message.content))

    def test_probabilities(self):
        answer = client.chat.completions.create(**SHORT, logprobs=True, top_logprobs=4)
        tokens = answer.choices[0].logprobs.content
        self.assertEqual(len(tokens), 12)
        self.assertEqual(tokens[0].top_logprobs[0].token, tokens[0].token)

    def test_what_cannot_be_is_refused(self):
        for more, part in [
            ({"n": 2}, "n is 2"),
            ({"temperature": 9}, "temperature"),
            ({"tool_choice": "required"}, "tool_choice"),
            ({"tools": [WEATHER], "tool_choice": {"type": "function", "function": {"name": "x"}}},
             "tool_choice"),
        ]:
            with self.assertRaises(openai.BadRequestError) as raised:
                client.chat.completions.create(**{**SHORT, **more})
            self.assertIn(part, raised.exception.message)
        with self.assertRaises(openai.NotFoundError) as raised:
            client.chat.completions.create(**{**SHORT, "model": "nobody"})
        self.assertEqual(raised.exception.code, "model_not_found")
        long = [{"role": "user", "content": "long " * 5000}]
        with self.assertRaises(openai.BadRequestError) as raised:
            client.chat.completions.create(**{**SHORT, "messages": long})
        self.assertEqual(raised.exception.code, "context_length_exceeded")

    def test_who_leaves_in_the_middle_stops_the_answer(self):
        for _ in range(3):
            stream = client.chat.completions.create(**GREEDY, messages=MESSAGES, stream=True)
            next(iter(stream))
            stream.close()
        self.assertEqual(client.chat.completions.create(**SHORT).usage.completion_tokens, 12)


class Tools(unittest.TestCase):
    def check(self, call):
        self.assertEqual(call.type, "function")
        self.assertTrue(call.id)
        arguments = json.loads(call.function.arguments)
        if call.function.name == "weather":
            self.assertIn(arguments["room"], ["kitchen", "hall"])
            self.assertTrue(1 <= arguments["days"] <= 9)
        else:
            self.assertEqual(call.function.name, "light")
            self.assertIsInstance(arguments["on"], bool)

    def test_one_of_the_tools_is_called_when_it_has_to_be(self):
        answer = client.chat.completions.create(
            **GREEDY, messages=MESSAGES, tools=[WEATHER, LIGHT], tool_choice="required",
            parallel_tool_calls=False)
        [choice] = answer.choices
        self.assertEqual(choice.finish_reason, "tool_calls")
        [call] = choice.message.tool_calls
        self.check(call)
        self.assertIsNone(choice.message.content)
        # Its result goes back.
        messages = MESSAGES + [
            choice.message.to_dict(),
            {"role": "tool", "tool_call_id": call.id, "content": "done"},
        ]
        answer = client.chat.completions.create(**{**SHORT, "messages": messages})
        self.assertEqual(answer.choices[0].finish_reason, "length")

    def test_the_tool_that_is_named_is_called(self):
        for tool in [WEATHER, LIGHT]:
            name = tool["function"]["name"]
            chosen = {"type": "function", "function": {"name": name}}
            chunks = client.chat.completions.create(
                **GREEDY, messages=MESSAGES, tools=[WEATHER, LIGHT], tool_choice=chosen,
                stream=True)
            calls, reasons = {}, []
            for chunk in chunks:
                reasons.append(chunk.choices[0].finish_reason)
                for call in chunk.choices[0].delta.tool_calls or []:
                    calls.setdefault(call.index, []).append(call)
            [parts] = calls.values()
            self.assertEqual(parts[0].function.name, name)
            json.loads("".join(part.function.arguments for part in parts))
            self.assertEqual(reasons[-1], "tool_calls")

    def test_several_tools_may_be_called_at_once(self):
        answer = client.chat.completions.create(
            model=MODEL, temperature=1, seed=3, messages=MESSAGES, tools=[WEATHER, LIGHT],
            tool_choice="required")
        calls = answer.choices[0].message.tool_calls
        for call in calls:
            self.check(call)
        self.assertEqual(len({call.id for call in calls}), len(calls))


class Others(unittest.TestCase):
    def test_a_text_is_gone_on_with(self):
        answer = client.completions.create(**GREEDY, prompt="Hello", max_tokens=6, logprobs=2)
        self.assertEqual(answer.choices[0].finish_reason, "length")
        self.assertEqual(len(answer.choices[0].logprobs.tokens), 6)
        parts = client.completions.create(**GREEDY, prompt="Hello", max_tokens=6, stream=True)
        text = "".join(part.choices[0].text for part in parts)
        self.assertEqual(text, answer.choices[0].text)

    @needs_embedder
    def test_texts_become_vectors(self):
        whole = client.embeddings.create(model=EMBEDDER, input=["a cat", "a dog"])
        floats = client.embeddings.create(
            model=EMBEDDER, input=["a cat", "a dog"], encoding_format="float")
        for one, other in zip(whole.data, floats.data):
            self.assertEqual(len(one.embedding), len(other.embedding))
            for a, b in zip(one.embedding, other.embedding):
                self.assertAlmostEqual(a, b, places=5)
        self.assertGreater(whole.usage.prompt_tokens, 0)


class Responses(unittest.TestCase):
    def test_an_answer_streamed_is_the_same_as_whole(self):
        asked = {**GREEDY, "input": "hello", "instructions": "be kind", "max_output_tokens": 16}
        whole = client.responses.create(**asked)
        self.assertEqual(whole.status, "incomplete")
        self.assertEqual(whole.incomplete_details.reason, "max_output_tokens")
        self.assertEqual(whole.usage.output_tokens, 16)
        self.assertTrue(whole.output_text)
        text, kinds, numbers = "", [], []
        for event in client.responses.create(**asked, stream=True):
            kinds.append(event.type)
            numbers.append(event.sequence_number)
            if event.type == "response.output_text.delta":
                text += event.delta
        self.assertEqual(text, whole.output_text)
        self.assertEqual(numbers, list(range(len(numbers))))
        self.assertEqual(kinds[:4], [
            "response.created", "response.in_progress", "response.output_item.added",
            "response.content_part.added"])
        self.assertEqual(kinds[-4:], [
            "response.output_text.done", "response.content_part.done",
            "response.output_item.done", "response.incomplete"])
        with client.responses.stream(**asked) as stream:
            for _ in stream:
                pass

    def test_an_answer_keeps_a_schema(self):
        answer = client.responses.parse(
            **GREEDY, input=[{"role": "user", "content": "hello"}], text_format=Paint)
        self.assertEqual(answer.status, "completed")
        self.assertIn(answer.output_parsed.colour, ["red", "green"])

    def test_a_tool_is_called_and_answers(self):
        tool = {"type": "function", "strict": True, **WEATHER["function"]}
        said = [{"role": "user", "content": [{"type": "input_text", "text": "hello"}]}]
        asked = {**GREEDY, "tools": [tool], "parallel_tool_calls": False}
        answer = client.responses.create(**asked, input=said, tool_choice="required")
        [call] = answer.output
        self.assertEqual((call.type, call.name), ("function_call", "weather"))
        self.assertIn(json.loads(call.arguments)["room"], ["kitchen", "hall"])
        result = {"type": "function_call_output", "call_id": call.call_id, "output": "warm"}
        further = client.responses.create(
            **asked, input=[*said, call.to_dict(), result], max_output_tokens=16)
        self.assertEqual(further.output[0].type, "message")
        named = {"type": "function", "name": "weather"}
        events = list(client.responses.create(
            **asked, input=said, tool_choice=named, stream=True))
        arguments = [e for e in events if e.type == "response.function_call_arguments.done"]
        self.assertIn("room", arguments[0].arguments)
        self.assertEqual(events[-1].type, "response.completed")

    def test_what_needs_a_memory_is_refused(self):
        with self.assertRaises(openai.BadRequestError) as raised:
            client.responses.create(**GREEDY, input="a", previous_response_id="resp_1")
        self.assertIn("previous_response_id", raised.exception.message)
        with self.assertRaises(openai.NotFoundError):
            client.responses.create(model="nobody", input="a")


if __name__ == "__main__":
    unittest.main()
