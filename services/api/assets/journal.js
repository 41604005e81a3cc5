// The log page: searches and pages by /api/v1/logs, follows by server-sent events. A line's cursor
// is what a stream resumes from, so that a broken connection or a pause costs no line and doubles
// none.
'use strict';

(() => {
  // Lines in the page. Beyond that the oldest go, while they can be loaded again.
  const MAX_LINES = 10000;
  const PAGE = 500;
  const list = document.getElementById('lines');
  const question = document.getElementById('question');
  const field = Object.fromEntries(['search', 'service', 'level', 'range', 'since', 'until']
    .map((name) => [name, document.getElementById(name)]));
  const span = document.getElementById('span');
  const wrong = document.getElementById('wrong');
  const state = document.getElementById('state');
  const pause = document.getElementById('pause');
  const toEnd = document.getElementById('end');
  const download = document.getElementById('download');

  let newer = list.dataset.newer;
  let older = list.dataset.older;
  let source = null;
  let paused = false;
  let away = false;
  let loading = false;
  let unseen = 0;
  let asked = 0;

  const clock = new Intl.DateTimeFormat(undefined, {
    hour: '2-digit', minute: '2-digit', second: '2-digit', hourCycle: 'h23',
  });
  const dayAndClock = new Intl.DateTimeFormat(undefined, {
    month: 'short', day: '2-digit', hour: '2-digit', minute: '2-digit', second: '2-digit', hourCycle: 'h23',
  });
  const today = () => new Date().toDateString();
  const seq = (cursor) => Number(cursor.slice(cursor.lastIndexOf('-') + 1));

  function showTime(time, at) {
    time.dateTime = time.title = at.toISOString();
    time.textContent = (at.toDateString() === today() ? clock : dayAndClock).format(at);
  }

  function lineOf(entry) {
    const line = document.createElement('li');
    line.id = entry.cursor;
    line.dataset.level = entry.level;
    line.dataset.boot = entry.boot;
    const time = document.createElement('time');
    showTime(time, new Date(entry.time_unix_ms));
    const service = document.createElement('b');
    service.textContent = service.title = entry.service;
    const text = document.createElement('span');
    text.textContent = entry.message;
    for (const [name, value] of Object.entries(entry.fields ?? {})) {
      const one = document.createElement('i');
      const label = document.createElement('u');
      label.textContent = `${name}=`;
      one.append(label, typeof value === 'string' ? value : JSON.stringify(value));
      text.append(' ', one);
    }
    if (entry.gap) {
      line.className = 'gap';
      const from = entry.gap.after_unix_ms ? clock.format(new Date(entry.gap.after_unix_ms)) : 'the start';
      text.append(`, between ${from} and ${clock.format(new Date(entry.gap.before_unix_ms))}`);
    }
    line.append(time, ' ', service, ' ', text);
    return line;
  }

  // Lines, with a word where another boot begins.
  function linesOf(entries, before) {
    const lines = [];
    let boot = before;
    for (const entry of entries) {
      if (boot && boot !== entry.boot) lines.push(note('new boot', 'boot'));
      boot = entry.boot;
      lines.push(lineOf(entry));
    }
    return lines;
  }
  function note(text, kind) {
    const line = document.createElement('li');
    line.className = kind;
    line.textContent = text;
    return line;
  }
  const lastBoot = () => {
    for (let line = list.lastElementChild; line; line = line.previousElementSibling) {
      if (line.dataset.boot) return line.dataset.boot;
    }
    return null;
  };

  const atEnd = () => list.scrollHeight - list.scrollTop - list.clientHeight < 24;
  // Lines out of sight have a guessed height, and the list grows when they come into view: who was
  // put at the end is there as long as nobody has scrolled up.
  let put = Infinity;
  const isAtEnd = () => atEnd() || list.scrollTop >= put - 4;
  function putAtEnd() {
    list.scrollTop = list.scrollHeight;
    put = list.scrollTop;
    requestAnimationFrame(() => {
      const left = list.scrollHeight - list.scrollTop - list.clientHeight;
      if (list.scrollTop >= put - 4 && left >= 1) putAtEnd();
    });
  }
  const isLive = () => field.until.value === '' || span.hidden;

  function show() {
    const empty = list.childElementCount === 0;
    if (away) state.textContent = 'The box does not answer. Trying again…';
    else if (!isLive()) state.textContent = empty ? 'Nothing fits.' : '';
    else if (paused) state.textContent = 'Paused';
    else if (unseen > 0) state.textContent = `${unseen} new below`;
    else state.textContent = empty ? 'Nothing fits yet. Following' : 'Following';
    pause.hidden = !isLive();
    pause.setAttribute('aria-pressed', paused);
    pause.textContent = paused ? 'Follow' : 'Pause';
    toEnd.hidden = isAtEnd();
  }

  // Lines that arrive are added a frame at a time; where the reader is, is measured then.
  let pending = [];
  function add(entry) {
    if (seq(entry.cursor) <= seq(newer)) return;
    newer = entry.cursor;
    if (pending.length === 0) requestAnimationFrame(flush);
    pending.push(entry);
    // A tab in the background gets no frames.
    if (pending.length > 2 * MAX_LINES) pending = pending.slice(-MAX_LINES);
  }
  function flush() {
    const follows = isAtEnd();
    const lines = linesOf(pending, lastBoot());
    if (!follows) unseen += pending.length;
    pending = [];
    list.append(...lines);
    if (follows) {
      shorten();
      putAtEnd();
    } else if (list.childElementCount > 2 * MAX_LINES) {
      // Someone reads above, and the page cannot grow without end.
      setPaused(true);
    }
    show();
  }
  function shorten() {
    if (list.childElementCount <= MAX_LINES) return;
    while (list.childElementCount > MAX_LINES) list.firstElementChild.remove();
    while (list.firstElementChild && !list.firstElementChild.id) list.firstElementChild.remove();
    older = list.firstElementChild?.id ?? older;
  }

  function query() {
    const asks = new URLSearchParams();
    for (const name of ['search', 'service', 'level']) {
      if (field[name].value.trim() !== '') asks.set(name, field[name].value.trim());
    }
    if (field.range.value !== 'span') {
      if (field.range.value !== '') asks.set('since', field.range.value);
    } else {
      for (const name of ['since', 'until']) {
        if (field[name].value !== '') asks.set(name, new Date(field[name].value).toISOString());
      }
    }
    return asks;
  }

  async function get(asks) {
    const answer = await fetch(`/api/v1/logs?${asks}`);
    const body = await answer.json();
    if (!answer.ok) throw new Error(body.error);
    return body;
  }

  // Another question: the page begins anew.
  async function ask() {
    const mine = ++asked;
    const asks = query();
    history.replaceState(null, '', asks.size === 0 ? '/logs' : `/logs?${asks}`);
    download.href = `/api/v1/logs/download?${asks}`;
    source?.close();
    asks.set('limit', PAGE);
    let page;
    try {
      page = await get(asks);
    } catch (error) {
      if (mine === asked) {
        wrong.textContent = error.message;
        wrong.hidden = false;
        state.textContent = 'These are lines of the question before.';
      }
      return;
    }
    if (mine !== asked) return;
    wrong.hidden = true;
    pending = [];
    unseen = 0;
    newer = page.newer;
    older = page.older ?? '';
    list.replaceChildren(...linesOf(page.entries, null));
    putAtEnd();
    follow();
    fill();
  }

  async function loadOlder() {
    if (loading || older === '') return;
    loading = true;
    const atBottom = isAtEnd();
    const mine = asked;
    const asks = query();
    asks.set('limit', PAGE);
    asks.set('cursor', older);
    try {
      const page = await get(asks);
      if (mine !== asked) return;
      const height = list.scrollHeight - list.scrollTop;
      const first = list.firstElementChild;
      const lines = linesOf(page.entries, null);
      const last = page.entries.at(-1);
      if (last && first?.dataset.boot && first.dataset.boot !== last.boot) lines.push(note('new boot', 'boot'));
      list.prepend(...lines);
      older = page.older ?? '';
      if (atBottom) putAtEnd();
      else list.scrollTop = list.scrollHeight - height;
      away = false;
    } catch {
      away = true;
    } finally {
      loading = false;
      show();
    }
  }

  // What does not fill the window cannot be scrolled, and would hide that there is more.
  async function fill() {
    const mine = asked;
    while (mine === asked && !away && older !== '' && list.scrollHeight <= list.clientHeight + 200) {
      await loadOlder();
    }
  }

  function follow() {
    source?.close();
    source = null;
    if (isLive() && !paused) {
      const asks = query();
      asks.delete('since');
      asks.set('cursor', newer);
      source = new EventSource(`/api/v1/logs/follow?${asks}`);
      source.addEventListener('log', (event) => add(JSON.parse(event.data)));
      source.addEventListener('position', (event) => { newer = event.lastEventId; });
      source.addEventListener('lost', () => {
        list.append(note('Lines are missing here: they have been deleted, or the box has another log.', 'gap'));
        newer = newer.replace(/\d+$/, '0');
      });
      source.addEventListener('open', () => { away = false; show(); });
      source.addEventListener('error', () => {
        away = true;
        show();
        // A browser gives up on an answer that is an error, such as while the box restarts.
        if (source?.readyState === EventSource.CLOSED) setTimeout(follow, 2000);
      });
    }
    show();
  }

  function setPaused(now) {
    paused = now;
    follow();
  }
  function scrollToEnd() {
    unseen = 0;
    shorten();
    putAtEnd();
    show();
  }

  function mark(line) {
    if (!line) return;
    list.querySelector('.marked')?.classList.remove('marked');
    line.classList.add('marked');
    line.scrollIntoView({ block: 'nearest' });
  }
  function step(forward) {
    const marked = list.querySelector('.marked');
    if (marked) {
      mark(forward ? marked.nextElementSibling : marked.previousElementSibling);
      return;
    }
    // The first that can be seen, or the last.
    const top = list.getBoundingClientRect();
    const x = top.left + 40;
    const seen = document.elementFromPoint(x, forward ? top.top + 14 : top.bottom - 14)?.closest('#lines > li');
    mark(seen ?? (forward ? list.firstElementChild : list.lastElementChild));
  }

  document.addEventListener('keydown', (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.matches('input, select')) {
      if (event.key === 'Escape') list.focus();
      return;
    }
    const keys = {
      '/': () => { field.search.focus(); field.search.select(); },
      j: () => step(true),
      k: () => step(false),
      p: () => { if (isLive()) setPaused(!paused); },
      g: () => { list.scrollTop = 0; },
      G: scrollToEnd,
    };
    const act = keys[event.key];
    // Before anything has the focus, what scrolls is the list.
    if (/^(Arrow|Page|Home|End)/.test(event.key) && document.activeElement === document.body) {
      list.focus({ preventScroll: true });
    }
    if (!act) return;
    event.preventDefault();
    act();
  });

  let typing = null;
  field.search.addEventListener('input', () => {
    clearTimeout(typing);
    typing = setTimeout(ask, 250);
  });
  question.addEventListener('submit', (event) => {
    event.preventDefault();
    clearTimeout(typing);
    ask();
  });
  for (const name of ['service', 'level', 'since', 'until']) field[name].addEventListener('change', ask);
  field.range.addEventListener('change', () => {
    span.hidden = field.range.value !== 'span';
    if (span.hidden) ask();
  });
  list.addEventListener('scroll', () => {
    if (list.scrollTop < 200) loadOlder();
    if (atEnd()) put = list.scrollTop;
    else if (list.scrollTop < put - 4) put = Infinity;
    if (isAtEnd()) unseen = 0;
    show();
  });
  list.addEventListener('click', (event) => {
    const line = event.target.closest('li');
    if (line && getSelection().isCollapsed) mark(line);
  });
  pause.addEventListener('click', () => setPaused(!paused));
  toEnd.addEventListener('click', () => { scrollToEnd(); list.focus(); });

  // What the server rendered, in the reader's own time.
  for (const time of list.querySelectorAll('time')) showTime(time, new Date(time.dateTime));
  field.range.querySelector('[value=span]').hidden = false;
  const local = (text) => {
    const at = new Date(text);
    return new Date(at - at.getTimezoneOffset() * 60000).toISOString().slice(0, 19);
  };
  const { since, until } = list.dataset;
  const isOffered = [...field.range.options].some((option) => option.value === since);
  if (until !== '' || (!isOffered && !Number.isNaN(Date.parse(since)))) {
    field.range.value = 'span';
    span.hidden = false;
    for (const [name, text] of [['since', since], ['until', until]]) {
      if (text !== '' && !Number.isNaN(Date.parse(text))) field[name].value = local(text);
    }
  } else if (!isOffered) {
    // An address may say what the list does not offer.
    field.range.add(new Option(since, since, true, true));
  }
  download.href = `/api/v1/logs/download?${query()}`;
  putAtEnd();
  if (wrong.hidden) {
    follow();
    fill();
  }
})();
