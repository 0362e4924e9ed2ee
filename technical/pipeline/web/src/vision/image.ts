/** Pictures as the maths here takes them: RGB, 8 bit, rows from the top, no alpha. */

export interface RgbImage {
  readonly width: number;
  readonly height: number;
  /** `height * width * 3` values. */
  readonly data: Uint8Array;
}

export function blankImage(width: number, height: number): RgbImage {
  return { width, height, data: new Uint8Array(width * height * 3) };
}

/** RGB of a canvas's RGBA; alpha is dropped, as `common.images` does. */
export function fromRgba(rgba: Uint8ClampedArray, width: number, height: number): RgbImage {
  const image = blankImage(width, height);
  for (let from = 0, to = 0; to < image.data.length; from += 4, to += 3) {
    image.data[to] = rgba[from];
    image.data[to + 1] = rgba[from + 1];
    image.data[to + 2] = rgba[from + 2];
  }
  return image;
}

export function toRgba(image: RgbImage): Uint8ClampedArray<ArrayBuffer> {
  const rgba = new Uint8ClampedArray(image.width * image.height * 4).fill(255);
  for (let from = 0, to = 0; from < image.data.length; from += 3, to += 4) {
    rgba[to] = image.data[from];
    rgba[to + 1] = image.data[from + 1];
    rgba[to + 2] = image.data[from + 2];
  }
  return rgba;
}

/** Colour by colour, `(3, H, W)`, as networks take images: each value `level * factor + shift` in 32 bit. */
export function planar(image: RgbImage, factor = 1, shift = 0): Float32Array {
  const pixels = image.width * image.height;
  const planes = new Float32Array(3 * pixels);
  for (let channel = 0; channel < 3; channel++) {
    for (let pixel = 0; pixel < pixels; pixel++) {
      planes[channel * pixels + pixel] = image.data[3 * pixel + channel] * factor + shift;
    }
  }
  return planes;
}

/** The inverse of `planar` for values in [0, 1]: clamped and rounded to 8 bit, a tie to the even level. */
export function fromPlanar(planes: Float32Array, width: number, height: number): RgbImage {
  const image = blankImage(width, height);
  const pixels = width * height;
  for (let channel = 0; channel < 3; channel++) {
    for (let pixel = 0; pixel < pixels; pixel++) {
      image.data[3 * pixel + channel] = roundToLevel(planes[channel * pixels + pixel] * 255);
    }
  }
  return image;
}

/** The part of `image` from (left, top) to before (right, bottom), which must lie inside. */
export function crop(image: RgbImage, left: number, top: number, right: number, bottom: number): RgbImage {
  const part = blankImage(right - left, bottom - top);
  for (let row = top; row < bottom; row++) {
    const start = 3 * (row * image.width + left);
    part.data.set(image.data.subarray(start, start + 3 * part.width), 3 * (row - top) * part.width);
  }
  return part;
}

/** To the nearest whole number, a tie to the even one: Python's and OpenCV's rounding, which is not `Math.round`. */
export function roundHalfEven(value: number): number {
  const low = Math.floor(value);
  const rest = value - low;
  if (rest !== 0.5) return rest < 0.5 ? low : low + 1;
  return low % 2 === 0 ? low : low + 1;
}

export function roundToLevel(value: number): number {
  return Math.min(255, Math.max(0, roundHalfEven(value)));
}
