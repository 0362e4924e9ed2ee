import { createHash } from "node:crypto";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { Engine, type Loaded } from "../src/engine/engine";
import type { Provider, Runtime, Session } from "../src/engine/sessions";
import { blankImage } from "../src/vision/image";

const NAMES = ["pnet", "rnet", "onet", "edgeface", "dsr"] as const;
type Name = (typeof NAMES)[number];

interface Opened {
  readonly name: Name;
  readonly provider: Provider;
  open: boolean;
}

/** All sessions in the order of opening; and what fails: opening a network on a provider, running one. */
let opened: Opened[];
let refusesToOpen: (name: Name, provider: Provider) => boolean;
let refusesToRun: (name: Name, provider: Provider) => boolean;

const runtime: Runtime = {
  gpu: true,
  open(model, provider) {
    const name = NAMES[model[0]];
    if (refusesToOpen(name, provider)) return Promise.reject(new Error(`${name} cannot be opened`));
    const mine: Opened = { name, provider, open: true };
    opened.push(mine);
    const session: Session = {
      run: () => {
        if (refusesToRun(name, provider)) return Promise.reject(new Error("device lost"));
        const data = name === "dsr" ? new Float32Array(3 * 112 * 112) : Float32Array.of(1, 0);
        return Promise.resolve({ output: { data, dims: [] } });
      },
      close: () => {
        mine.open = false;
        return Promise.resolve();
      },
    };
    return Promise.resolve(session);
  },
};
vi.mock("../src/engine/sessions", () => ({ startRuntime: () => Promise.resolve(runtime) }));

beforeEach(() => {
  opened = [];
  refusesToOpen = refusesToRun = () => false;
  vi.spyOn(console, "warn").mockImplementation(() => undefined);
  vi.stubGlobal("fetch", (address: string) => Promise.resolve(answerTo(address)));
});
afterEach(() => {
  vi.unstubAllGlobals();
  vi.restoreAllMocks();
});

/** A model is one byte: its place in NAMES. */
function answerTo(address: string): Response {
  const place = NAMES.findIndex((name) => address.startsWith(`models/${name}.onnx?`));
  if (place >= 0) return new Response(Uint8Array.of(place));
  const files = NAMES.map((name, at) => {
    const sha256 = createHash("sha256").update(Uint8Array.of(at)).digest("hex");
    return [name, { file: `${name}.onnx`, bytes: 1, sha256 }] as const;
  });
  const self_test = { side: 16, small: [1, 0], large: [1, 0] };
  return Response.json({ format: "dsr-edgeface-web-1", files: Object.fromEntries(files), self_test });
}

async function loadedEngine(): Promise<{ engine: Engine; loaded: Loaded; moved: Loaded[] }> {
  const moved: Loaded[] = [];
  const ready = await Engine.load("models/", null, () => undefined, (now) => moved.push(now));
  return { ...ready, moved };
}

const left = (): string[] => opened.filter((one) => one.open).map((one) => `${one.name} ${one.provider}`);
const ON_WASM = NAMES.map((name) => `${name} wasm`);

describe("a graphics processor", () => {
  test("computes what is worth it", async () => {
    const { loaded, moved } = await loadedEngine();
    expect(loaded.provider).toBe("webgpu");
    expect(left()).toEqual(["pnet wasm", "rnet wasm", "onet wasm", "edgeface webgpu", "dsr webgpu"]);
    expect(moved).toEqual([]);
  });

  test("that is lost is left for the processor, once", async () => {
    const { engine, moved } = await loadedEngine();
    refusesToRun = (_, provider) => provider === "webgpu";
    expect(await engine.embed(blankImage(16, 16))).toEqual(Float32Array.of(1, 0));
    expect(await engine.embed(blankImage(112, 112))).toEqual(Float32Array.of(1, 0));
    expect(moved.map(({ provider, agreement }) => [provider, agreement])).toEqual([["wasm", 1]]);
    expect(left()).toEqual(ON_WASM);
  });

  test("that is lost where the processor cannot take over: load the page again", async () => {
    const { engine, moved } = await loadedEngine();
    refusesToRun = () => true;
    for (let time = 0; time < 2; time++) {
      await expect(engine.embed(blankImage(112, 112))).rejects.toThrow("Load the page again");
    }
    expect(moved).toEqual([]);
    expect(left()).toHaveLength(NAMES.length); // what the processor had opened is released
  });

  test("that cannot open a network leaves none open", async () => {
    refusesToOpen = (name, provider) => name === "dsr" && provider === "webgpu";
    expect((await loadedEngine()).loaded.provider).toBe("wasm");
    expect(left()).toEqual(ON_WASM);
  });

  test("that fails in the self-test leaves none open", async () => {
    refusesToRun = (_, provider) => provider === "webgpu";
    expect((await loadedEngine()).loaded.provider).toBe("wasm");
    expect(left()).toEqual(ON_WASM);
  });
});

test("what fails on the processor is said as it is", async () => {
  refusesToOpen = (_, provider) => provider === "webgpu";
  const { engine } = await loadedEngine();
  refusesToRun = () => true;
  await expect(engine.embed(blankImage(112, 112))).rejects.toThrow("device lost");
});
