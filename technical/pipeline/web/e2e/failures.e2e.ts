import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import type { Manifest } from "../src/engine/manifest";
import { load, visit, type Visit } from "./browser";

let seen: Visit;

beforeAll(async () => {
  seen = await visit();
});
afterEach(() => seen.context.unrouteAll());
afterAll(() => seen.close());

/** `models.json`, changed on its way to the page. */
async function changeManifest(change: (manifest: Manifest) => unknown): Promise<void> {
  await seen.context.route("**/models.json", async (route) => {
    const manifest = (await (await route.fetch()).json()) as Manifest;
    await route.fulfill({ json: change(manifest) });
  });
}

async function failure(): Promise<string> {
  return load(seen.page, seen.address).then(
    () => "it is ready",
    (error: Error) => error.message,
  );
}

test("without models it says how to make them", async () => {
  await seen.context.route("**/models.json", (route) => route.fulfill({ status: 404 }));
  expect(await failure()).toMatch(/cannot be read \(404\).*python -m pipeline\.web_models/);
  expect(await seen.page.textContent("#status")).toBe("Not ready.");
});

test("models of another format are refused", async () => {
  await changeManifest((manifest) => ({ ...manifest, format: "other" }));
  expect(await failure()).toContain("has the format other, expected dsr-edgeface-web-1");
});

test("a file that is not the one described is refused", async () => {
  await changeManifest(({ files, ...rest }) => ({
    ...rest,
    files: { ...files, dsr: { ...files.dsr, sha256: "0".repeat(64) } },
  }));
  expect(await failure()).toContain("dsr.onnx is not the file that models.json describes");
});

test("networks that give other embeddings than Python answer nothing", async () => {
  await changeManifest(({ self_test, ...rest }) => ({
    ...rest,
    self_test: { ...self_test, small: self_test.small.map((value, at) => (at % 9 === 0 ? -value : value)) },
  }));
  expect(await failure()).toContain("give other embeddings here than in Python");
});
