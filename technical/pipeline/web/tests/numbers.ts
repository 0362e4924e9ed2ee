/** The numbers that Python wrote for these tests. */

import { readFileSync } from "node:fs";
import type { SizeThresholds, Thresholds, Verdict } from "../src/recognition/thresholds";
import type { Point } from "../src/vision/alignment";
import type { Box } from "../src/vision/boxes";
import type { CropSettings } from "../src/vision/crops";
import type { RgbImage } from "../src/vision/image";
import type { RefinerSettings } from "../src/vision/landmarks";
import type { CascadeSettings } from "../src/vision/mtcnn";

export interface Coded {
  readonly width: number;
  readonly height: number;
  readonly data: string;
}

interface Resized {
  readonly image: Coded;
  readonly expected: Coded;
}

export interface Numbers {
  readonly area: Resized[];
  readonly linear: Resized[];
  readonly bicubic: { readonly face: Coded; readonly low: Coded; readonly high: Coded }[];
  readonly alignment: {
    readonly image: Coded;
    readonly landmarks: Point[];
    readonly size: number;
    readonly native: number;
    readonly expected: Coded;
  }[];
  readonly boxes: {
    readonly image: Coded;
    readonly boxes: Box[];
    readonly scores: number[];
    readonly offsets: number[][];
    readonly shifted: number[][];
    readonly squared: Box[];
    readonly overlaps: number[][];
    readonly kept: number[][];
    readonly cuts: number[][];
  };
  readonly cascade: {
    readonly photo: Coded;
    readonly settings: CascadeSettings;
    readonly networks: Record<"pnet" | "rnet" | "onet" | "landmarks", string>;
    readonly refiner: RefinerSettings;
    readonly levels: [number, number, number][];
    readonly crops: CropSettings;
    /** As MTCNN has them, and with refined landmarks. */
    readonly faces: CascadeFace[];
    readonly refined: CascadeFace[];
  };
  readonly aligned: {
    readonly image: Coded;
    readonly resolution: number;
    readonly by_dsr: boolean;
    readonly pixels: Coded;
  }[];
  readonly decisions: {
    readonly table: (Thresholds & { readonly sizes: SizeThresholds[] }) | null;
    readonly score: number;
    readonly faces: [Verdicted, Verdicted];
    readonly verdict: Omit<Verdict, "accept"> & { readonly threshold: number | null };
  }[];
}

export interface CascadeFace {
  readonly box: number[];
  readonly landmarks: Point[];
  readonly detection: number;
  readonly resolution: number;
  readonly by_dsr: boolean;
  readonly pixels: Coded;
}

interface Verdicted {
  readonly resolution: number;
  readonly byDsr: boolean;
}

const file = process.env["DSR_WEB_NUMBERS"];
if (file === undefined) {
  throw new Error("DSR_WEB_NUMBERS is not set: these tests are run by `python -m pytest tests/pipeline/web`");
}

export const numbers = JSON.parse(readFileSync(file, "utf8")) as Numbers;

export function decoded({ width, height, data }: Coded): RgbImage {
  return { width, height, data: new Uint8Array(Buffer.from(data, "base64")) };
}

/** How many levels two pictures are apart at most, and in which share of their values they differ at all. */
export function difference(found: RgbImage, wanted: RgbImage): { most: number; share: number } {
  if (found.width !== wanted.width || found.height !== wanted.height) return { most: Infinity, share: 1 };
  const apart = found.data.map((value, index) => Math.abs(value - wanted.data[index]));
  return { most: Math.max(...apart), share: apart.filter((value) => value > 0).length / apart.length };
}
