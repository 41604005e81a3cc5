// The JavaScript clients `ollama` and `openai` against the box; the environment is fixture.py's,
// and so is the model, which Python's tests have left there or this uploads.

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { before, test } from "node:test";
import { Ollama } from "ollama";
import OpenAI from "openai";

const url = process.env.KOS_CLIENTS_URL;
const token = process.env.KOS_CLIENTS_TOKEN || "";
const headers = token ? { Authorization: `Bearer ${token}` } : {};
const model = "clients/tiny-js";
const embedder = process.env.KOS_CLIENTS_EMBEDDER ? "clients/embedder-js" : "";
const messages = [{ role: "user", content: "hello" }];
const options = { temperature: 0, num_predict: 12 };
const template =
  "{% for tool in tools or [] %}{{ tool.function.name }}\n{% endfor %}" +
  "{% for message in messages %}[{{ message.role }}] {{ message.content }}\n{% endfor %}";
const weather = {
  type: "function",
  function: {
    name: "weather",
    description: "What the weather is like",
    parameters: {
      type: "object",
      properties: { room: { type: "string", enum: ["kitchen", "hall"] } },
      required: ["room"],
    },
  },
};

const ollama = new Ollama({ host: url, headers });
const openai = new OpenAI({ baseURL: `${url}/v1`, apiKey: token || "none", maxRetries: 0 });

async function upload(name, path, more) {
  const file = await readFile(path);
  const digest = `sha256:${createHash("sha256").update(file).digest("hex")}`;
  const answer = await fetch(`${url}/api/blobs/${digest}`, { method: "POST", headers, body: file });
  assert.ok([200, 201].includes(answer.status), `${answer.status}`);
  const made = await ollama.create({ model: name, files: { "tiny.gguf": digest }, stream: false, ...more });
  assert.equal(made.status, "success");
}

before(async () => {
  await upload(model, process.env.KOS_CLIENTS_MODEL, { template });
  if (embedder) await upload(embedder, process.env.KOS_CLIENTS_EMBEDDER, {});
});

test("ollama: list, show, ps, copy, delete", async () => {
  const { models } = await ollama.list();
  assert.ok(models.some((one) => one.name === `${model}:latest`));
  assert.equal((await ollama.show({ model })).template, template);
  await ollama.copy({ source: model, destination: "clients/js-copy" });
  assert.equal((await ollama.delete({ model: "clients/js-copy" })).status, "success");
  await ollama.generate({ model, prompt: "", keep_alive: "5m" });
  assert.ok((await ollama.ps()).models.some((one) => one.name === `${model}:latest`));
  assert.match((await ollama.version()).version, /^\d+\.\d+\.\d+/);
});

test("ollama: an answer streamed is the same as whole", async () => {
  const whole = await ollama.chat({ model, messages, options });
  let text = "";
  for await (const part of await ollama.chat({ model, messages, options, stream: true })) {
    text += part.message.content;
  }
  assert.equal(text, whole.message.content);
  assert.equal(whole.eval_count, 12);
  const said = await ollama.generate({ model, prompt: "hello", options });
  assert.equal(said.done_reason, "length");
});

test("ollama: schema, errors, leaving", async () => {
  const format = {
    type: "object",
    properties: { on: { type: "boolean" } },
    required: ["on"],
  };
  const answer = await ollama.chat({ model, messages, format, options: { temperature: 0 } });
  assert.equal(typeof JSON.parse(answer.message.content).on, "boolean");
  await assert.rejects(ollama.chat({ model: "nobody", messages }), (error) => {
    assert.equal(error.status_code, 404);
    assert.match(error.message, /nobody/);
    return true;
  });
  const stream = await ollama.generate({
    model, prompt: "hello", stream: true, options: { num_predict: -1, num_ctx: 500 },
  });
  await assert.rejects(async () => {
    for await (const _ of stream) stream.abort();
  }, { name: "AbortError" });
  assert.equal((await ollama.generate({ model, prompt: "a", options })).eval_count, 12);
});

test("ollama: tools", async () => {
  const called = { function: { name: "weather", arguments: { room: "hall" } } };
  const result = { role: "tool", content: "cold", tool_name: "weather" };
  const told = [...messages, { role: "assistant", content: "", tool_calls: [called] }, result];
  const after = await ollama.chat({ model, messages: told, tools: [weather], options });
  const without = await ollama.chat({ model, messages, options });
  assert.ok(after.prompt_eval_count > without.prompt_eval_count);
  // A call that the format forces is found in the text, whole or streamed.
  const format = {
    type: "object",
    properties: { name: { const: "weather" }, arguments: weather.function.parameters },
    required: ["name", "arguments"],
  };
  const asked = { model, messages, tools: [weather], format, options: { temperature: 0 } };
  const [whole] = (await ollama.chat(asked)).message.tool_calls;
  assert.equal(whole.function.name, "weather");
  const streamed = [];
  for await (const part of await ollama.chat({ ...asked, stream: true })) {
    streamed.push(...(part.message.tool_calls ?? []));
  }
  assert.deepEqual(streamed.map((call) => call.function), [whole.function]);
});

