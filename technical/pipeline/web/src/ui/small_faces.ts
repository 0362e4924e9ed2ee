/** A small face three times, side by side: its own pixels, enlarged by bicubic, and by the DSR. */

import type { PreparedFace, SmallFace } from "../recognition/comparison";
import type { RgbImage } from "../vision/image";
import { make } from "./dom";
import { picture } from "./pictures";

export function showSmallFaces(into: HTMLElement, faces: readonly (readonly [string, PreparedFace | null])[]): void {
  const shown = faces.flatMap(([called, prepared]) => (prepared?.small ? [triptych(called, prepared.small)] : []));
  const nothing = make("p", { class: "soft" }, "Move the slider to the left: here the small face will be seen.");
  into.replaceChildren(...(shown.length > 0 ? shown : [nothing]));
}

function triptych(called: string, { low, bicubic, dsr }: SmallFace): HTMLElement {
  const size = `${low.width}x${low.height}`;
  return make(
    "figure",
    { class: "triptych" },
    make("figcaption", { class: "soft" }, `${called}, ${size}`),
    tile(low, `${size}`, `${called} at ${size} pixels`, true),
    tile(bicubic, "bicubic", `${called}, enlarged by bicubic`),
    tile(dsr, "DSR", `${called}, enlarged by the DSR`),
  );
}

function tile(image: RgbImage, label: string, words: string, pixelated = false): HTMLElement {
  return make("div", { class: "tile" }, picture(image, words, pixelated), make("span", { "aria-hidden": "true" }, label));
}
