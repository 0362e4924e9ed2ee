/**
 * OpenCV's `warpAffine` with INTER_LINEAR for 8-bit RGB: places are rounded to 1/32 of a pixel, and what lies outside
 * the picture is black.
 */

import { blankImage, roundHalfEven, type RgbImage } from "./image";

/** `[a, b, x, c, d, y]`: (u, v) becomes (a u + b v + x, c u + d v + y). */
export type Affine = readonly [number, number, number, number, number, number];

const PLACE_BITS = 10;
const WEIGHT_BITS = 5;
const STEPS = 1 << WEIGHT_BITS;

export function inverted([a, b, x, c, d, y]: Affine): Affine {
  const factor = 1 / (a * d - b * c);
  const [p, q, r, s] = [d * factor, -b * factor, -c * factor, a * factor];
  return [p, q, -p * x - q * y, r, s, -r * x - s * y];
}

/** Where `matrix` takes (u, v). */
export function applied([a, b, x, c, d, y]: Affine, u: number, v: number): readonly [number, number] {
  return [a * u + b * v + x, c * u + d * v + y];
}

/** `image` moved by `matrix` into a picture of `side` x `side`. */
export function warp(image: RgbImage, matrix: Affine, side: number): RgbImage {
  const [a, b, x, c, d, y] = inverted(matrix);
  const result = blankImage(side, side);
  const unit = 1 << PLACE_BITS;
  const half = unit / STEPS / 2;
  for (let row = 0; row < side; row++) {
    const startX = roundHalfEven((b * row + x) * unit) + half;
    const startY = roundHalfEven((d * row + y) * unit) + half;
    for (let column = 0; column < side; column++) {
      const placeX = (startX + roundHalfEven(a * column * unit)) >> (PLACE_BITS - WEIGHT_BITS);
      const placeY = (startY + roundHalfEven(c * column * unit)) >> (PLACE_BITS - WEIGHT_BITS);
      blend(image, placeX, placeY, result.data, 3 * (row * side + column));
    }
  }
  return result;
}

function blend(image: RgbImage, placeX: number, placeY: number, into: Uint8Array, to: number): void {
  const [left, top] = [placeX >> WEIGHT_BITS, placeY >> WEIGHT_BITS];
  const [right, down] = [placeX & (STEPS - 1), placeY & (STEPS - 1)];
  const weights = [(STEPS - right) * (STEPS - down), right * (STEPS - down), (STEPS - right) * down, right * down];
  for (let channel = 0; channel < 3; channel++) {
    let sum = 0;
    for (let corner = 0; corner < 4; corner++) {
      const [x, y] = [left + (corner & 1), top + (corner >> 1)];
      if (x < 0 || y < 0 || x >= image.width || y >= image.height) continue;
      sum += weights[corner] * image.data[3 * (y * image.width + x) + channel];
    }
    into[to + channel] = (sum + (STEPS * STEPS) / 2) >> (2 * WEIGHT_BITS);
  }
}
