/** The engine in a thread of its own, so that the page stays awake while it computes. */

import { Engine } from "./engine";
import type { Call, Reply } from "./messages";

let engine: Promise<Engine> | null = null;

async function answer(call: Call): Promise<unknown> {
  if (call.method === "load") {
    const say = (step: string): void => post({ id: call.id, step });
    const loading = Engine.load(call.folder, call.wanted, say, (moved) => post({ moved }));
    engine = loading.then((done) => done.engine);
    return (await loading).loaded;
  }
  if (engine === null) throw new Error("the engine was not loaded");
  const ready = await engine;
  switch (call.method) {
    case "find":
      return ready.find(call.photo);
    case "takeAligned":
      return ready.takeAligned(call.photo);
    case "embed":
      return ready.embed(call.pixels);
    case "upscale":
      return ready.upscale(call.pixels);
  }
}

function post(reply: Reply): void {
  self.postMessage(reply);
}

// The page counts requests, to show that no photo leaves; it does not see those of a worker by itself.
new PerformanceObserver((list) => {
  post({ requests: list.getEntries().map((entry) => performance.timeOrigin + entry.startTime) });
}).observe({ type: "resource" });

// One after the other: an onnxruntime session runs one input at a time.
let last: Promise<void> = Promise.resolve();

self.addEventListener("message", ({ data }: MessageEvent<Call>) => {
  last = last.then(async () => {
    try {
      post({ id: data.id, value: await answer(data) });
    } catch (error) {
      post({ id: data.id, error: error instanceof Error ? error.message : String(error) });
    }
  });
});
