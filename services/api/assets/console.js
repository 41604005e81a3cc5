// What htmx does not do on the console: asking before an act, saying that the box is away, and
// coming back after a reboot. Without this file every form still works.
'use strict';

(() => {
  const dialog = document.getElementById('confirm-dialog');
  const why = document.getElementById('confirm-why');
  const reason = document.getElementById('confirm-reason');
  const connection = document.getElementById('connection');
  let agreed = null;
  let leaving = '';

  // Asks before a form with data-confirm is sent, by htmx or by the browser.
  document.addEventListener('submit', (event) => {
    const form = event.target;
    if (!form.dataset.confirm || agreed === form) {
      agreed = null;
      return;
    }
    event.preventDefault();
    event.stopImmediatePropagation();
    document.getElementById('confirm-text').textContent = form.dataset.confirm;
    document.getElementById('confirm-yes').textContent = form.dataset.confirmLabel || 'OK';
    // A form with a field for a reason gets it from the dialog.
    const field = form.elements.reason;
    why.hidden = !field;
    reason.value = '';
    dialog.returnValue = 'no';
    dialog.addEventListener('close', () => {
      if (dialog.returnValue === 'yes') {
        if (field) field.value = reason.value;
        agreed = form;
        form.requestSubmit();
      }
    }, { once: true });
    dialog.showModal();
  }, true);
  document.getElementById('confirm-no').addEventListener('click', () => dialog.close('no'));

  // A menu closes when something else is clicked, or with Escape.
  document.addEventListener('click', (event) => {
    for (const menu of document.querySelectorAll('.menu[open]')) {
      if (!menu.contains(event.target) || event.target.closest('button')) menu.open = false;
    }
  });
  document.addEventListener('keydown', (event) => {
    const menu = event.key === 'Escape' && document.querySelector('.menu[open]');
    if (menu) {
      menu.open = false;
      menu.querySelector('summary').focus();
    }
  });

  // A button that goes, as Freeze does for Thaw, does not take the keyboard's place with it.
  let place = '';
  document.addEventListener('focusin', (event) => {
    if (!event.target.closest('dialog')) place = event.target.closest('.buttons')?.closest('[id]').id ?? '';
  });
  document.addEventListener('pointerdown', (event) => {
    if (!event.target.closest('.buttons, dialog')) place = '';
  });
  document.addEventListener('htmx:after:swap', () => {
    if (place === '' || document.activeElement !== document.body) return;
    document.getElementById(place)?.querySelector('.buttons button')?.focus();
  });

  function say(text) {
    connection.textContent = text;
    connection.hidden = text === '';
  }

  // What is said when an answer is an error; the page keeps what it shows.
  document.addEventListener('htmx:response:error', (event) => {
    const { response, sourceElement, text } = event.detail.ctx;
    if (response.status === 401) return location.reload();
    let words;
    try {
      words = JSON.parse(text).error;
    } catch {
      words = `The box answers with ${response.status}.`;
    }
    if (sourceElement.matches('form')) tell(words);
    else if (!leaving) say(words);
  });
  document.addEventListener('htmx:error', (event) => {
    const source = event.detail.ctx?.sourceElement;
    if (!source || leaving) return;
    if (source.matches('form')) tell('The box does not answer. Nothing was done.');
    else say('The box does not answer. Trying again…');
  });
  document.addEventListener('htmx:after:swap', (event) => {
    if (event.detail.ctx?.sourceElement?.id === 'now') say('');
  });
  function tell(words) {
    const banner = document.createElement('p');
    banner.className = 'banner bad';
    banner.textContent = words;
    document.getElementById('notice').replaceChildren(banner);
  }

  // The stream that never began is not tried again by htmx.
  const isLive = document.querySelector('[hx-sse\\:connect]') !== null;
  const unconnected = isLive && setTimeout(() => say('This page is not live: the box has too many open pages, or does not answer. Reload it to try again.'), 10000);
  document.addEventListener('htmx:sse:after:connection', () => {
    clearTimeout(unconnected);
    say('');
  });
  document.addEventListener('htmx:sse:error', (event) => {
    // The session has ended: the pairing page says what to do.
    if (event.detail.status === 401) location.reload();
    else if (!leaving) say('The box does not answer. Trying again…');
  });
  document.addEventListener('htmx:sse:close', () => {
    if (!leaving) say('The box does not answer. Reload the page to try again.');
  });

  // After a reboot the page is loaded anew, once the box has been away and is back.
  async function waitForReturn() {
    let away = false;
    for (;;) {
      await new Promise((resolve) => setTimeout(resolve, 1000));
      try {
        const answer = await fetch('/healthz', { cache: 'no-store', signal: AbortSignal.timeout(3000) });
        if (answer.ok && away) return location.reload();
      } catch {
        if (!away && leaving === 'poweroff') say('The box is off.');
        away = true;
      }
    }
  }

  // A notice goes after a while, unless the box goes first.
  const notice = document.getElementById('notice');
  let forgetting = 0;
  new MutationObserver(() => {
    const banner = notice.querySelector('.banner');
    clearTimeout(forgetting);
    if (!banner) return;
    if (!banner.dataset.leaving) {
      forgetting = setTimeout(() => notice.replaceChildren(), 15000);
    } else if (!leaving) {
      leaving = banner.dataset.leaving;
      waitForReturn();
    }
  }).observe(notice, { childList: true });
})();
