/** Shows that nothing leaves: the requests of the page and of its worker since all was loaded, and the network's state. */

import type { EngineClient } from "../engine/client";

export function watchRequests(line: HTMLElement, engine: EngineClient): void {
  const ready = performance.timeOrigin + performance.now();
  let requests = 0;
  const show = (): void => {
    const network = navigator.onLine
      ? "You may cut the network now: everything goes on working."
      : "The network is cut, and everything goes on working.";
    line.textContent = `Requests since then: ${requests}. ${network}`;
    line.hidden = false;
  };
  const count = (begun: number[]): void => {
    requests += begun.filter((time) => time > ready).length; // some that are over are only told now
    show();
  };
  new PerformanceObserver((list) => {
    count(list.getEntries().map((entry) => performance.timeOrigin + entry.startTime));
  }).observe({ type: "resource" });
  engine.onRequests(count);
  addEventListener("online", show);
  addEventListener("offline", show);
  show();
}
