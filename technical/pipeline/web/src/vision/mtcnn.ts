/**
 * MTCNN (K. Zhang et al., IEEE Signal Processing Letters 2016), the cascade of `facial_rec/detector_mtcnn.py` around the
 * same three graphs. The constants are Python's own: they come with the models.
 */

import type { Point } from "./alignment";
import { bestFirst, cutOut, shifted, squared, suppress, type Box } from "./boxes";
import { planar, roundHalfEven, type RgbImage } from "./image";
import { resizeArea, resizeLinear } from "./resize";

/** `facial_rec.detector_mtcnn.CascadeSettings`, where each is explained. */
export interface CascadeSettings {
  readonly min_face: number;
  readonly scale_factor: number;
  readonly thresholds: readonly [number, number, number];
  readonly level_overlap: number;
  readonly overlap: number;
  readonly final_overlap: number;
  readonly max_level_pixels: number;
  readonly max_proposals: number;
  readonly batch: number;
}

export interface DetectedFace {
  readonly box: Box;
  readonly landmarks: readonly Point[];
  readonly score: number;
}

/** What a network says of the windows it looked at; PNet's lie on a grid of `rows` x `columns`. */
export interface Answer {
  readonly score: Float32Array;
  readonly offsets: Float32Array;
  readonly landmarks?: Float32Array;
}

export interface Networks {
  /** `(1, 3, height, width)` -> `score` `(rows, columns)`, `offsets` `(4, rows, columns)`. */
  pnet(planes: Float32Array, width: number, height: number): Promise<Answer & { columns: number }>;
  /** `(count, 3, side, side)` -> `score` `(count,)`, `offsets` `(count, 4)`; of ONet `landmarks` `(count, 5, 2)`. */
  look(name: "rnet" | "onet", stack: Float32Array, count: number, side: number): Promise<Answer>;
}

const WINDOWS = { pnet: 12, rnet: 24, onet: 48 } as const;
const STRIDE = 2;

/** The faces in `image`, the surest first. */
export async function detect(image: RgbImage, networks: Networks, settings: CascadeSettings): Promise<DetectedFace[]> {
  const proposals = await propose(image, networks, settings);
  const windows = await refine(image, proposals, networks, settings);
  const said = await look("onet", image, windows, networks, settings.batch);
  const found = windows.flatMap((window, at): DetectedFace[] => {
    if (!(said.score[at] > Math.fround(settings.thresholds[2]))) return [];
    const box = shifted(window, said.offsets.subarray(4 * at, 4 * at + 4));
    const landmarks = Array.from({ length: 5 }, (_, point): Point => {
      const place = (axis: 0 | 1): number => {
        const share = said.landmarks[10 * at + 2 * point + axis];
        return Math.fround(window[axis] + Math.fround(share * (window[axis + 2] - window[axis])));
      };
      return [place(0), place(1)];
    });
    return [{ box, landmarks, score: said.score[at] }];
  });
  const boxes = found.map((face) => face.box);
  const scores = found.map((face) => face.score);
  return suppress(boxes, scores, settings.final_overlap, true).map((index) => found[index]);
}

async function propose(image: RgbImage, networks: Networks, settings: CascadeSettings): Promise<Box[]> {
  const boxes: Box[] = [];
  const scores: number[] = [];
  for (const level of pyramid(image, settings)) {
    const found = await proposeAt(level, image, networks, settings);
    boxes.push(...found.boxes);
    scores.push(...found.scores);
  }
  const kept = suppress(boxes, scores, settings.overlap).slice(0, settings.max_proposals);
  return kept.map((index) => squared(boxes[index]));
}

interface Proposals {
  readonly boxes: Box[];
  readonly scores: number[];
}

/** Proposals from one size of `photo`, in pixels of `photo`. */
async function proposeAt(
  level: RgbImage,
  photo: RgbImage,
  networks: Networks,
  settings: CascadeSettings,
): Promise<Proposals> {
  const { score, offsets, columns } = await networks.pnet(planar(level), level.width, level.height);
  const passed: number[] = [];
  score.forEach((value, cell) => {
    if (value > Math.fround(settings.thresholds[0])) passed.push(cell);
  });
  const best = bestFirst(passed.map((cell) => score[cell])).slice(0, settings.max_proposals);
  const cells = best.map((index) => passed[index]);
  const ratio = [Math.fround(photo.width / level.width), Math.fround(photo.height / level.height)];
  const boxes = cells.map((cell): Box => {
    const [left, top] = [STRIDE * (cell % columns), STRIDE * Math.floor(cell / columns)];
    const moves = [0, 1, 2, 3].map((side) => offsets[side * score.length + cell]);
    const box = shifted([left, top, left + WINDOWS.pnet, top + WINDOWS.pnet], moves);
    const scaled = (side: number): number => Math.fround(box[side] * ratio[side % 2]);
    return [scaled(0), scaled(1), scaled(2), scaled(3)];
  });
  const scores = cells.map((cell) => score[cell]);
  const kept = suppress(boxes, scores, settings.level_overlap);
  return { boxes: kept.map((index) => boxes[index]), scores: kept.map((index) => scores[index]) };
}

/** The square windows that pass RNet, moved as it says. */
async function refine(
  image: RgbImage,
  windows: readonly Box[],
  networks: Networks,
  settings: CascadeSettings,
): Promise<Box[]> {
  const { score, offsets } = await look("rnet", image, windows, networks, settings.batch);
  const boxes: Box[] = [];
  const scores: number[] = [];
  windows.forEach((window, at) => {
    if (!(score[at] > Math.fround(settings.thresholds[1]))) return;
    boxes.push(shifted(window, offsets.subarray(4 * at, 4 * at + 4)));
    scores.push(score[at]);
  });
  return suppress(boxes, scores, settings.overlap).map((index) => squared(boxes[index]));
}

async function look(
  name: "rnet" | "onet",
  image: RgbImage,
  windows: readonly Box[],
  networks: Networks,
  batch: number,
): Promise<Required<Answer>> {
  const all = {
    score: new Float32Array(windows.length),
    offsets: new Float32Array(4 * windows.length),
    landmarks: new Float32Array(10 * windows.length),
  };
  for (let start = 0; start < windows.length; start += batch) {
    const part = windows.slice(start, start + batch);
    const side = WINDOWS[name];
    const said = await networks.look(name, cutOut(image, part, side), part.length, side);
    all.score.set(said.score, start);
    all.offsets.set(said.offsets, 4 * start);
    if (said.landmarks) all.landmarks.set(said.landmarks, 10 * start);
  }
  return all;
}

/** The photo at every size at which PNet scans it, the largest first; none for a photo below PNet's window. */
export function* pyramid(photo: RgbImage, settings: CascadeSettings): Generator<RgbImage> {
  const { width, height } = photo;
  let image = photo;
  let scale = Math.min(WINDOWS.pnet / settings.min_face, Math.sqrt(settings.max_level_pixels / (height * width)));
  while (Math.min(height, width) * scale >= WINDOWS.pnet) {
    const [across, down] = [roundHalfEven(width * scale), roundHalfEven(height * scale)];
    const level = scale < 1 ? resizeArea(image, across, down) : resizeLinear(image, across, down);
    yield level;
    // Far smaller than the photo, and fine enough for the sizes to come.
    if (scale < 1 && level.data.length < image.data.length / 4) image = level;
    scale *= settings.scale_factor;
  }
}
