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

/** The landmarks of faces in `image`, in its pixels. */
export async function refine(
  image: RgbImage,
  faces: readonly (readonly Point[])[],
  look: Look,
  { side, passes }: RefinerSettings,
): Promise<Point[][]> {
  let current = faces.map((points) => [...points]);
  for (let pass = 0; pass < passes && current.length > 0; pass++) {
    const stack = new Float32Array(current.length * 3 * side * side);
    current.forEach((points, at) => stack.set(planar(alignFace(image, points, side)), at * 3 * side * side));
    const found = await look(stack, current.length, side);
    current = current.map((points, at) => {
      const back = inverted(similarityTransform(points, template(side)));
      return points.map((_, point): Point => {
        const [x, y] = [found[10 * at + 2 * point], found[10 * at + 2 * point + 1]].map(
          (share) => Math.fround(Math.fround(share * side) - 0.5),
        );
        const [u, v] = applied(back, x, y);
        return [Math.fround(u), Math.fround(v)];
      });
    });
  }
  return current;
}
