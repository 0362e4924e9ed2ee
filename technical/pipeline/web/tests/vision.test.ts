import { describe, expect, test } from "vitest";
import { alignFace, nativeSize, similarityTransform, type Point } from "../src/vision/alignment";
import { bestFirst, cutOut, overlap, shifted, squared, suppress } from "../src/vision/boxes";
import { alignedCrop } from "../src/vision/crops";
import { enlarge, reduce } from "../src/vision/cubic";
import { blankImage, fromPlanar, planar, roundHalfEven } from "../src/vision/image";
import { resizeArea, resizeLinear } from "../src/vision/resize";
import { decoded, difference, numbers } from "./numbers";

const SAME = { most: 0, share: 0 };
const CROPS = numbers.cascade.crops;

describe("resampling", () => {
  test.each(numbers.area)("area $image.width x $image.height -> $expected.width, as OpenCV", ({ image, expected }) => {
    const { width, height } = expected;
    expect(difference(resizeArea(decoded(image), width, height), decoded(expected))).toEqual(SAME);
  });

  test.each(numbers.linear)("linear $image.width -> $expected.width, as OpenCV", ({ image, expected }) => {
    const { width, height } = expected;
    expect(difference(resizeLinear(decoded(image), width, height), decoded(expected))).toEqual(SAME);
  });

  test("area does not enlarge", () => {
    expect(() => resizeArea(blankImage(4, 4), 5, 4)).toThrow(RangeError);
  });

  test.each(numbers.bicubic)("bicubic at $low.width pixels, as torch", ({ face, low, high }) => {
    // torch computes in 32 bit: a value on a rounding edge may fall to the other side.
    const reduced = difference(reduce(decoded(face), low.width), decoded(low));
    const enlarged = difference(enlarge(decoded(low), 112), decoded(high));
    for (const { most, share } of [reduced, enlarged]) {
      expect(most).toBeLessThanOrEqual(1);
      expect(share).toBeLessThan(0.002);
    }
  });
});

describe("alignment", () => {
  test.each(numbers.alignment)("to $size pixels from $native, as OpenCV", ({ image, landmarks, size, native, expected }) => {
    expect(nativeSize(landmarks)).toBeCloseTo(native, 8);
    const { most, share } = difference(alignFace(decoded(image), landmarks, size), decoded(expected));
    expect(most).toBeLessThanOrEqual(3); // the place of a pixel may round to the next 1/32 where it lies between
    expect(share).toBeLessThan(0.002);
  });

  test("a similarity never mirrors", () => {
    const points: Point[] = [[0, 0], [2, 0], [0, 1]];
    const [a, b, , c, d] = similarityTransform(points, points.map(([x, y]): Point => [-x, y]));
    expect(a * d - b * c).toBeGreaterThan(0);
  });

  test("points in one place are refused", () => {
    const points = Array.from({ length: 5 }, (): Point => [3, 3]);
    expect(() => alignFace(blankImage(9, 9), points)).toThrow("one place");
  });

  test.each(numbers.aligned)("an aligned face of $resolution pixels", ({ image, resolution, by_dsr, pixels }) => {
    const crop = alignedCrop(decoded(image), CROPS);
    expect([crop.face.resolution, crop.face.byDsr]).toEqual([resolution, by_dsr]);
    expect(difference(crop.pixels, decoded(pixels)).most).toBeLessThanOrEqual(1);
  });

  test.each([[7, 7], [20, 21]])("%i x %i is no aligned face", (width, height) => {
    expect(() => alignedCrop(blankImage(width, height), CROPS)).toThrow("an aligned face is square");
  });
});

describe("boxes", () => {
  const { image, boxes, scores, offsets, ...wanted } = numbers.boxes;

  test("overlaps, of both boxes and of the smaller", () => {
    for (const [at, ofSmaller] of [false, true].entries()) {
      expect(boxes.map((box) => overlap(boxes[0], box, ofSmaller))).toEqual(wanted.overlaps[at].map(Math.fround));
    }
  });

  test("what is kept, equals in their order", () => {
    expect(suppress(boxes, scores, 0.3)).toEqual(wanted.kept[0]);
    expect(suppress(boxes, scores, 0.3, true)).toEqual(wanted.kept[1]);
    expect(bestFirst([1, 2, 1, 2])).toEqual([1, 3, 0, 2]);
  });

  test("shifted and squared", () => {
    expect(boxes.map((box, at) => shifted(box, offsets[at]))).toEqual(wanted.shifted.map((row) => row.map(Math.fround)));
    expect(boxes.map(squared)).toEqual(wanted.squared);
  });

  test("cut out, black outside", () => {
    for (const [at, side] of [12, 24].entries()) {
      expect([...cutOut(decoded(image), wanted.squared, side)]).toEqual(wanted.cuts[at]);
    }
  });
});

describe("pixels", () => {
  test("rounding is to even", () => {
    expect([0.5, 1.5, 2.5, -1.5, 2.49].map(roundHalfEven)).toEqual([0, 2, 2, -2, 2]);
  });

  test("planes and back", () => {
    const image = decoded(numbers.bicubic[0].low);
    expect(fromPlanar(planar(image, 1 / 255), image.width, image.height)).toEqual(image);
  });
});
