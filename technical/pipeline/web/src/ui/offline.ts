/** Shows that nothing leaves: the requests of the page and of its worker since all was loaded, and the network's state. */

import type { EngineClient } from "../engine/client";

export function watchRequests(line: HTMLElement, engine: EngineClient): void {
  let requests = 0;
  const show = (): void => {
    const network = navigator.onLine
      ? "You may cut the network now: everything goes on working."
      : "The network is cut, and everything goes on working.";
    line.textContent = `Requests since then: ${requests}. ${network}`;
    line.hidden = false;
  };
  new PerformanceObserver((list) => {
    requests += list.getEntries().length;
    show();
  }).observe({ type: "resource" });
  engine.onRequests((count) => {
    requests += count;
    show();
  });
  addEventListener("online", show);
  addEventListener("offline", show);
  show();
}
