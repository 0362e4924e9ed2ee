import { afterEach, describe, expect, test, vi } from "vitest";
import { hasGpu } from "../src/engine/sessions";

afterEach(() => {
  vi.unstubAllGlobals();
  vi.restoreAllMocks();
});

function browserWith(requestAdapter: () => unknown): void {
  vi.stubGlobal("navigator", { gpu: { requestAdapter } });
}

describe("a graphics processor", () => {
  test.each([
    ["of today", { info: { architecture: "ampere" } }, true],
    ["of Chromium 113 to 126, which tells nothing of it", {}, true],
    ["that is none, of today", { info: { architecture: "", isFallbackAdapter: true } }, false],
    ["that is none, of Chromium 113 to 126", { isFallbackAdapter: true }, false],
    ["in software", { info: { architecture: "swiftshader" } }, false],
  ])("%s", async (_, adapter, found) => {
    browserWith(() => Promise.resolve(adapter));
    expect(await hasGpu(false)).toBe(found);
    expect(await hasGpu(true)).toBe(true);
  });

  test.each([
    ["is not offered", () => Promise.resolve(null)],
    ["cannot be asked for", () => Promise.reject(new Error("blocked"))],
    ["is refused at once", () => { throw new TypeError("blocked"); }],
  ])("%s", async (_, requestAdapter) => {
    vi.spyOn(console, "warn").mockImplementation(() => undefined);
    browserWith(requestAdapter);
    expect(await hasGpu(true)).toBe(false);
  });

  test("is not known to the browser", async () => {
    vi.stubGlobal("navigator", {});
    expect(await hasGpu(true)).toBe(false);
  });
});
