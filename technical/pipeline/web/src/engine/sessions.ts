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

interface GpuNavigator {
  readonly gpu?: { requestAdapter(): Promise<unknown> };
}

async function hasGpu(): Promise<boolean> {
  const { gpu } = navigator as GpuNavigator;
  if (gpu === undefined) return false;
  return gpu.requestAdapter().then(Boolean, () => false);
}

export async function startRuntime(): Promise<Runtime> {
  const gpu = await hasGpu();
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
