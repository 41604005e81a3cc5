// The log view: follows by server-sent events, stops scrolling when the reader scrolls up, filters.
// On the console it opens in a dialog, so that the chat goes on behind it; the links lead to the
// same view as a page.
'use strict';

(() => {
  // Lines kept in the page while it follows; the oldest go.
  const MAX_LINES = 5000;
  const dialog = document.getElementById('log-dialog');
  const body = document.getElementById('log-body');
  let source = null;

  const localTime = new Intl.DateTimeFormat(undefined, {
    hour: '2-digit', minute: '2-digit', second: '2-digit', hourCycle: 'h23',
  });

  function follow(log) {
    const list = log.querySelector('.lines');
    const state = log.querySelector('.log-state');
    const toEnd = log.querySelector('.log-end');
    const filter = log.querySelector('#log-filter');
    const level = log.querySelector('#log-level');
    let following = true;
    let unseen = 0;

    function matches(line) {
      if (line.classList.contains('gap')) return true;
      const wanted = filter.value.trim().toLowerCase();
      return Number(line.dataset.level) <= Number(level.value)
        && (wanted === '' || line.lastElementChild.textContent.toLowerCase().includes(wanted));
    }
    function show() {
      if (following) {
        state.textContent = list.childElementCount === 0 ? 'No lines yet.' : 'Following';
      } else {
        state.textContent = unseen === 0 ? 'Paused' : `Paused, ${unseen} new`;
      }
      toEnd.hidden = following;
    }
    function scrollToEnd() {
      list.scrollTop = list.scrollHeight;
      following = true;
      unseen = 0;
      show();
    }
    const atEnd = () => list.scrollHeight - list.scrollTop - list.clientHeight < 24;
    // Lines are added a frame at a time. Whether the reader is at the end is measured then: a flag
    // kept from the last scroll event would pull back a reader who has just begun to scroll.
    let pending = [];
    function add(line) {
      if (pending.length === 0) requestAnimationFrame(flush);
      pending.push(line);
      // A tab in the background gets no frames.
      if (pending.length > 2 * MAX_LINES) pending = pending.slice(-MAX_LINES);
    }
    function flush() {
      following = atEnd();
      for (const line of pending) {
        line.hidden = !matches(line);
        if (!following && !line.hidden) unseen += 1;
      }
      list.append(...pending);
      pending = [];
      // Someone who reads above keeps more, but not without end.
      const most = following ? MAX_LINES : 4 * MAX_LINES;
      while (list.childElementCount > most) list.firstElementChild.remove();
      if (following) list.scrollTop = list.scrollHeight;
      show();
    }
    function refilter() {
      for (const line of list.children) line.hidden = !matches(line);
      if (following) list.scrollTop = list.scrollHeight;
    }
    function gap(text) {
      const line = document.createElement('li');
      line.className = 'gap';
      line.textContent = text;
      add(line);
    }

    for (const time of list.querySelectorAll('time')) {
      time.textContent = localTime.format(new Date(time.dateTime));
      time.title = time.dateTime;
    }
    list.addEventListener('scroll', () => {
      following = atEnd();
      if (following) unseen = 0;
      show();
    });
    toEnd.addEventListener('click', () => { scrollToEnd(); list.focus(); });
    filter.addEventListener('input', refilter);
    level.addEventListener('change', refilter);

    const name = encodeURIComponent(log.dataset.name);
    source?.close();
    source = new EventSource(`/api/v1/services/${name}/log?follow=1&cursor=${log.dataset.next}`);
    source.addEventListener('log', (event) => {
      const entry = JSON.parse(event.data);
      const line = document.createElement('li');
      line.dataset.level = entry.level;
      const time = document.createElement('time');
      const at = new Date(entry.time_unix_ms);
      time.dateTime = time.title = at.toISOString();
      time.textContent = localTime.format(at);
      const text = document.createElement('span');
      text.textContent = entry.message;
      line.append(time, ' ', text);
      add(line);
    });
    source.addEventListener('dropped', (event) => {
      gap(`${JSON.parse(event.data).dropped} lines are missing here: they came faster than they were kept.`);
    });
    source.addEventListener('open', show);
    source.addEventListener('error', () => { state.textContent = 'The box does not answer. Trying again…'; });
    scrollToEnd();
  }

  if (!dialog) {
    const log = document.querySelector('.log');
    if (log) follow(log);
    return;
  }

  document.addEventListener('click', async (event) => {
    const link = event.target.closest('a[data-log]');
    if (link && !(event.ctrlKey || event.metaKey || event.shiftKey || event.button)) {
      event.preventDefault();
      let answer;
      try {
        answer = await fetch(link.href, { headers: { 'HX-Request': 'true' } });
      } catch {
        return;
      }
      if (!answer.ok) {
        location.assign(link.href);
        return;
      }
      body.innerHTML = await answer.text();
      body.querySelector('[data-close-log]').hidden = false;
      dialog.showModal();
      follow(body.querySelector('.log'));
      body.querySelector('.lines').focus();
    } else if (event.target === dialog || event.target.closest('[data-close-log]')) {
      dialog.close();
    }
  });
  dialog.addEventListener('close', () => {
    source?.close();
    source = null;
    body.replaceChildren();
  });
})();
