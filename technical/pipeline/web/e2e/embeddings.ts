/** The page's embeddings, to be compared with Python's. */

import { readFileSync } from "node:fs";
import type { Visit } from "./browser";
import { photo } from "./setting";

/** Least cosine to Python's. */
export const LEAST = { aligned: 0.999, photo: 0.97 };

export interface BrowserFace {
  readonly resolution: number;
  readonly embedding: number[];
}

/** The faces of a photo as the page finds and embeds them. */
export function embeddings({ page }: Visit, file: string, aligned: boolean): Promise<BrowserFace[]> {
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

export function dot(one: readonly number[], other: readonly number[]): number {
  return one.reduce((sum, value, index) => sum + value * other[index], 0);
}
