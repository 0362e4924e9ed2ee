/**
 * Five-point alignment, as `facial_rec/alignment.py`: the same steps on the same numbers.
 *
 * Coordinates are (x, y) in pixels, and whole numbers are the centres of pixels.
 */

import { blankImage, crop, type RgbImage } from "./image";
import { resizeArea } from "./resize";
import { applied, inverted, warp, type Affine } from "./warp";

export type Point = readonly [number, number];

export const TEMPLATE_SIZE = 112;
/** ArcFace's template (InsightFace, `face_align.py`): image-left eye, image-right eye, nose, mouth corners. */
const TEMPLATE: readonly Point[] = [
  [38.2946, 51.6963],
  [73.5318, 51.5014],
  [56.0252, 71.7366],
  [41.5493, 92.3655],
  [70.7299, 92.2041],
];
/** As in Python, where the template is held in 32 bit. */
const TEMPLATE_32 = TEMPLATE.map(([x, y]): Point => [Math.fround(x), Math.fround(y)]);

/**
 * The similarity that takes `source` nearest to `target`, never a mirror image (S. Umeyama, 1991; in two dimensions the
 * regression of complex numbers is the same).
 */
export function similarityTransform(source: readonly Point[], target: readonly Point[]): Affine {
  const [centre, aim] = [mean(source), mean(target)];
  let [spread, real, imaginary] = [0, 0, 0];
  source.forEach(([x, y], index) => {
    const [dx, dy] = [x - centre[0], y - centre[1]];
    const [tx, ty] = [target[index][0] - aim[0], target[index][1] - aim[1]];
    spread += dx * dx + dy * dy;
    real += dx * tx + dy * ty;
    imaginary += dx * ty - dy * tx;
  });
  if (!(spread / source.length >= 1e-12)) {
    throw new RangeError("all landmarks lie in one place, or one is not finite: no face can be aligned by them");
  }
  const [a, b] = [real / spread, imaginary / spread];
  return [a, -b, aim[0] - a * centre[0] + b * centre[1], b, a, aim[1] - b * centre[0] - a * centre[1]];
}

/** The template for faces of `side` x `side` pixels. */
export function template(side: number): Point[] {
  const scale = side / TEMPLATE_SIZE;
  return TEMPLATE_32.map(([x, y]): Point => [(x + 0.5) * scale - 0.5, (y + 0.5) * scale - 0.5]);
}

/** How many of the photo's own pixels the side of the aligned face covers. */
export function nativeSize(landmarks: readonly Point[]): number {
  return TEMPLATE_SIZE / scaleOf(similarityTransform(landmarks, TEMPLATE_32));
}

/** The face as `side` x `side`; black where it lies outside the photo. Averaged where it becomes smaller. */
export function alignFace(image: RgbImage, landmarks: readonly Point[], side = TEMPLATE_SIZE): RgbImage {
  const whole = similarityTransform(landmarks, template(side));
  const part = cutOutFor(image, whole, side);
  if (part === null) return blankImage(side, side);
  const [small, matrix] = averaged(part.image, part.matrix);
  if (scaleOf(matrix) >= 0.999) return warp(small, matrix, side);
  return resizeArea(warp(small, enlarged(matrix, 2), 2 * side), side, side);
}

interface Placed {
  readonly image: RgbImage;
  readonly matrix: Affine;
}

function cutOutFor(image: RgbImage, matrix: Affine, side: number): Placed | null {
  const back = inverted(matrix);
  const corners = [-1, side].flatMap((y) => [-1, side].map((x) => applied(back, x, y)));
  const margin = 2 + 2 / scaleOf(matrix);
  const [xs, ys] = [corners.map(([x]) => x), corners.map(([, y]) => y)];
  const left = Math.max(0, Math.floor(Math.min(...xs) - margin));
  const top = Math.max(0, Math.floor(Math.min(...ys) - margin));
  const right = Math.min(image.width, Math.ceil(Math.max(...xs) + margin));
  const bottom = Math.min(image.height, Math.ceil(Math.max(...ys) + margin));
  if (right <= left || bottom <= top) return null;
  return { image: crop(image, left, top, right, bottom), matrix: movedOrigin(matrix, 1, left, top) };
}

function averaged(image: RgbImage, matrix: Affine): [RgbImage, Affine] {
  const step = Math.floor(1 / scaleOf(matrix));
  if (step < 2) return [image, matrix];
  const [width, height] = [Math.ceil(image.width / step), Math.ceil(image.height / step)];
  const small = resizeArea(padded(image, width * step, height * step), width, height);
  const half = (step - 1) / 2; // the centre of the first small pixel
  return [small, movedOrigin(matrix, step, half, half)];
}

/** `image` at the upper left of a larger one, its right and lower edge repeated. */
function padded(image: RgbImage, width: number, height: number): RgbImage {
  if (width === image.width && height === image.height) return image;
  const result = blankImage(width, height);
  for (let y = 0, to = 0; y < height; y++) {
    const start = Math.min(y, image.height - 1) * image.width;
    for (let x = 0; x < width; x++, to += 3) {
      const from = 3 * (start + Math.min(x, image.width - 1));
      for (let channel = 0; channel < 3; channel++) result.data[to + channel] = image.data[from + channel];
    }
  }
  return result;
}

/** `matrix` for a picture whose pixels are `step` of the old ones, the first of them centred at (x, y). */
function movedOrigin(matrix: Affine, step: number, x: number, y: number): Affine {
  const [a, b, , c, d] = matrix;
  const [u, v] = applied(matrix, x, y);
  return [a * step, b * step, u, c * step, d * step, v];
}

/** `matrix` followed by an enlargement that keeps the outer edges of the picture. */
function enlarged(matrix: Affine, factor: number): Affine {
  const [a, b, x, c, d, y] = matrix.map((value) => value * factor);
  const shift = (factor - 1) / 2;
  return [a, b, x + shift, c, d, y + shift];
}

function scaleOf([a, , , c]: Affine): number {
  return Math.hypot(a, c);
}

function mean(points: readonly Point[]): Point {
  const sum = points.reduce(([sx, sy], [x, y]): Point => [sx + x, sy + y], [0, 0]);
  return [sum[0] / points.length, sum[1] / points.length];
}
