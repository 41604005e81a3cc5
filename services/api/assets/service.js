// The part of a service's page that changes by itself: asked for at once after a button, and
// announced to those who do not see it.
'use strict';

(() => {
  const now = document.getElementById('now');
  if (!now) return;
  const announce = document.getElementById('announce');
  const life = () => now.querySelector('[data-state]');
  let state = life().dataset.state;

  document.addEventListener('htmx:finally:request', (event) => {
    const source = event.detail.ctx.sourceElement;
    if (source !== now && now.contains(source)) htmx.trigger(now, 'refresh');
  });

  new MutationObserver(() => {
    const { state: is, reason } = life()?.dataset ?? {};
    if (is && is !== state) {
      state = is;
      announce.textContent = `${now.dataset.name} is ${state}. ${reason}`;
    }
  }).observe(now, { childList: true, subtree: true, attributes: true, attributeFilter: ['data-state'] });
})();
