/** Where the built page, the models and the photos are that `tests/pipeline/web` made. */

import { readFileSync } from "node:fs";
import { join } from "node:path";

function folder(name: string): string {
  const found = process.env[name];
  if (found === undefined) throw new Error(`${name} is not set: run \`python -m pytest tests/pipeline/web/test_page.py\``);
  return found;
}

/** Of a server that has the page already; null where it is to be served from here. */
export const ADDRESS = process.env["DSR_WEB_ADDRESS"] ?? null;
export const DIST = folder("DSR_WEB_DIST");
export const MODELS = folder("DSR_WEB_MODELS");
export const PHOTOS = folder("DSR_WEB_PHOTOS");
/** Pictures and videos of the page are put here. */
export const SHOTS = folder("DSR_WEB_SHOTS");

/** What Python makes of a photo. */
export interface ExpectedPhoto {
  readonly file: string;
  readonly aligned: boolean;
  readonly faces: readonly { readonly resolution: number; readonly by_dsr: boolean; readonly embedding: number[] }[];
}

export interface ExpectedPair {
  readonly files: readonly [string, string];
  readonly score: number;
  readonly answer: string;
}

export interface Expected {
  readonly photos: readonly ExpectedPhoto[];
  readonly pairs: readonly ExpectedPair[];
}

export const expected = JSON.parse(readFileSync(join(PHOTOS, "expected.json"), "utf8")) as Expected;

export function photo(name: string): string {
  return join(PHOTOS, name);
}
