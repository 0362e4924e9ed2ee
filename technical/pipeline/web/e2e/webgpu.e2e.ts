import { expect, test } from "vitest";
import { visit } from "./browser";
import { dot, embeddings, LEAST } from "./embeddings";
import { expected } from "./setting";

test("WebGPU, in software, gives the same", async () => {
  const flags = ["--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader", "--ignore-gpu-blocklist"];
  const onGpu = await visit(undefined, flags, "?provider=webgpu");
  try {
    expect(await onGpu.page.getAttribute("html", "data-ready")).toBe("webgpu");
    for (const { file, aligned, faces } of expected.photos.filter((one) => one.file.startsWith("a_small"))) {
      const [found] = await embeddings(onGpu, file, aligned);
      const cosine = dot(found.embedding, faces[0].embedding);
      console.log(`${file} on WebGPU: cosine ${cosine.toFixed(6)} to Python's`);
      expect(cosine).toBeGreaterThan(LEAST.aligned);
    }
    expect(onGpu.troubles).toEqual([]);
  } finally {
    await onGpu.close();
  }
});
