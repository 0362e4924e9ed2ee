/**
 * OpenCV's `resize` for 8-bit RGB, level by level: a detector that sees other pixels finds other landmarks.
 *
 * A canvas scales by a filter of the browser's own choice, so it is no substitute. `area` reduces only, `linear` and
 * `cubic` are for enlarging.
 */

import { blankImage, roundHalfEven, roundToLevel, type RgbImage } from "./image";

/** Averaged over the pixels that fall into each one (INTER_AREA). No side may grow. */
export function resizeArea(image: RgbImage, width: number, height: number): RgbImage {
  if (width > image.width || height > image.height) {
    throw new RangeError(`${image.width}x${image.height} cannot be reduced to ${width}x${height}`);
  }
  if (width === image.width && height === image.height) return image;
  const [across, down] = [image.width / width, image.height / height];
  if (Number.isInteger(across) && Number.isInteger(down)) return averageBlocks(image, across, down);
  return averageShares(image, width, height);
}

function averageBlocks(image: RgbImage, across: number, down: number): RgbImage {
  const result = blankImage(image.width / across, image.height / down);
  const share = Math.fround(1 / (across * down));
  const byFour = across === 2 && down === 2; // OpenCV's own case: rounds a half up
  for (let row = 0, to = 0; row < result.height; row++) {
    for (let column = 0; column < result.width; column++) {
      for (let channel = 0; channel < 3; channel++, to++) {
        let sum = 0;
        for (let y = row * down; y < (row + 1) * down; y++) {
          let from = 3 * (y * image.width + column * across) + channel;
          for (let x = 0; x < across; x++, from += 3) sum += image.data[from];
        }
        result.data[to] = byFour ? (sum + 2) >> 2 : roundToLevel(Math.fround(sum * share));
      }
    }
  }
  return result;
}

/** Where each output pixel's inputs begin and end, and their shares, one after the other. */
interface Shares {
  readonly starts: Int32Array;
  readonly ends: Int32Array;
  readonly offsets: Int32Array;
  readonly weights: Float32Array;
}

function sharesOf(before: number, after: number): Shares {
  const scale = before / after;
  const starts = new Int32Array(after);
  const ends = new Int32Array(after);
  const offsets = new Int32Array(after);
  const weights: number[] = [];
  for (let at = 0; at < after; at++) {
    const from = at * scale;
    const cell = Math.min(scale, before - from);
    const last = Math.min(Math.floor(from + scale), before - 1);
    const first = Math.min(Math.ceil(from), last);
    const ahead = first - from > 1e-3;
    offsets[at] = weights.length;
    starts[at] = ahead ? first - 1 : first;
    if (ahead) weights.push((first - from) / cell);
    for (let inside = first; inside < last; inside++) weights.push(1 / cell);
    const rest = from + scale - last;
    const behind = rest > 1e-3;
    if (behind) weights.push(Math.min(rest, 1, cell) / cell);
    ends[at] = behind ? last + 1 : last;
  }
  return { starts, ends, offsets, weights: Float32Array.from(weights) };
}

function averageShares(image: RgbImage, width: number, height: number): RgbImage {
  const [across, down] = [sharesOf(image.width, width), sharesOf(image.height, height)];
  const result = blankImage(width, height);
  const line = new Float32Array(3 * width);
  const sums = new Float32Array(3 * width);
  for (let row = 0; row < height; row++) {
    sums.fill(0);
    for (let y = down.starts[row]; y < down.ends[row]; y++) {
      reduceLine(image, y, across, line);
      const weight = down.weights[down.offsets[row] + y - down.starts[row]];
      for (let i = 0; i < sums.length; i++) sums[i] += Math.fround(line[i] * weight);
    }
    const to = 3 * width * row;
    for (let i = 0; i < sums.length; i++) result.data[to + i] = roundToLevel(sums[i]);
  }
  return result;
}

function reduceLine(image: RgbImage, row: number, shares: Shares, line: Float32Array): void {
  const { data } = image;
  const start = 3 * row * image.width;
  line.fill(0);
  for (let column = 0; 3 * column < line.length; column++) {
    const to = 3 * column;
    let at = shares.offsets[column];
    for (let x = shares.starts[column]; x < shares.ends[column]; x++, at++) {
      const weight = shares.weights[at];
      const from = start + 3 * x;
      line[to] += Math.fround(data[from] * weight);
      line[to + 1] += Math.fround(data[from + 1] * weight);
      line[to + 2] += Math.fround(data[from + 2] * weight);
    }
  }
}

/** Bilinear in 11 bits, as OpenCV computes it on 8-bit images (INTER_LINEAR). */
export function resizeLinear(image: RgbImage, width: number, height: number): RgbImage {
  if (width === image.width && height === image.height) return image;
  const columns = linearTaps(image.width, width, true);
  const rows = linearTaps(image.height, height, false);
  const wide = new Int32Array(3 * width * image.height);
  for (let y = 0, to = 0; y < image.height; y++) {
    for (const tap of columns) {
      const low = 3 * (y * image.width + tap.low);
      const high = 3 * (y * image.width + tap.high);
      for (let channel = 0; channel < 3; channel++, to++) {
        wide[to] = image.data[low + channel] * tap.lowWeight + image.data[high + channel] * tap.highWeight;
      }
    }
  }
  const result = blankImage(width, height);
  rows.forEach((tap, row) => {
    const [low, high, to] = [3 * width * tap.low, 3 * width * tap.high, 3 * width * row];
    for (let i = 0; i < 3 * width; i++) {
      const above = (tap.lowWeight * (wide[low + i] >> 4)) >> 16;
      const below = (tap.highWeight * (wide[high + i] >> 4)) >> 16;
      result.data[to + i] = (above + below + 2) >> 2;
    }
  });
  return result;
}

interface Tap {
  readonly low: number;
  readonly high: number;
  readonly lowWeight: number;
  readonly highWeight: number;
}

/** Beyond the edge, a column takes the last pixel alone; a row keeps its two weights, on one and the same line. */
function linearTaps(before: number, after: number, column: boolean): Tap[] {
  return Array.from({ length: after }, (_, at) => {
    const position = Math.fround((at + 0.5) * (before / after) - 0.5);
    const whole = Math.floor(position);
    const outside = column && (whole < 0 || whole >= before - 1);
    const rest = outside ? 0 : Math.fround(position - whole);
    return {
      low: clamp(whole, before),
      high: clamp(whole + 1, before),
      lowWeight: roundHalfEven(Math.fround(1 - rest) * 2048),
      highWeight: roundHalfEven(rest * 2048),
    };
  });
}

function clamp(index: number, length: number): number {
  return Math.min(Math.max(index, 0), length - 1);
}
