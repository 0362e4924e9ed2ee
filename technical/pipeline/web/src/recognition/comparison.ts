/** Two faces as they are compared: one or both made smaller, by way of the DSR or of bicubic. */

import type { FoundFace } from "../engine/engine";
import { TEMPLATE_SIZE } from "../vision/alignment";
import type { Face } from "../vision/crops";
import { enlarge, reduce } from "../vision/cubic";
import type { RgbImage } from "../vision/image";
import { cosine, type EmbeddedFace } from "./gallery";
import { decide, type Thresholds, type Verdict } from "./thresholds";

/** How a small face reaches 112 x 112. */
export type Method = "bicubic" | "dsr";

/** What the networks do, wherever they run. */
export interface Networks {
  /** Of a face at 112 x 112. */
  embed(pixels: RgbImage): Promise<Float32Array>;
  upscale(pixels: RgbImage): Promise<RgbImage>;
}

/** A small face: its own pixels, and what either way makes of them. */
export interface SmallFace {
  readonly low: RgbImage;
  readonly bicubic: RgbImage;
  readonly dsr: RgbImage;
}

export interface PreparedFace {
  readonly small: SmallFace | null;
  /** By each way; the same embedding twice where the face is not small. */
  readonly ways: Readonly<Record<Method, EmbeddedFace>>;
}

export interface Comparison {
  readonly first: PreparedFace;
  readonly second: PreparedFace;
  readonly verdict: Verdict;
  /** Cosine by way of each; null where no face is small. */
  readonly scores: Readonly<Record<Method, number>> | null;
}

/** Prepares faces, and remembers them: a slider asks for the same ones again and again. */
export class FacePreparer {
  private readonly known = new WeakMap<FoundFace, Map<number, Promise<PreparedFace>>>();

  constructor(private readonly networks: Networks) {}

  /** `found` made `size` pixels small; left as it is where the photo holds no more, and for null. */
  prepare(found: FoundFace, size: number | null): Promise<PreparedFace> {
    const wanted = size !== null && size < found.face.resolution ? size : 0;
    const sizes = this.known.get(found) ?? new Map<number, Promise<PreparedFace>>();
    this.known.set(found, sizes);
    const known = sizes.get(wanted);
    if (known !== undefined) return known;
    const prepared = this.compute(found, wanted);
    sizes.set(wanted, prepared);
    prepared.catch(() => sizes.delete(wanted)); // what failed once may succeed when it is asked for again
    return prepared;
  }

  private async compute(found: FoundFace, size: number): Promise<PreparedFace> {
    const low = size > 0 ? reduce(found.aligned, size) : found.pixels;
    const face: Face = { ...found.face, resolution: size || found.face.resolution, byDsr: false };
    if (low.width === TEMPLATE_SIZE) {
      const whole = { face, embedding: await this.networks.embed(low) };
      return { small: null, ways: { bicubic: whole, dsr: whole } };
    }
    const [dsr, bicubic] = [await this.networks.upscale(low), enlarge(low, TEMPLATE_SIZE)];
    return {
      small: { low, bicubic, dsr },
      ways: {
        bicubic: { face, embedding: await this.networks.embed(bicubic) },
        dsr: { face: { ...face, byDsr: true }, embedding: await this.networks.embed(dsr) },
      },
    };
  }
}

/** The answer for two faces, small ones by way of `way`. */
export function compare(
  first: PreparedFace,
  second: PreparedFace,
  way: Method,
  thresholds: Thresholds | null,
): Comparison {
  const score = (by: Method): number => cosine(first.ways[by].embedding, second.ways[by].embedding);
  const anySmall = first.small !== null || second.small !== null;
  return {
    first,
    second,
    verdict: decide(score(way), first.ways[way].face, second.ways[way].face, thresholds),
    scores: anySmall ? { bicubic: score("bicubic"), dsr: score("dsr") } : null,
  };
}
