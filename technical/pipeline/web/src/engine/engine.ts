/** Detect, align, upscale, embed: what `pipeline.recogniser` does, in the browser. Runs in the worker. */

import { unit } from "../recognition/gallery";
import { alignFace, TEMPLATE_SIZE } from "../vision/alignment";
import { alignedCrop, cropOf, type FaceCrop } from "../vision/crops";
import { enlarge } from "../vision/cubic";
import { blankImage, fromPlanar, planar, type RgbImage } from "../vision/image";
import { refine, type Look } from "../vision/landmarks";
import { detect, type DetectedFace, type Networks } from "../vision/mtcnn";
import { readManifest, readModel, type Manifest, type Network } from "./manifest";
import { startRuntime, type Provider, type Runtime, type Session, type Tensors } from "./sessions";

/** A face that was found: as the networks take it, and at 112 x 112 for making it smaller. */
export interface FoundFace extends FaceCrop {
  readonly aligned: RgbImage;
}

export interface Loaded {
  readonly manifest: Manifest;
  readonly provider: Provider;
  /** Least cosine between this browser's embeddings of a test picture and Python's. */
  readonly agreement: number;
}

interface Ready {
  readonly engine: Engine;
  readonly loaded: Loaded;
}

/** The files' bytes, on their way. */
type Models = readonly { readonly name: Network; readonly bytes: Promise<Uint8Array> }[];

const LEAST_AGREEMENT = 0.999;
const ON_GPU: readonly Network[] = ["edgeface", "dsr"]; // PNet gets another size every time: WASM is faster

export class Engine {
  /** The same on the processor, for when the graphics processor fails; null where there is nothing else to turn to. */
  private spare: (() => Promise<Ready | null>) | null = null;

  private constructor(
    private readonly manifest: Manifest,
    private sessions: ReadonlyMap<Network, Session>,
    private readonly moved: (loaded: Loaded) => void,
  ) {}

  /**
   * Read all networks from `folder` and try them, on `wanted` if there is one. `say` is told what is being done, and
   * `moved` where the networks run once the graphics processor has failed.
   */
  static async load(
    folder: string,
    wanted: Provider | null,
    say: (step: string) => void,
    moved: (loaded: Loaded) => void,
  ): Promise<Ready> {
    say("Loading the models");
    const [manifest, runtime] = await Promise.all([readManifest(folder), startRuntime(wanted)]);
    const models: Models = Object.entries(manifest.files).map(([name, file]) => ({
      name: name as Network,
      bytes: readModel(folder, file),
    }));
    void Promise.allSettled(models.map((model) => model.bytes)); // an error is met where its model is opened
    for (const provider of runtime.gpu ? (["webgpu", "wasm"] as const) : (["wasm"] as const)) {
      say(provider === "webgpu" ? "Preparing the graphics processor" : "Preparing the processor");
      const open = (on: Provider): Promise<Engine> => Engine.open(manifest, models, runtime, on, moved);
      const found = await attempt(manifest, open, provider);
      if (found === null) continue;
      if (provider === "webgpu") found.engine.spare = () => attempt(manifest, open, "wasm");
      return found;
    }
    throw new Error(
      "the networks give other embeddings here than in Python, so no answer could be trusted. Try another browser.",
    );
  }

  static async open(
    manifest: Manifest,
    models: Models,
    runtime: Runtime,
    provider: Provider,
    moved: (loaded: Loaded) => void,
  ): Promise<Engine> {
    const sessions = new Map<Network, Session>();
    const engine = new Engine(manifest, sessions, moved);
    try {
      for (const { name, bytes } of models) {
        sessions.set(name, await runtime.open(await bytes, ON_GPU.includes(name) ? provider : "wasm"));
      }
    } catch (error) {
      await engine.close();
      throw error;
    }
    return engine;
  }

  /** Release what can be released: a graphics processor that was lost may refuse. */
  async close(): Promise<void> {
    const closed = await Promise.allSettled([...this.sessions.values()].map((session) => session.close()));
    for (const one of closed) if (one.status === "rejected") console.warn("a session was not released: ", one.reason);
  }

  /** All faces of a photo, the surest first. */
  async find(photo: RgbImage): Promise<FoundFace[]> {
    const found = await this.refined(photo, await detect(photo, this.networks, this.manifest.detector));
    return found.map((face) => ({
      ...cropOf(photo, face, this.manifest.crops),
      aligned: alignFace(photo, face.landmarks),
    }));
  }

  /** A picture that is an aligned face already. RangeError as `alignedCrop`. */
  takeAligned(picture: RgbImage): FoundFace {
    const crop = alignedCrop(picture, this.manifest.crops);
    return { ...crop, aligned: crop.pixels.width === TEMPLATE_SIZE ? crop.pixels : enlarge(picture, TEMPLATE_SIZE) };
  }

