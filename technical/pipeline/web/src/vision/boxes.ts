/** Boxes as left, top, right, bottom: overlap, suppression, squares, cutting out; as `facial_rec/boxes.py`. */

import { blankImage, planar, roundHalfEven, type RgbImage } from "./image";
import { resizeArea, resizeLinear } from "./resize";

export type Box = readonly [number, number, number, number];

const single = Math.fround; // Python's boxes are 32 bit

/** Intersection as a share of the union, or of the smaller box. */
export function overlap(one: Box, other: Box, ofSmaller = false): number {
  const width = Math.max(single(Math.min(one[2], other[2]) - Math.max(one[0], other[0])), 0);
  const height = Math.max(single(Math.min(one[3], other[3]) - Math.max(one[1], other[1])), 0);
  const shared = single(width * height);
  const [own, theirs] = [area(one), area(other)];
  const whole = ofSmaller ? Math.min(own, theirs) : single(single(own + theirs) - shared);
  return single(shared / Math.max(whole, 1e-9));
}

function area(box: Box): number {
  return single(single(box[2] - box[0]) * single(box[3] - box[1]));
}

/** Indices by falling score, equals in their order. */
export function bestFirst(scores: ArrayLike<number>): number[] {
  return Array.from({ length: scores.length }, (_, index) => index).sort((a, b) => scores[b] - scores[a] || a - b);
}

/** Indices of the boxes to keep, best first: those that overlap no better kept one by more than `threshold`. */
export function suppress(
  boxes: readonly Box[],
  scores: ArrayLike<number>,
  threshold: number,
  ofSmaller = false,
): number[] {
  const kept: number[] = [];
  const most = single(threshold);
  for (const index of bestFirst(scores)) {
    if (kept.every((better) => overlap(boxes[better], boxes[index], ofSmaller) <= most)) kept.push(index);
  }
  return kept;
}

/** `box` with each side moved by an offset in widths (left, right) and heights (top, bottom). */
export function shifted(box: Box, offsets: ArrayLike<number>): Box {
  const sides = [single(box[2] - box[0]), single(box[3] - box[1])];
  const move = (at: number): number => single(box[at] + single(offsets[at] * sides[at % 2]));
  return [move(0), move(1), move(2), move(3)];
}

/** A square of whole pixels around the centre of `box`, as wide as its longer side. */
export function squared(box: Box): Box {
  const side = Math.max(single(box[2] - box[0]), single(box[3] - box[1]));
  const corner = (at: number): number => roundHalfEven(single(single(single(box[at] + box[at + 2]) - side) / 2));
  const whole = Math.max(roundHalfEven(side), 1);
  const [left, top] = [corner(0), corner(1)];
  return [left, top, left + whole, top + whole];
}

/** The pixels of boxes of whole pixels, `(N, 3, side, side)` from 0 to 255, black outside the image. */
export function cutOut(image: RgbImage, boxes: readonly Box[], side: number): Float32Array {
  const length = 3 * side * side;
  const stack = new Float32Array(boxes.length * length);
  boxes.forEach((box, index) => stack.set(planar(cut(image, box, side)), index * length));
  return stack;
}

function cut(image: RgbImage, [left, top, right, bottom]: Box, side: number): RgbImage {
  const inside = blankImage(right - left, bottom - top);
  const [from, to] = [Math.max(left, 0), Math.min(right, image.width)];
  for (let y = Math.max(top, 0); from < to && y < Math.min(bottom, image.height); y++) {
    const line = image.data.subarray(3 * (y * image.width + from), 3 * (y * image.width + to));
    inside.data.set(line, 3 * ((y - top) * inside.width + from - left));
  }
  return right - left > side ? resizeArea(inside, side, side) : resizeLinear(inside, side, side);
}
