/**
 * Bicubic resampling by a table of weights (R. Keys, "Cubic convolution interpolation for digital image processing",
 * 1981), rounded to 8 bit once, at the end.
 *
 * - `enlarge`: a = -0.75, edges repeated. torch's bicubic, the baseline of every result, and OpenCV's INTER_CUBIC.
 * - `reduce`: a = -0.5, the kernel as wide as the reduction. torch's antialiased bicubic, the project's way from a large
 *   face to a small one (`dsr.degradation.canonical_reduce`).
 */

import { blankImage, roundToLevel, type RgbImage } from "./image";

/** One output pixel: from which input on, and how much of each. */
interface Row {
  readonly first: number;
  readonly weights: number[];
}

export function enlarge(image: RgbImage, side: number): RgbImage {
  return resample(image, side, (before) => enlargingRows(before, side));
}

export function reduce(image: RgbImage, side: number): RgbImage {
  return resample(image, side, (before) => reducingRows(before, side));
}

function keys(distance: number, a: number): number {
  const d = Math.abs(distance);
  if (d < 1) return ((a + 2) * d - (a + 3)) * d * d + 1;
  return d < 2 ? ((a * d - 5 * a) * d + 8 * a) * d - 4 * a : 0;
}

function enlargingRows(before: number, after: number): Row[] {
  return Array.from({ length: after }, (_, at) => {
    const centre = ((at + 0.5) * before) / after - 0.5;
    const start = Math.floor(centre) - 1;
    const weights = new Array<number>(Math.min(before, 4)).fill(0);
    const first = Math.min(Math.max(start, 0), before - weights.length);
    for (let tap = start; tap < start + 4; tap++) {
      weights[Math.min(Math.max(tap, 0), before - 1) - first] += keys(centre - tap, -0.75);
    }
    return { first, weights };
  });
}

function reducingRows(before: number, after: number): Row[] {
  const scale = before / after;
  return Array.from({ length: after }, (_, at) => {
    const centre = (at + 0.5) * scale;
    const first = Math.max(Math.floor(centre - 2 * scale + 0.5), 0);
    const end = Math.min(Math.floor(centre + 2 * scale + 0.5), before);
    const weights = Array.from({ length: end - first }, (_, tap) => keys((tap + first - centre + 0.5) / scale, -0.5));
    const sum = weights.reduce((total, weight) => total + weight, 0);
    return { first, weights: weights.map((weight) => weight / sum) };
  });
}

function resample(image: RgbImage, side: number, rowsFor: (before: number) => Row[]): RgbImage {
  if (image.width === side && image.height === side) return image;
  const wide = new Float64Array(3 * side * image.height);
  rowsFor(image.width).forEach(({ first, weights }, column) => {
    for (let y = 0; y < image.height; y++) {
      for (let channel = 0; channel < 3; channel++) {
        let from = 3 * (y * image.width + first) + channel;
        let sum = 0;
        for (const weight of weights) {
          sum += weight * image.data[from];
          from += 3;
        }
        wide[3 * (y * side + column) + channel] = sum;
      }
    }
  });
  const result = blankImage(side, side);
  rowsFor(image.height).forEach(({ first, weights }, row) => {
    for (let i = 0; i < 3 * side; i++) {
      let sum = 0;
      weights.forEach((weight, tap) => (sum += weight * wide[3 * side * (first + tap) + i]));
      result.data[3 * side * row + i] = roundToLevel(sum);
    }
  });
  return result;
}
