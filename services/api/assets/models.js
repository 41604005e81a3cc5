// Adding a model: /api/pull as any Ollama client would, with its progress. The chat says when there is none.
'use strict';

(() => {
  const find = (id) => document.getElementById(`chat-${id}`);
  const [panel, empty, open, form, source, begin, cancel, bar, told] =
    ['adding', 'empty', 'add', 'pull', 'source', 'begin', 'cancel', 'progress', 'pulled'].map(find);
  let running = null;
  let wanted = false;
  find('host').textContent = location.hostname;

  // Open where there is no model, where it was asked for, and while one is coming.
  function show(there) {
    const none = there === 0;
    empty.hidden = !none;
    open.hidden = none;
    panel.hidden = !(none || wanted || running);
    open.setAttribute('aria-expanded', String(!panel.hidden));
  }
  let models = 0;
  document.addEventListener('kos:models', (event) => {
    models = event.detail.reason === '' ? event.detail.count : 1;
    show(models);
  });
  open.addEventListener('click', () => {
    wanted = panel.hidden;
    show(models);
    if (wanted) source.focus();
  });

  const size = (bytes) => (bytes < 1e9 ? `${(bytes / 1e6).toFixed(0)} MB` : `${(bytes / 1e9).toFixed(2)} GB`);
  function say(text, kind) {
    told.textContent = text;
    told.className = kind ?? '';
  }

  // One line of the answer. A model comes in parts, one after the other, each of which begins anew.
  function tell(line, began) {
    if (line.error) throw new Error(line.error);
    const { total, completed = 0, status = '', digest } = line;
    if (!total) {
      bar.removeAttribute('value');
      say(status);
      return;
    }
    bar.max = total;
    bar.value = completed;
    if (began.digest !== digest) Object.assign(began, { digest, completed, time: performance.now() });
    const seconds = (performance.now() - began.time) / 1000;
    const rate = (completed - began.completed) / seconds;
    const left = seconds > 3 && rate > 0 ? `, ${Math.ceil((total - completed) / rate / 60)} min left` : '';
    say(`${size(completed)} of ${size(total)}${left}`);
  }

  async function pull(model) {
    running = new AbortController();
    let pulled = null;
    begin.hidden = true;
    cancel.hidden = false;
    source.readOnly = true;
    bar.hidden = false;
    bar.removeAttribute('value');
    say('Asking …');
    try {
      const answer = await fetch('/api/pull', {
        method: 'POST',
        headers: { 'Content-Type': 'application/json' },
        body: JSON.stringify({ model }),
        signal: running.signal,
      });
      if (!answer.ok) throw new Error((await answer.json()).error);
      const began = {};
      let last = {};
      for await (const line of jsonLines(answer.body)) {
        last = line;
        tell(last, began);
      }
      if (last.status !== 'success') throw new Error('The pull ended before it was complete. What has come is kept: pull again to go on.');
      say(`${model} is on the box.`, 'done');
      pulled = model;
      source.value = '';
      wanted = false;
    } catch (error) {
      if (error.name === 'AbortError') say('Stopped. What has come is kept: pull again to go on.');
      else say(error.message || 'The box does not answer.', 'error');
      wanted = true;
    }
    running = null;
    begin.hidden = false;
    cancel.hidden = true;
    source.readOnly = false;
    bar.hidden = true;
    document.dispatchEvent(new CustomEvent('kos:pulled', { detail: pulled }));
  }
  form.addEventListener('submit', (event) => {
    event.preventDefault();
    const model = source.value.trim();
    if (model && !running) pull(model);
  });
  cancel.addEventListener('click', () => running?.abort());
})();