  /** The unit embedding of a face of 112 pixels, or of a smaller one by way of the DSR. */
  async embed(pixels: RgbImage): Promise<Float32Array> {
    const whole = pixels.width < TEMPLATE_SIZE ? await this.upscale(pixels) : pixels;
    const input = planar(whole, 1 / 127.5, -1);
    const { output } = await this.run("edgeface", input, [1, 3, TEMPLATE_SIZE, TEMPLATE_SIZE]);
    return unit(output.data);
  }

  /** What the DSR makes of a face of 8 to 64 pixels: 112 x 112, rounded to 8 bit, as the chain of Python rounds it. */
  async upscale(pixels: RgbImage): Promise<RgbImage> {
    const dims = [1, 3, pixels.height, pixels.width];
    const { output } = await this.run("dsr", planar(pixels, 1 / 255), dims);
    return fromPlanar(output.data, TEMPLATE_SIZE, TEMPLATE_SIZE);
  }

  private async refined(photo: RgbImage, faces: readonly DetectedFace[]): Promise<readonly DetectedFace[]> {
    const { refiner } = this.manifest;
    if (refiner === null) return faces;
    const look: Look = async (stack, count, side) =>
      (await this.run("landmarks", stack, [count, 3, side, side])).landmarks.data;
    const landmarks = await refine(photo, faces.map((face) => face.landmarks), look, refiner);
    return faces.map((face, at) => ({ ...face, landmarks: landmarks[at] }));
  }

  private async run(name: Network, input: Float32Array | Uint8Array, dims: readonly number[]): Promise<Tensors> {
    const session = this.sessions.get(name);
    if (session === undefined) throw new Error(`models.json names no file for '${name}'`);
    try {
      return await session.run(input, dims);
    } catch (error) {
      if (this.spare === null || !ON_GPU.includes(name)) throw error;
      console.warn("WebGPU was left: ", error);
      await this.move(this.spare);
      return this.run(name, input, dims);
    }
  }

  /** To the processor: a browser takes the graphics processor away when its driver starts again, or after a sleep. */
  private async move(spare: () => Promise<Ready | null>): Promise<void> {
    const ready = await spare().catch((error: unknown) => {
      console.warn("wasm was left: ", error);
      return null;
    });
    if (ready === null) {
      throw new Error("the graphics processor failed, and the processor cannot take over. Load the page again.");
    }
    await this.close();
    this.sessions = ready.engine.sessions;
    this.spare = null;
    this.moved(ready.loaded);
  }

  private readonly networks: Networks = {
    pnet: async (planes, width, height) => {
      const { score, offsets } = await this.run("pnet", planes, [1, 3, height, width]);
      return { score: score.data, offsets: offsets.data, columns: score.dims[2] };
    },
    look: async (name, stack, count, side) => {
      const { score, offsets, landmarks } = await this.run(name, stack, [count, 3, side, side]);
      const answer = { score: score.data, offsets: offsets.data };
      return name === "onet" ? { ...answer, landmarks: landmarks.data } : answer;
    },
  };
}

/** An engine on `provider`, or null where it cannot be opened or gives other embeddings than Python. */
async function attempt(
  manifest: Manifest,
  open: (provider: Provider) => Promise<Engine>,
  provider: Provider,
): Promise<Ready | null> {
  let engine: Engine | null = null;
  try {
    engine = await open(provider);
    const agreement = await agreementOf(engine, manifest);
    if (agreement >= LEAST_AGREEMENT) return { engine, loaded: { manifest, provider, agreement } };
    console.warn(`${provider} was left: its embeddings have a cosine of ${agreement} to Python's`);
    await engine.close();
  } catch (error) {
    await engine?.close();
    if (provider === "wasm") throw error;
    console.warn("WebGPU was left: ", error);
  }
  return null;
}

async function agreementOf(engine: Engine, { self_test: expected }: Manifest): Promise<number> {
  const small = await engine.embed(selfTestImage(expected.side));
  const large = await engine.embed(selfTestImage(TEMPLATE_SIZE));
  const dot = (found: Float32Array, wanted: number[]): number =>
    found.reduce((sum, value, index) => sum + value * wanted[index], 0);
  return Math.min(dot(small, expected.small), dot(large, expected.large));
}

/** The picture of `pipeline.web_models.self_test_image`: ramps that both languages compute in whole numbers. */
export function selfTestImage(side: number): RgbImage {
  const image = blankImage(side, side);
  for (let y = 0, at = 0; y < side; y++) {
    for (let x = 0; x < side; x++) {
      for (let channel = 0; channel < 3; channel++, at++) {
        image.data[at] = 16 + Math.floor((x * 120) / side) + Math.floor((y * (channel + 1) * 36) / side);
      }
    }
  }
  return image;
}

