/** From a score to an answer, as `facial_rec/thresholds.py` and `pipeline/decisions.py`. */

import type { Face } from "../vision/crops";

export const DEFAULT_THRESHOLD = 0.35;

export type Answer = "same" | "different" | "cannot tell";

/** A row of a threshold file: how probes of one resolution are decided. */
export interface SizeThresholds {
  /** Side in pixels; null for high resolution. */
  readonly size: number | null;
  readonly method: string;
  readonly accept: number | null;
  readonly reject: number | null;
  readonly reason: string | null;
}

/** What `pipeline.calibrate` wrote, the parts that are needed here. */
export interface Thresholds {
  readonly protocol: string;
  readonly wanted_fmr: number;
  readonly wanted_fnmr: number;
  readonly development_set: { readonly label: string; readonly people: number; readonly images: number };
  readonly sizes: readonly SizeThresholds[];
}

export interface Verdict {
  readonly answer: Answer;
  readonly score: number;
  readonly accept: number | null;
  readonly reject: number | null;
  /** Of the smaller of both faces, in pixels. */
  readonly resolution: number;
  readonly calibrated: boolean;
  readonly reason: string;
  readonly notes: readonly string[];
}

type Probe = Pick<Face, "resolution" | "byDsr">;

/** The row for a probe of `size` pixels; between two calibrated sizes its thresholds are interpolated. */
export function thresholdsFor(size: number, table: Thresholds): SizeThresholds {
  const low = calibrated(table);
  const last = low.at(-1);
  if (last === undefined || size > last.size) return { ...table.sizes[table.sizes.length - 1], size };
  const [smallest] = low;
  if (size < smallest.size) {
    const reason = `the smallest calibrated size is ${smallest.size} pixels`;
    return { size, method: smallest.method, accept: null, reject: null, reason };
  }
  const above = low.findIndex((row) => size <= row.size);
  return low[above].size === size ? low[above] : between(low[above - 1], low[above], size);
}

type LowRow = SizeThresholds & { readonly size: number };

function calibrated(table: Thresholds): LowRow[] {
  return table.sizes.filter((row): row is LowRow => row.size !== null);
}

function between(below: LowRow, above: LowRow, size: number): SizeThresholds {
  const share = (size - below.size) / (above.size - below.size);
  const { accept, reject } = below;
  if (below.method !== above.method) return { ...below, size };
  if (accept === null || reject === null || above.accept === null || above.reject === null) return { ...below, size };
  return {
    ...below,
    size,
    accept: accept + share * (above.accept - accept),
    reject: reject + share * (above.reject - reject),
  };
}

/** The answer for two faces whose embeddings have the cosine `score`. RangeError for NaN. */
export function decide(score: number, first: Probe, second: Probe, table: Thresholds | null): Verdict {
  if (Number.isNaN(score)) throw new RangeError("a score is NaN: are the recogniser's weights damaged?");
  const probe = second.resolution < first.resolution ? second : first;
  const { resolution } = probe;
  if (table === null) return decideWithoutTable(score, resolution);
  const row = thresholdsFor(resolution, table);
  const { answer, reason } = answerOf(score, row);
  const larger = Math.max(first.resolution, second.resolution);
  const notes = misfits(probe, larger, table, row);
  return { answer, score, accept: row.accept, reject: row.reject, resolution, calibrated: true, reason, notes };
}

function decideWithoutTable(score: number, resolution: number): Verdict {
  const answer = score >= DEFAULT_THRESHOLD ? "same" : "different";
  const side = answer === "same" ? "at least" : "below";
  return {
    answer,
    score,
    accept: DEFAULT_THRESHOLD,
    reject: DEFAULT_THRESHOLD,
    resolution,
    calibrated: false,
    reason: `Score ${score.toFixed(3)} is ${side} ${DEFAULT_THRESHOLD.toFixed(3)} (not calibrated).`,
    notes: [`not calibrated: ${DEFAULT_THRESHOLD} is a convention, and the same at every resolution`],
  };
}

function answerOf(score: number, row: SizeThresholds): { answer: Answer; reason: string } {
  const where = `${row.size} pixels`;
  const [value, accept, reject] = [score, row.accept, row.reject].map((one) => one?.toFixed(3));
  if (row.accept === null) return { answer: "cannot tell", reason: `No threshold for ${where}: ${row.reason}.` };
  if (score >= row.accept) return { answer: "same", reason: `Score ${value} is at least ${accept} (${where}).` };
  if (row.reject === null) {
    return { answer: "cannot tell", reason: `Score ${value} is below ${accept} (${where}), and ${row.reason}.` };
  }
  if (score < row.reject) return { answer: "different", reason: `Score ${value} is below ${reject} (${where}).` };
  return { answer: "cannot tell", reason: `Score ${value} lies from ${reject} to ${accept} (${where}).` };
}

/** In what the two faces, the larger one of `larger` pixels, differ from those of the calibration. */
function misfits(probe: Probe, larger: number, table: Thresholds, row: SizeThresholds): string[] {
  const largest = calibrated(table).at(-1)?.size;
  const otherWay = (here: string, there: string): string =>
    `the face was embedded ${here} the DSR, and the thresholds were chosen ${there} it`;
  if (largest === undefined || probe.resolution > largest) {
    return probe.byDsr ? [otherWay("by way of", "without")] : []; // the thresholds are those of HR faces
  }
  const notes: string[] = [];
  if (table.protocol === "lr-hr" && larger <= largest) {
    notes.push("both faces are small; the thresholds are for a small face against a large one");
  }
  if (table.protocol === "lr-lr" && larger > largest) {
    notes.push("one face is large; the thresholds are for two small ones");
  }
  if ((row.method === "dsr") !== probe.byDsr) {
    notes.push(probe.byDsr ? otherWay("by way of", "without") : otherWay("without", "by way of"));
  }
  return notes;
}
