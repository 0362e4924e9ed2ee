/** The faces of a photo as the networks take them, as `pipeline/face_crops.py`. */

import { alignFace, nativeSize, TEMPLATE_SIZE, type Point } from "./alignment";
import type { Box } from "./boxes";
import { enlarge } from "./cubic";
import { roundHalfEven, type RgbImage } from "./image";
import type { DetectedFace } from "./mtcnn";
import { resizeArea } from "./resize";

/** Which faces go through the DSR, in pixels; from `pipeline.face_crops`. */
export interface CropSettings {
  readonly dsr_below: number;
  readonly smallest: number;
  readonly largest: number;
}

/** Where a face is, and how it reaches the recogniser. */
export interface Face {
  readonly box: Box | null;
  readonly landmarks: readonly Point[] | null;
  readonly detection: number | null;
  /** Side, in pixels of the photo, of what was aligned: the resolution that thresholds depend on. */
  readonly resolution: number;
  readonly byDsr: boolean;
}

export interface FaceCrop {
  readonly face: Face;
  /** `n` x `n`: from 8 to 64 by way of the DSR, else 112. */
  readonly pixels: RgbImage;
}

/** Side of the crop of a face that covers `resolution` pixels. */
export function cropSize(resolution: number, settings: CropSettings): number {
  if (resolution >= settings.dsr_below) return TEMPLATE_SIZE;
  return Math.min(Math.max(roundHalfEven(resolution), settings.smallest), settings.largest);
}

export function cropOf(image: RgbImage, found: DetectedFace, settings: CropSettings): FaceCrop {
  const native = nativeSize(found.landmarks);
  return {
    face: {
      box: found.box,
      landmarks: found.landmarks,
      detection: found.score,
      resolution: Math.max(1, roundHalfEven(native)),
      byDsr: native < settings.dsr_below,
    },
    pixels: alignFace(image, found.landmarks, cropSize(native, settings)),
  };
}

/** A face that is aligned already. RangeError unless it is square and has at least 8 pixels a side. */
export function alignedCrop(image: RgbImage, settings: CropSettings): FaceCrop {
  const { width, height } = image;
  if (width !== height || width < settings.smallest) {
    throw new RangeError(
      `the picture is ${width}x${height}: an aligned face is square, from ${settings.smallest} pixels on`,
    );
  }
  const side = cropSize(width, settings);
  const face = { box: null, landmarks: null, detection: null, resolution: width, byDsr: width < settings.dsr_below };
  return { face, pixels: width < side ? enlarge(image, side) : resizeArea(image, side, side) };
}
