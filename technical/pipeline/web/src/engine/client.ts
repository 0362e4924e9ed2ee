/** The page's side of the engine: the same calls, answered by the worker. */

import type { RgbImage } from "../vision/image";
import type { FoundFace, Loaded } from "./engine";
import type { Reply, Request } from "./messages";
import type { Provider } from "./sessions";

interface Waiting {
  resolve(value: unknown): void;
  reject(error: Error): void;
  say(step: string): void;
}

export class EngineClient {
  private readonly worker = new Worker(new URL("./worker.ts", import.meta.url), { type: "module", name: "engine" });
  private readonly waiting = new Map<number, Waiting>();
  private calls = 0;
  private stopped: Error | null = null; // why no call is answered any more
  private tell: (begun: number[]) => void = () => undefined;
  private tellMoved: (loaded: Loaded) => void = () => undefined;

  constructor() {
    this.worker.addEventListener("message", ({ data }: MessageEvent<Reply>) => this.receive(data));
    this.worker.addEventListener("error", (event) => {
      const error = new Error(`the engine stopped (${event.message || "its script cannot be read"}). Load the page again.`);
      this.stopped = error;
      for (const { reject } of this.waiting.values()) reject(error);
      this.waiting.clear();
    });
  }

  load(folder: string, wanted: Provider | null, say: (step: string) => void): Promise<Loaded> {
    return this.call({ method: "load", folder, wanted }, say) as Promise<Loaded>;
  }

  find(photo: RgbImage): Promise<FoundFace[]> {
    return this.call({ method: "find", photo }) as Promise<FoundFace[]>;
  }

  takeAligned(photo: RgbImage): Promise<FoundFace> {
    return this.call({ method: "takeAligned", photo }) as Promise<FoundFace>;
  }

  embed(pixels: RgbImage): Promise<Float32Array> {
    return this.call({ method: "embed", pixels }) as Promise<Float32Array>;
  }

  upscale(pixels: RgbImage): Promise<RgbImage> {
    return this.call({ method: "upscale", pixels }) as Promise<RgbImage>;
  }

  /** `tell` hears when the worker's requests began, in milliseconds since 1970. */
  onRequests(tell: (begun: number[]) => void): void {
    this.tell = tell;
  }

  /** `tell` hears where the networks run once the graphics processor has failed. */
  onMoved(tell: (loaded: Loaded) => void): void {
    this.tellMoved = tell;
  }

  private call(request: Request, say: (step: string) => void = () => undefined): Promise<unknown> {
    if (this.stopped !== null) return Promise.reject(this.stopped);
    const id = this.calls++;
    return new Promise((resolve, reject) => {
      this.waiting.set(id, { resolve, reject, say });
      this.worker.postMessage({ ...request, id });
    });
  }

  private receive(reply: Reply): void {
    if ("requests" in reply) {
      this.tell(reply.requests);
      return;
    }
    if ("moved" in reply) {
      this.tellMoved(reply.moved);
      return;
    }
    const waiting = this.waiting.get(reply.id);
    if (waiting === undefined) return;
    if ("step" in reply) {
      waiting.say(reply.step);
      return;
    }
    this.waiting.delete(reply.id);
    if ("error" in reply) waiting.reject(new Error(reply.error));
    else waiting.resolve(reply.value);
  }
}
