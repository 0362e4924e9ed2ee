/** The page: two photos, a slider, an answer. Everything is computed by the engine's worker, in this browser. */

import { EngineClient } from "./engine/client";
import type { FoundFace, Loaded } from "./engine/engine";
import type { Provider } from "./engine/sessions";
import { compare, FacePreparer, type Comparison, type Method, type PreparedFace } from "./recognition/comparison";
import { askForPhotos, showAnswer } from "./ui/answer";
import { showCurve } from "./ui/curve";
import { byId, make, messageOf } from "./ui/dom";
import { latestOnly } from "./ui/latest";
import { watchRequests } from "./ui/offline";
import { PeoplePanel, type Source } from "./ui/people";
import { PhotoSlot, refuseOtherDrops } from "./ui/photo_slot";
import { readPhoto } from "./ui/pictures";
import { showSmallFaces } from "./ui/small_faces";

const UNREDUCED = 65; // the slider's right end
const NAMES: Readonly<Record<Provider, string>> = { webgpu: "WebGPU", wasm: "WebAssembly (SIMD)" };

const engine = new EngineClient();
const preparer = new FacePreparer(engine);
const slider = byId("size", HTMLInputElement);
const which = byId("which", HTMLSelectElement);
const dsr = byId("dsr", HTMLInputElement);
const answer = byId("answer", HTMLElement);
const slots = (["first", "second"] as const).map((id) => new PhotoSlot(byId(id, HTMLElement), engine, refresh));

let loaded: Loaded | null = null;
let people: PeoplePanel | null = null;

/** For the browser's console, and the tests: the same functions that the page uses. */
const api = { engine, readPhoto };
declare global {
  // eslint-disable-next-line no-var
  var dsrEdgeface: typeof api;
}
globalThis.dsrEdgeface = api;

function way(): Method {
  return dsr.checked ? "dsr" : "bicubic";
}

/** How small the face of a slot is to be made; null for as it is. */
function sizeFor(at: number): number | null {
  const concerned = which.value === "both" || which.value === (at === 0 ? "first" : "second");
  return concerned && slider.valueAsNumber < UNREDUCED ? slider.valueAsNumber : null;
}

function prepared(at: number, face: FoundFace | null): Promise<PreparedFace> | null {
  return face === null ? null : preparer.prepare(face, sizeFor(at));
}

/** Compute and show everything again, once what is being computed is done. */
function refresh(): void {
  showSize();
  people?.clearAnswers();
  answer.setAttribute("aria-busy", "true"); // what is shown there is of an earlier setting
  updateLatest();
}

const updateLatest = latestOnly(async (current) => {
  try {
    await update();
  } catch (error) {
    if (current()) askForPhotos(answer, messageOf(error));
  }
  if (current()) answer.removeAttribute("aria-busy");
});

async function update(): Promise<void> {
  const picked = slots.map((slot) => slot.face);
  const faces = await Promise.all(picked.map((face, at) => prepared(at, face)));
  // Of a slider that is dragged, sizes on the way may be shown; of faces, only those that are picked still.
  if (loaded === null || slots.some((slot, at) => slot.face !== picked[at])) return;
  showSmallFaces(byId("small-faces", HTMLElement), slots.map((slot, at) => [slot.called, faces[at]] as const));
  const [first, second] = faces;
  if (first === null || second === null) {
    const missing = slots.filter((slot) => slot.face === null).map((slot) => slot.called.toLowerCase());
    askForPhotos(answer, `Still needed: a face in the ${missing.join(" and in the ")}.`);
    drawCurve(null);
    return;
  }
  const found = compare(first, second, way(), loaded.manifest.thresholds);
  showAnswer(answer, found);
  drawCurve(found);
}

function drawCurve(found: Comparison | null): void {
  const bothSmall = found !== null && found.first.small !== null && found.second.small !== null;
  const card = byId("curve", HTMLElement);
  showCurve(card, loaded?.manifest.curve ?? null, found?.verdict.resolution ?? null, bothSmall);
}

function showSize(): void {
  const size = slider.valueAsNumber;
  const words = size < UNREDUCED ? `${size} pixels` : "as in the photo";
  byId("size-now", HTMLOutputElement).textContent = words;
  slider.setAttribute("aria-valuetext", words);
}

function sourceOf(slot: PhotoSlot, at: number): Source {
  return {
    called: slot.called,
    get face() {
      return slot.face;
    },
    get faces() {
      return slot.faces;
    },
    embedded: async (face) => (await preparer.prepare(face, sizeFor(at))).ways[way()],
  };
}

function showModels({ manifest, provider, agreement }: Loaded): void {
  const development = manifest.thresholds?.development_set;
  const rows: [string, string][] = [
    ["Networks", `${manifest.variant}; MTCNN${manifest.refiner ? ", landmarks refined" : ""}`],
    ["Runs on", provider === "webgpu" ? "WebGPU" : "WebAssembly with SIMD, one thread"],
    ["Agrees with Python", `cosine ${agreement.toFixed(6)} on a test picture`],
    ["Thresholds", development ? `${development.label}, ${development.people} people` : "none: 0.35 everywhere"],
    ["Licence", manifest.licence],
    ...Object.values(manifest.files).map((model): [string, string] => [
      model.file,
      `${model.bytes.toLocaleString("en")} bytes, SHA-256 ${model.sha256}`,
    ]),
  ];
  byId("dsr-below", HTMLElement).textContent = String(manifest.crops.dsr_below);
  byId("models", HTMLDListElement).replaceChildren(
    ...rows.flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, value)]),
  );
}

/** The graphics processor failed, and the processor took over. */
function showMoved(now: Loaded): void {
  loaded = now;
  byId("status", HTMLElement).textContent = `The graphics processor failed; going on with ${NAMES[now.provider]}.`;
  document.documentElement.dataset["ready"] = now.provider;
  showModels(now);
}

/** `?provider=wasm` or `?provider=webgpu` in the address: for comparing them. */
function wantedProvider(): Provider | null {
  const wanted = new URLSearchParams(location.search).get("provider");
  return wanted === "wasm" || wanted === "webgpu" ? wanted : null;
}

async function start(): Promise<void> {
  const status = byId("status", HTMLElement);
  const began = performance.now();
  refuseOtherDrops();
  engine.onMoved(showMoved);
  for (const control of [slider, which, dsr]) control.addEventListener("input", refresh);
  try {
    const models = new URL("models/", document.baseURI).href;
    loaded = await engine.load(models, wantedProvider(), (step) => (status.textContent = `${step}…`));
  } catch (error) {
    const failure = byId("failure", HTMLElement);
    failure.textContent = `The page cannot work: ${messageOf(error)}`;
    failure.hidden = false;
    status.textContent = "Not ready.";
    byId("main", HTMLElement).removeAttribute("aria-busy");
    return;
  }
  const seconds = ((performance.now() - began) / 1000).toFixed(1);
  status.textContent = `Ready after ${seconds} s, on ${NAMES[loaded.provider]}.`;
  byId("main", HTMLElement).removeAttribute("aria-busy");
  document.documentElement.dataset["ready"] = loaded.provider;
  showModels(loaded);
  people = new PeoplePanel(byId("people", HTMLElement), slots.map(sourceOf), loaded.manifest.thresholds);
  watchRequests(byId("proof", HTMLElement), engine);
  refresh();
}

void start();
