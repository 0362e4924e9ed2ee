import { readFileSync } from "node:fs";
import { afterAll, beforeAll, expect, test } from "vitest";
import { visit, type Visit } from "./browser";
import { expected, photo, type ExpectedPhoto } from "./setting";

const LEAST = { aligned: 0.999, photo: 0.97 };
let seen: Visit;

beforeAll(async () => {
  seen = await visit();
});
afterAll(async () => {
  expect(seen.troubles).toEqual([]);
  await seen.close();
});

interface BrowserFace {
  readonly resolution: number;
  readonly embedding: number[];
}

/** The faces of a photo as the page finds and embeds them. */
function inBrowser({ page }: Visit, file: string, aligned: boolean): Promise<BrowserFace[]> {
  const bytes = readFileSync(photo(file)).toString("base64");
  return page.evaluate(
    async ([name, coded, isAligned]) => {
      const { engine, readPhoto } = globalThis.dsrEdgeface;
      const content = Uint8Array.from(atob(coded), (character) => character.charCodeAt(0));
      const picture = await readPhoto(new Blob([content]), name);
      const found = isAligned ? [await engine.takeAligned(picture)] : await engine.find(picture);
      const embed = async ({ face, pixels }: (typeof found)[number]) => ({
        resolution: face.resolution,
        embedding: [...(await engine.embed(pixels))],
      });
      return Promise.all(found.map(embed));
    },
    [file, bytes, aligned] as const,
  );
}

test.each(expected.photos)("$file as in Python", async ({ file, aligned, faces }: ExpectedPhoto) => {
  const found = await inBrowser(seen, file, aligned);
  expect(found.map((face) => face.resolution)).toEqual(faces.map((face) => face.resolution));
  for (const [at, { embedding, resolution }] of found.entries()) {
    const cosine = dot(embedding, faces[at].embedding);
    const others = expected.photos.filter((other) => other.aligned === aligned && other.file !== file);
    const nearest = Math.max(...others.flatMap((other) => other.faces).map((face) => dot(embedding, face.embedding)));
    console.log(
      `${file}${aligned ? ", aligned" : ""}, face ${at + 1}, ${resolution} pixels: cosine ${cosine.toFixed(6)} to ` +
        `Python's (at most ${nearest.toFixed(3)} to that of another photo)`,
    );
    expect(cosine).toBeGreaterThan(aligned ? LEAST.aligned : LEAST.photo);
  }
});

test("WebGPU, in software, gives the same", async () => {
  const flags = ["--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader", "--ignore-gpu-blocklist"];
  const onGpu = await visit(undefined, flags, "?provider=webgpu");
  try {
    expect(await onGpu.page.getAttribute("html", "data-ready")).toBe("webgpu");
    for (const { file, aligned, faces } of expected.photos.filter((one) => one.file.startsWith("a_small"))) {
      const [found] = await inBrowser(onGpu, file, aligned);
      const cosine = dot(found.embedding, faces[0].embedding);
      console.log(`${file} on WebGPU: cosine ${cosine.toFixed(6)} to Python's`);
      expect(cosine).toBeGreaterThan(LEAST.aligned);
    }
    expect(onGpu.troubles).toEqual([]);
  } finally {
    await onGpu.close();
  }
});

function dot(one: readonly number[], other: readonly number[]): number {
  return one.reduce((sum, value, index) => sum + value * other[index], 0);
}