test("ollama: vectors", { skip: !embedder }, async () => {
  const { embeddings } = await ollama.embed({ model: embedder, input: ["a cat", "a dog", "a cat"] });
  assert.equal(embeddings.length, 3);
  assert.deepEqual(embeddings[0], embeddings[2]);
  const length = embeddings[0].reduce((sum, number) => sum + number * number, 0);
  assert.ok(Math.abs(length - 1) < 1e-3, `${length}`);
  const { embedding } = await ollama.embeddings({ model: embedder, prompt: "a cat" });
  assert.equal(embedding.length, embeddings[0].length);
  await assert.rejects(ollama.embed({ model, input: Array(5000).fill("long").join(" "), truncate: false }));
});

test("openai: an answer streamed is the same as whole", async () => {
  const asked = { model, messages, temperature: 0, max_completion_tokens: 12 };
  const whole = await openai.chat.completions.create(asked);
  const stream = await openai.chat.completions.create({
    ...asked, stream: true, stream_options: { include_usage: true },
  });
  let text = "";
  let usage;
  for await (const chunk of stream) {
    text += chunk.choices[0]?.delta?.content ?? "";
    usage = chunk.usage ?? usage;
  }
  assert.equal(text, whole.choices[0].message.content);
  assert.deepEqual(usage, whole.usage);
  assert.ok((await openai.models.list()).data.length > 0);
});

test("openai: tools, errors, leaving", async () => {
  const asked = { model, messages, temperature: 0, tools: [weather] };
  const runner = openai.chat.completions.stream({ ...asked, tool_choice: "required", parallel_tool_calls: false });
  const final = await runner.finalChatCompletion();
  const [call] = final.choices[0].message.tool_calls;
  assert.equal(call.function.name, "weather");
  assert.ok(["kitchen", "hall"].includes(JSON.parse(call.function.arguments).room));
  await assert.rejects(openai.chat.completions.create({ ...asked, model: "nobody" }), (error) => {
    assert.equal(error.status, 404);
    assert.equal(error.code, "model_not_found");
    return true;
  });
  const stream = await openai.chat.completions.create({ model, messages, stream: true });
  for await (const _ of stream) break;
  const again = await openai.chat.completions.create({ model, messages, max_tokens: 3 });
  assert.equal(again.usage.completion_tokens, 3);
});

test("openai: schema", async () => {
  const schema = {
    type: "object",
    properties: { colour: { enum: ["red", "green"] }, on: { type: "boolean" } },
    required: ["colour", "on"],
    additionalProperties: false,
  };
  const answer = await openai.chat.completions.parse({
    model, messages, temperature: 0,
    response_format: { type: "json_schema", json_schema: { name: "paint", strict: true, schema } },
  });
  const { parsed } = answer.choices[0].message;
  assert.ok(["red", "green"].includes(parsed.colour));
  assert.equal(typeof parsed.on, "boolean");
});

test("openai: vectors", { skip: !embedder }, async () => {
  // The client asks for base64 by itself and unpacks it.
  const { data, usage } = await openai.embeddings.create({ model: embedder, input: ["a cat", "a dog"] });
  assert.deepEqual(data.map((one) => one.index), [0, 1]);
  assert.ok(usage.total_tokens > 0);
  const plain = await openai.embeddings.create({
    model: embedder, input: "a cat", encoding_format: "float",
  });
  assert.equal(plain.data[0].embedding.length, data[0].embedding.length);
  assert.ok(plain.data[0].embedding.every((number, at) => Math.abs(number - data[0].embedding[at]) < 1e-5));
});

test("openai: responses", async () => {
  const asked = { model, input: "hello", temperature: 0, max_output_tokens: 16 };
  const whole = await openai.responses.create(asked);
  let text = "";
  let last;
  for await (const event of await openai.responses.create({ ...asked, stream: true })) {
    if (event.type === "response.output_text.delta") text += event.delta;
    last = event.type;
  }
  assert.equal(text, whole.output_text);
  assert.equal(last, "response.incomplete");
});
