/** Better landmarks: a small network looks at each aligned face once more, as `facial_rec/landmark_refiner.py`. */

import { alignFace, similarityTransform, template, type Point } from "./alignment";
import { planar, type RgbImage } from "./image";
import { applied, inverted } from "./warp";

/** How the network is used; from its file. */
export interface RefinerSettings {
  /** Of the aligned face that it looks at, in pixels. */
  readonly side: number;
  /** How often it looks at a face. */
  readonly passes: number;
}

/** `(count, 3, side, side)`, from 0 to 255 -> `(count, 5, 2)` in sides of the crop. */
export type Look = (stack: Float32Array, count: number, side: number) => Promise<Float32Array>;

/** Which landmark takes the place of each in a mirror image. */
const MIRRORED = [1, 0, 2, 4, 3];

/** The landmarks of faces in `image`, in its pixels. */
export async function refine(
  image: RgbImage,
  faces: readonly (readonly Point[])[],
  look: Look,
  { side, passes }: RefinerSettings,
): Promise<Point[][]> {
  let current = faces.map((points) => [...points]);
  for (let pass = 0; pass < passes && current.length > 0; pass++) {
    const found = await lookTwice(current.map((points) => alignFace(image, points, side)), look, side);
    current = current.map((points, at) => {
      const back = inverted(similarityTransform(points, template(side)));
      return found[at].map(([x, y]): Point => {
        const pixel = (share: number): number => Math.fround(Math.fround(share * side) - 0.5);
        const [u, v] = applied(back, pixel(x), pixel(y));
        return [Math.fround(u), Math.fround(v)];
      });
    });
  }
  return current;
}

/** Landmarks in sides of the crops: the mean of what is seen straight and in the mirror. */
async function lookTwice(crops: readonly RgbImage[], look: Look, side: number): Promise<Point[][]> {
  const seen = [...crops.map((crop) => planar(crop)), ...crops.map((crop) => mirrored(planar(crop), side))];
  const stack = new Float32Array(seen.length * 3 * side * side);
  seen.forEach((planes, at) => stack.set(planes, at * planes.length));
  const said = await look(stack, seen.length, side);
  return crops.map((_, at) =>
    MIRRORED.map((other, point): Point => {
      const straight = 10 * at + 2 * point;
      const turned = 10 * (crops.length + at) + 2 * other;
      const x = Math.fround(said[straight] + Math.fround(1 - said[turned])) / 2;
      const y = Math.fround(said[straight + 1] + said[turned + 1]) / 2;
      return [x, y];
    }),
  );
}

/** Every row of the planes reversed. */
function mirrored(planes: Float32Array, side: number): Float32Array {
  for (let row = 0; row < planes.length; row += side) planes.subarray(row, row + side).reverse();
  return planes;
}
