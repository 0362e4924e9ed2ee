/** Between files, cameras and canvases on one side, and RGB pixels on the other. */

import { fromRgba, toRgba, type RgbImage } from "../vision/image";
import { make } from "./dom";

const MAX_PIXELS = 64_000_000; // as common.images
const MAX_BYTES = 256 * 1024 * 1024;

/** How a file of each kind that Python reads begins. */
const KINDS: readonly (readonly [name: string, pattern: RegExp])[] = [
  ["PNG", /^\x89PNG\r\n/],
  ["JPEG", /^\xff\xd8\xff/],
  ["BMP", /^BM/],
  ["WebP", /^RIFF[^]{4}WEBP/],
];

/** The pixels of an image file, turned upright by its EXIF orientation, as stored: no colour management, alpha dropped. */
export async function readPhoto(file: Blob, name: string): Promise<RgbImage> {
  if (file.size === 0) throw new Error(`${name} is empty.`);
  if (file.size > MAX_BYTES) throw new Error(`${name} has more than 256 MiB. Reduce it first.`);
  const start = String.fromCharCode(...new Uint8Array(await file.slice(0, 12).arrayBuffer()));
  if (!KINDS.some(([, pattern]) => pattern.test(start))) {
    throw new Error(`${name} is not a PNG, JPEG, BMP or WebP picture.`);
  }
  const options: ImageBitmapOptions = {
    imageOrientation: "from-image",
    colorSpaceConversion: "none",
    premultiplyAlpha: "none",
  };
  const bitmap = await createImageBitmap(file, options).catch(() => {
    throw new Error(`${name} is truncated or damaged.`);
  });
  try {
    return pixelsOf(bitmap, bitmap.width, bitmap.height, name);
  } finally {
    bitmap.close();
  }
}

/** What a canvas would show of `source`. */
export function pixelsOf(source: CanvasImageSource, width: number, height: number, name: string): RgbImage {
  if (width * height > MAX_PIXELS) throw new Error(`${name} has more than 64 million pixels. Reduce it first.`);
  const canvas = make("canvas", { width, height });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  if (context === null) throw new Error(`${name} is too large for this browser (${width}x${height}).`);
  context.drawImage(source, 0, 0, width, height);
  return fromRgba(context.getImageData(0, 0, width, height).data, width, height);
}

/** A canvas that holds exactly these pixels. */
export function canvasOf(image: RgbImage): HTMLCanvasElement {
  const canvas = make("canvas", { width: image.width, height: image.height });
  canvas.getContext("2d")?.putImageData(new ImageData(toRgba(image), image.width, image.height), 0, 0);
  return canvas;
}

/** A picture for people to look at, with words for those who cannot. */
export function picture(image: RgbImage, words: string, pixelated = false): HTMLCanvasElement {
  const canvas = canvasOf(image);
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", words);
  if (pixelated) canvas.classList.add("pixels");
  return canvas;
}
