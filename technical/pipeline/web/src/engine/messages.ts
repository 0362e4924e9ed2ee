/** What the page and the engine's thread say to one another. */

import type { RgbImage } from "../vision/image";
import type { Loaded } from "./engine";
import type { Provider } from "./sessions";

export type Request =
  | { readonly method: "load"; readonly folder: string; readonly wanted: Provider | null }
  | { readonly method: "find"; readonly photo: RgbImage }
  | { readonly method: "takeAligned"; readonly photo: RgbImage }
  | { readonly method: "embed"; readonly pixels: RgbImage }
  | { readonly method: "upscale"; readonly pixels: RgbImage };

export type Call = Request & { readonly id: number };

export type Reply =
  /** When the worker's requests began, in milliseconds since 1970. */
  | { readonly requests: number[] }
  /** The graphics processor failed; the networks run as told here from now on. */
  | { readonly moved: Loaded }
  | { readonly id: number; readonly step: string }
  | { readonly id: number; readonly value: unknown }
  | { readonly id: number; readonly error: string };
