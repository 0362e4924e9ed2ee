import * as ort from "onnxruntime-web";
import { beforeAll, expect, test } from "vitest";
import { cropOf, type FaceCrop } from "../src/vision/crops";
import { refine, type Look } from "../src/vision/landmarks";
import { detect, pyramid, type Networks } from "../src/vision/mtcnn";
import { decoded, difference, numbers, type CascadeFace } from "./numbers";

const { photo, settings, networks: graphs, levels, crops, refiner, faces, refined } = numbers.cascade;
const image = decoded(photo);
let networks: Networks;
let lookAtLandmarks: Look;

beforeAll(async () => {
  ort.env.wasm.numThreads = 1;
  const open = (name: keyof typeof graphs) => ort.InferenceSession.create(Buffer.from(graphs[name], "base64"));
  const sessions = { pnet: await open("pnet"), rnet: await open("rnet"), onet: await open("onet") };
  const run = async (name: keyof typeof sessions, data: Float32Array, dims: number[]) => {
    const found = await sessions[name].run({ input: new ort.Tensor("float32", data, dims) });
    const values = (output: string) => found[output].data as Float32Array;
    const answer = { score: values("score"), offsets: values("offsets"), columns: found["score"].dims[2] };
    return name === "onet" ? { ...answer, landmarks: values("landmarks") } : answer;
  };
  const landmarks = await open("landmarks");
  lookAtLandmarks = async (stack, count, side) => {
    const found = await landmarks.run({ input: new ort.Tensor("float32", stack, [count, 3, side, side]) });
    return found["landmarks"].data as Float32Array;
  };
  networks = {
    pnet: (planes, width, height) => run("pnet", planes, [1, 3, height, width]),
    look: (name, stack, count, side) => run(name, stack, [count, 3, side, side]),
  };
});

test("the photo at every size, pixel for pixel", () => {
  const found = [...pyramid(image, settings)].map(({ width, height, data }) => {
    return [width, height, data.reduce((sum, value) => sum + value, 0)];
  });
  expect(found).toEqual(levels);
});

test("Python's faces, where Python finds them", async () => {
  const found = (await detect(image, networks, settings)).map((face) => cropOf(image, face, crops));
  expectAll(found, faces);
});

test("with refined landmarks", async () => {
  const found = await detect(image, networks, settings);
  const landmarks = await refine(image, found.map((face) => face.landmarks), lookAtLandmarks, refiner);
  expectAll(found.map((face, at) => cropOf(image, { ...face, landmarks: landmarks[at] }, crops)), refined);
  expect(refined[0].landmarks).not.toEqual(faces[0].landmarks);
  expect(await refine(image, [], lookAtLandmarks, refiner)).toEqual([]);
});

function expectAll(found: readonly FaceCrop[], wanted: readonly CascadeFace[]): void {
  const described = wanted.map((face) => [face.resolution, face.by_dsr]);
  expect(found.map(({ face }) => [face.resolution, face.byDsr])).toEqual(described);
  found.forEach((crop, at) => expectSame(crop, wanted[at]));
}

function expectSame({ face, pixels }: FaceCrop, wanted: CascadeFace): void {
  expect(face.detection).toBeCloseTo(wanted.detection, 3);
  face.box?.forEach((value, side) => expect(value).toBeCloseTo(wanted.box[side], 1));
  face.landmarks?.forEach(([x, y], point) => {
    expect(x).toBeCloseTo(wanted.landmarks[point][0], 1);
    expect(y).toBeCloseTo(wanted.landmarks[point][1], 1);
  });
  const { most, share } = difference(pixels, decoded(wanted.pixels));
  expect(most).toBeLessThanOrEqual(3);
  expect(share).toBeLessThan(0.02);
}

test("a picture below PNet's window shows nobody", async () => {
  expect(await detect({ width: 11, height: 40, data: new Uint8Array(1320) }, networks, settings)).toEqual([]);
});
