// The manifest's editor: line numbers that follow the text, and the line with the error in view.
// Without this file the form still works.
'use strict';

(() => {
  const text = document.getElementById('manifest-text');
  if (!text) return;
  const numbers = text.parentElement.querySelector('.numbers');

  function number() {
    const count = text.value.split('\n').length;
    const wrong = Number(text.dataset.problemLine);
    numbers.replaceChildren(...Array.from({ length: count }, (_, index) => {
      const line = document.createElement('span');
      line.textContent = index + 1;
      if (index + 1 === wrong) line.className = 'wrong';
      return line;
    }));
    numbers.scrollTop = text.scrollTop;
  }

  function goTo(line) {
    const lines = text.value.split('\n');
    const start = lines.slice(0, line - 1).join('\n').length + (line > 1 ? 1 : 0);
    text.focus();
    text.setSelectionRange(start, start + (lines[line - 1] || '').length);
    text.scrollTop = Math.max(0, (line - 6) * parseFloat(getComputedStyle(text).lineHeight));
  }

  text.addEventListener('input', () => {
    delete text.dataset.problemLine;
    number();
  });
  text.addEventListener('scroll', () => { numbers.scrollTop = text.scrollTop; });
  document.addEventListener('click', (event) => {
    const link = event.target.closest('[data-line]');
    if (!link) return;
    event.preventDefault();
    goTo(Number(link.dataset.line));
  });

  // What was typed is not lost by a wrong click.
  const form = text.form;
  const edited = document.getElementById('edited');
  const asServed = text.value;
  let isSent = false;
  const isEdited = () => text.value !== asServed || text.getAttribute('aria-invalid') === 'true';
  function showEdited() {
    const words = isEdited() ? 'Not saved yet.' : '';
    if (edited.textContent !== words) edited.textContent = words;
  }
  text.addEventListener('input', showEdited);
  form.addEventListener('submit', () => { isSent = true; });
  addEventListener('beforeunload', (event) => {
    if (isEdited() && !isSent) event.preventDefault();
  });
  addEventListener('pageshow', () => { isSent = false; });
  // Reloading must not send the form again.
  if (location.pathname !== form.dataset.page) history.replaceState(null, '', form.dataset.page);

  showEdited();
  number();
  if (text.dataset.problemLine) goTo(Number(text.dataset.problemLine));
})();
