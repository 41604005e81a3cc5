// The chat: streams from /api/chat as any Ollama client would, keeps its history in this page.
'use strict';

(() => {
  const panel = document.querySelector('.chat');
  const find = (id) => document.getElementById(`chat-${id}`);
  const [picker, form, prompt, send, stop, clear, list, away] =
    ['model', 'form', 'prompt', 'send', 'stop', 'clear', 'messages', 'away'].map(find);
  const history = [];
  let running = null;

  // Models: asked for at the start, and again whenever the inference service changes its state.
  async function refreshModels() {
    let models = [];
    let reason = '';
    try {
      const answer = await fetch('/api/tags', { signal: AbortSignal.timeout(30000) });
      const body = await answer.json();
      // The operator came with the box and has a page of its own: it does not chat.
      if (answer.ok) models = body.models.filter((model) => model.details?.family !== 'kos-operator');
      else reason = body.error;
    } catch {
      reason = 'The box does not answer.';
    }
    const chosen = picker.value || panel.dataset.defaultModel;
    picker.replaceChildren(...models.map((model) => {
      const size = model.details?.parameter_size;
      return new Option(size ? `${model.name} (${size})` : model.name, model.name, false, model.name === chosen);
    }));
    if (models.length === 0) picker.add(new Option(reason ? 'Not available' : 'No model'));
    picker.disabled = models.length === 0;
    form.hidden = models.length === 0;
    document.dispatchEvent(new CustomEvent('kos:models', { detail: { count: models.length, reason } }));
    away.hidden = reason === '';
    away.textContent = reason;
  }
  const inferState = () => document.getElementById('row-infer')?.dataset.state;
  let seenState = inferState();
  new MutationObserver(() => {
    const state = inferState();
    if (state !== seenState) {
      seenState = state;
      refreshModels();
    }
  }).observe(document.getElementById('services'), { subtree: true, childList: true, attributes: true });
  // A model copied to the data disk announces itself to nobody; looking is cheap.
  setInterval(() => { if (form.hidden && !document.hidden) refreshModels(); }, 5000);

  picker.addEventListener('change', () => {
    fetch('/api/v1/settings', {
      method: 'PUT',
      headers: { 'Content-Type': 'application/json' },
      body: JSON.stringify({ default_model: picker.value }),
    }).catch(() => {});
  });

  function addMessage(role, who, text) {
    const message = document.createElement('div');
    message.className = `message ${role}`;
    const name = document.createElement('span');
    name.className = 'who';
    name.textContent = who;
    const body = document.createElement('div');
    body.className = 'text';
    body.textContent = text;
    message.append(name, body);
    list.append(message);
    return { message, body };
  }
  function note(message, kind, text) {
    const line = document.createElement(kind === 'error' ? 'p' : 'span');
    line.className = kind;
    if (kind === 'error') line.setAttribute('role', 'alert');
    line.textContent = text;
    message.append(line);
  }
  const atEnd = () => list.scrollHeight - list.scrollTop - list.clientHeight < 40;
  function busy(is) {
    send.hidden = is;
    stop.hidden = !is;
    picker.disabled = is;
    clear.hidden = is || history.length === 0;
  }

  function figures(last) {
    const parts = [];
    if (last.eval_count && last.eval_duration) {
      const speed = last.eval_count / (last.eval_duration / 1e9);
      parts.push(`${speed.toFixed(speed < 10 ? 1 : 0)} tokens/s`, `${last.eval_count} tokens`);
    }
    if (last.total_duration) parts.push(`${(last.total_duration / 1e9).toFixed(1)} s`);
    if (last.done_reason === 'length') parts.push('cut at the length limit');
    return parts.join(' · ');
  }

  async function ask(text) {
    const model = picker.value;
    addMessage('user', 'you', text);
    history.push({ role: 'user', content: text });
    const { message, body } = addMessage('assistant', model, '');
    message.setAttribute('aria-busy', 'true');
    list.scrollTop = list.scrollHeight;
    running = new AbortController();
    busy(true);
    let said = '';
    let complete = false;
    try {
      const answer = await fetch('/api/chat', {
        method: 'POST',
        headers: { 'Content-Type': 'application/json' },
        body: JSON.stringify({ model, messages: history }),
        signal: running.signal,
      });
      if (!answer.ok) throw new Error((await answer.json()).error);
      for await (const line of jsonLines(answer.body)) {
        if (line.error) throw new Error(line.error);
        const stick = atEnd();
        if (line.message?.content) {
          said += line.message.content;
          body.append(line.message.content);
        }
        if (line.done) {
          complete = true;
          note(message, 'figures', figures(line));
        }
        if (stick) list.scrollTop = list.scrollHeight;
      }
      if (!complete) throw new Error('The answer ended before it was complete.');
    } catch (error) {
      if (error.name === 'AbortError') note(message, 'figures', 'stopped');
      else note(message, 'error', error.message || 'The box does not answer.');
    }
    // What was said is part of the conversation, complete or not; a question without any answer
    // is taken back, so that asking again does not ask twice.
    if (said) history.push({ role: 'assistant', content: said });
    else history.pop();
    message.removeAttribute('aria-busy');
    running = null;
    busy(false);
    list.scrollTop = list.scrollHeight;
    prompt.focus({ preventScroll: true });
  }

  form.addEventListener('submit', (event) => {
    event.preventDefault();
    const text = prompt.value.trim();
    if (!text || running) return;
    prompt.value = '';
    ask(text);
  });
  prompt.addEventListener('keydown', (event) => {
    if (event.key === 'Enter' && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      form.requestSubmit();
    }
  });
  stop.addEventListener('click', () => running?.abort());
  clear.addEventListener('click', () => {
    history.length = 0;
    list.replaceChildren();
    busy(false);
    prompt.focus();
  });
  // A model that has just come is the one to talk with.
  document.addEventListener('kos:pulled', async ({ detail: name }) => {
    const before = [...picker.options].map(({ value }) => value);
    await refreshModels();
    if (name === null) return;
    const options = [...picker.options];
    // One that was pulled by its address has the name of its file.
    const option = options.find(({ value }) => value === name || value === `${name}:latest`)
      ?? options.find(({ value }) => !before.includes(value));
    if (!option || picker.disabled) return;
    picker.value = option.value;
    picker.dispatchEvent(new Event('change'));
    prompt.focus();
  });
  refreshModels();
})();
