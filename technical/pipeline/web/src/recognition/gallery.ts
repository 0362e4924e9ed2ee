/** The people enrolled during this visit: in memory only, gone with the page. */

import type { Face } from "../vision/crops";
import { decide, type Thresholds, type Verdict } from "./thresholds";

/** A face and its embedding, of length 1. */
export interface EmbeddedFace {
  readonly face: Face;
  readonly embedding: Float32Array;
}

export interface Identification {
  /** The best candidate's where the verdict is `same`. */
  readonly name: string | null;
  readonly verdict: Verdict;
  readonly candidates: readonly { readonly name: string; readonly score: number }[];
}

export class Gallery {
  private readonly people = new Map<string, EmbeddedFace[]>();

  /** Keep `face` under `name`, composed and trimmed. RangeError for a name that is empty or too long. */
  enrol(name: string, face: EmbeddedFace): string {
    const called = name.normalize("NFC").trim();
    if (called === "" || called.length > 200) throw new RangeError("a name has from 1 to 200 characters");
    this.people.set(called, [...(this.people.get(called) ?? []), face]);
    return called;
  }

  delete(name: string): void {
    this.people.delete(name);
  }

  get names(): string[] {
    return [...this.people.keys()];
  }

  faces(name: string): number {
    return this.people.get(name)?.length ?? 0;
  }

  /** Who this is; null while nobody is enrolled. A person counts once, with the face of theirs that is most like it. */
  identify(probe: EmbeddedFace, thresholds: Thresholds | null): Identification | null {
    const found = [...this.people].map(([name, faces]) => ({ name, ...bestOf(probe, faces) }));
    found.sort((one, other) => other.score - one.score);
    const best = found.at(0);
    if (best === undefined) return null;
    const verdict = decide(best.score, probe.face, best.face, thresholds);
    return { name: verdict.answer === "same" ? best.name : null, verdict, candidates: found };
  }
}

function bestOf(probe: EmbeddedFace, faces: readonly EmbeddedFace[]): { score: number; face: Face } {
  const scored = faces.map(({ face, embedding }) => ({ score: cosine(probe.embedding, embedding), face }));
  return scored.reduce((best, one) => (one.score > best.score ? one : best));
}

/** The dot product of two embeddings of length 1. */
export function cosine(one: Float32Array, other: Float32Array): number {
  return one.reduce((sum, value, index) => sum + value * other[index], 0);
}

/** `vector` made one long. RangeError where it is all zeros or not finite. */
export function unit(vector: Float32Array): Float32Array {
  const length = Math.hypot(...vector);
  if (!(length > 0) || !Number.isFinite(length)) throw new RangeError("an embedding is zero or not finite");
  return vector.map((value) => value / length);
}
