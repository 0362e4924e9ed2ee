/** What `python -m pipeline.web_models` wrote beside the models: `models.json`. */

import type { Thresholds } from "../recognition/thresholds";
import type { CropSettings } from "../vision/crops";
import type { RefinerSettings } from "../vision/landmarks";
import type { CascadeSettings } from "../vision/mtcnn";

const FORMAT = "dsr-edgeface-web-1";

type RequiredNetwork = "pnet" | "rnet" | "onet" | "edgeface" | "dsr";
/** `landmarks` refines what MTCNN found; a folder may be without it. */
export type Network = RequiredNetwork | "landmarks";

export interface ModelFile {
  readonly file: string;
  readonly bytes: number;
  readonly sha256: string;
}

export interface CurvePoint {
  readonly protocol: string;
  readonly method: string;
  /** Side in pixels; null for high resolution. */
  readonly size: number | null;
  readonly accuracy: number;
  readonly interval: readonly [number, number] | null;
}

/** Measured accuracy by size, from an evaluation's record. */
export interface Curve {
  readonly title: string;
  readonly recogniser: string;
  readonly degradation: string;
  readonly command: string;
  readonly points: readonly CurvePoint[];
}

export interface Manifest {
  readonly format: string;
  readonly files: Readonly<Record<RequiredNetwork, ModelFile>> & { readonly landmarks?: ModelFile };
  readonly variant: string;
  readonly licence: string;
  readonly detector: CascadeSettings;
  readonly refiner: RefinerSettings | null;
  readonly crops: CropSettings;
  readonly thresholds: Thresholds | null;
  readonly curve: Curve | null;
  /** What Python makes of `selfTestImage`: unit embeddings, at `side` by its chain, and at 112. */
  readonly self_test: { readonly side: number; readonly small: number[]; readonly large: number[] };
}

export async function readManifest(folder: string): Promise<Manifest> {
  const manifest = (await (await fetched(`${folder}models.json`, "no-cache")).json()) as Manifest;
  if (manifest.format !== FORMAT) {
    throw new Error(`models.json has the format ${String(manifest.format)}, expected ${FORMAT}. ${AGAIN}`);
  }
  return manifest;
}

/** A model's bytes, checked against the manifest where the browser can compute SHA-256 (https, localhost). */
export async function readModel(folder: string, model: ModelFile): Promise<Uint8Array> {
  // The checksum in the address keeps a cached file of another export away.
  const bytes = await (await fetched(`${folder}${model.file}?${model.sha256.slice(0, 16)}`)).arrayBuffer();
  const subtle = globalThis.crypto.subtle as SubtleCrypto | undefined; // absent on plain http
  if (subtle !== undefined && hex(await subtle.digest("SHA-256", bytes)) !== model.sha256) {
    throw new Error(`${model.file} is not the file that models.json describes (another SHA-256). ${AGAIN}`);
  }
  return new Uint8Array(bytes);
}

const AGAIN = "Make the models again: python -m pipeline.web_models";

async function fetched(address: string, cache: RequestCache = "default"): Promise<Response> {
  const response = await fetch(address, { cache });
  if (!response.ok) throw new Error(`${address} cannot be read (${response.status}). ${AGAIN}`);
  return response;
}

function hex(digest: ArrayBuffer): string {
  return Array.from(new Uint8Array(digest), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
