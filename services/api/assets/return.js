// After a factory reset: waits until the box has been away and is back, then pairs again.
'use strict';

(async () => {
  const state = document.getElementById('return-state');
  let away = false;
  for (;;) {
    await new Promise((resolve) => setTimeout(resolve, 1000));
    try {
      const answer = await fetch('/healthz', { cache: 'no-store', signal: AbortSignal.timeout(3000) });
      if (answer.ok && away) return location.assign('/pair');
    } catch {
      if (!away) state.textContent = 'The box is restarting. This page goes on when it is back.';
      away = true;
    }
  }
})();
