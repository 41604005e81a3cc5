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

before(async () => {
  const file = await readFile(process.env.KOS_CLIENTS_MODEL);
  const digest = `sha256:${createHash("sha256").update(file).digest("hex")}`;
  const answer = await fetch(`${url}/api/blobs/${digest}`, { method: "POST", headers, body: file });
  assert.ok([200, 201].includes(answer.status), `${answer.status}`);
  const made = await ollama.create({ model, files: { "tiny.gguf": digest }, template, stream: false });
  assert.equal(made.status, "success");
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
