import { afterAll, beforeAll, expect, test } from "vitest";
import { visit, type Visit } from "./browser";
import { dot, embeddings, LEAST } from "./embeddings";
import { expected, type ExpectedPhoto } from "./setting";

let seen: Visit;

beforeAll(async () => {
  seen = await visit();
});
afterAll(async () => {
  expect(seen.troubles).toEqual([]);
  await seen.close();
});

test.each(expected.photos)("$file as in Python", async ({ file, aligned, faces }: ExpectedPhoto) => {
  const found = await embeddings(seen, file, aligned);
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
