/** onnxruntime-web: on the graphics processor where the browser offers WebGPU, else WASM with SIMD. All files local. */

import type * as Ort from "onnxruntime-web";
import gpuWasm from "onnxruntime-web/ort-wasm-simd-threaded.asyncify.wasm?url";
import cpuWasm from "onnxruntime-web/ort-wasm-simd-threaded.wasm?url";

export type Provider = "webgpu" | "wasm";
export type Tensors = Record<string, { readonly data: Float32Array; readonly dims: readonly number[] }>;

export interface Runtime {
  readonly gpu: boolean;
  open(model: Uint8Array, provider: Provider): Promise<Session>;
}

export interface Session {
  run(input: Float32Array | Uint8Array, dims: readonly number[]): Promise<Tensors>;
  close(): Promise<void>;
}

/** Of WebGPU, what is asked here. */
interface GpuAdapter {
  /** Since Chromium 127; WebGPU came with 113. */
  readonly info?: { readonly isFallbackAdapter?: boolean; readonly architecture: string };
  /** Where Chromium had it before. */
  readonly isFallbackAdapter?: boolean;
}
interface GpuNavigator {
  readonly gpu?: { requestAdapter(): Promise<GpuAdapter | null> };
}

/** Whether there is WebGPU, and a graphics processor behind it: one in software is slower than WASM. */
export async function hasGpu(inSoftwareToo: boolean): Promise<boolean> {
  try {
    const adapter = await (navigator as GpuNavigator).gpu?.requestAdapter();
    if (adapter === undefined || adapter === null) return false;
    const fallback = adapter.info?.isFallbackAdapter ?? adapter.isFallbackAdapter ?? false;
    return inSoftwareToo || !(fallback || adapter.info?.architecture === "swiftshader");
  } catch (error) {
    console.warn("WebGPU was left: ", error); // WASM does the same work
    return false;
  }
}

/** The runtime for `wanted`, or for what is fastest here. */
export async function startRuntime(wanted: Provider | null): Promise<Runtime> {
  const gpu = wanted !== "wasm" && (await hasGpu(wanted === "webgpu"));
  const ort: typeof Ort = gpu ? await import("onnxruntime-web/webgpu") : await import("onnxruntime-web/wasm");
  ort.env.wasm.wasmPaths = { wasm: new URL(gpu ? gpuWasm : cpuWasm, import.meta.url).href };
  ort.env.wasm.numThreads = 1; // more need a page that is isolated from all others
  ort.env.logLevel = "error";
  return { gpu, open: (model, provider) => open(ort, model, provider) };
}

async function open(ort: typeof Ort, model: Uint8Array, provider: Provider): Promise<Session> {
  const session = await ort.InferenceSession.create(model, { executionProviders: [provider], logSeverityLevel: 3 });
  return {
    async run(input, dims) {
      const kind = input instanceof Uint8Array ? "uint8" : "float32";
      const outputs = await session.run({ [session.inputNames[0]]: new ort.Tensor(kind, input, dims) });
      const found: Tensors = {};
      for (const [name, tensor] of Object.entries(outputs)) {
        found[name] = { data: (await tensor.getData()) as Float32Array, dims: tensor.dims };
      }
      return found;
    },
    close: () => session.release(),
  };
}
