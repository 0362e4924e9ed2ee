/** One photo: chosen, dropped or taken, its faces boxed and cut out, one of them picked. */

import type { EngineClient } from "../engine/client";
import type { FoundFace } from "../engine/engine";
import type { RgbImage } from "../vision/image";
import { counted, drawFaces } from "./boxes";
import { takePicture } from "./camera";
import { make, messageOf } from "./dom";
import { canvasOf, picture, readPhoto } from "./pictures";

const SHOWN_WIDTH = 960; // canvas pixels; a photo of 12 megapixels is not kept twice

export class PhotoSlot {
  faces: readonly FoundFace[] = [];
  private picked = 0;
  private turn = 0;
  private photo: HTMLCanvasElement | null = null;
  /** What was chosen last: a file is read again, so that its pixels are not kept twice. */
  private last: { readonly read: () => Promise<RgbImage>; readonly name: string } | null = null;
  private readonly view = make("div", { class: "view" });
  private readonly note = make("p", { class: "note soft", role: "status" });
  private readonly chooser = make("fieldset", { class: "faces" });
  private readonly aligned: HTMLInputElement;
  readonly called: string;

  /** `changed` is called when another face is shown. */
  constructor(
    private readonly root: HTMLElement,
    private readonly engine: EngineClient,
    private readonly changed: () => void,
  ) {
    this.called = root.dataset["called"] ?? "Photo";
    const input = make("input", { type: "file", accept: "image/png,image/jpeg,image/bmp,image/webp", id: `${root.id}-file` });
    const webcam = make("button", { type: "button" }, "Webcam");
    this.aligned = make("input", { type: "checkbox", id: `${root.id}-aligned` });
    input.addEventListener("change", () => {
      const file = input.files?.item(0);
      if (file) void this.show(() => readPhoto(file, file.name), file.name);
      input.value = ""; // so that the same file may be chosen again
    });
    webcam.addEventListener("click", () => void this.fromCamera());
    this.aligned.addEventListener("change", () => {
      if (this.last !== null) void this.show(this.last.read, this.last.name);
    });
    root.append(
      make("h3", {}, this.called),
      make("div", { class: "buttons" }, make("label", { class: "file" }, "Choose a photo", input), webcam),
      this.view,
      this.note,
      this.chooser,
      make("label", { class: "aligned soft" }, this.aligned, " The picture is an aligned face already"),
    );
    this.acceptDrops();
    this.clear("No photo yet. You may also drop one here.");
  }

  /** The face that takes part in the comparison. */
  get face(): FoundFace | null {
    return this.faces[this.picked] ?? null;
  }

  /** Read a photo, find its faces and show them. */
  async show(read: () => Promise<RgbImage>, name: string): Promise<void> {
    const turn = ++this.turn;
    this.last = { read, name };
    this.clear(`Looking for faces in ${name}…`);
    this.root.setAttribute("aria-busy", "true");
    this.changed();
    try {
      const photo = await read();
      if (turn !== this.turn) return; // another photo was chosen meanwhile, and may be here already
      this.photo = canvasOf(photo);
      this.draw();
      const faces = this.aligned.checked ? [await this.engine.takeAligned(photo)] : await this.engine.find(photo);
      if (turn !== this.turn) return;
      this.faces = faces;
      this.picked = largest(faces);
      this.note.textContent = `${name}, ${photo.width}x${photo.height}: ${counted(faces.length)}.`;
    } catch (error) {
      if (turn !== this.turn) return;
      this.clear(messageOf(error));
    }
    this.root.removeAttribute("aria-busy");
    this.draw();
    this.drawChooser();
    this.changed();
  }

  private async fromCamera(): Promise<void> {
    const taken = await takePicture(this.engine);
    if (taken !== null) await this.show(() => Promise.resolve(taken), "The webcam's picture");
  }

  private clear(note: string): void {
    this.faces = [];
    this.photo = null;
    this.note.textContent = note;
    this.view.replaceChildren(make("div", { class: "empty", "aria-hidden": "true" }));
    this.chooser.replaceChildren();
    this.chooser.hidden = true;
  }

  /** The photo with a box around each face; the picked one's is marked, and has its landmarks. */
  private draw(): void {
    if (this.photo === null) return;
    const scale = Math.min(1, SHOWN_WIDTH / this.photo.width);
    const size = { width: Math.round(this.photo.width * scale), height: Math.round(this.photo.height * scale) };
    const words = `${this.called}: ${counted(this.faces.length)}`;
    const canvas = make("canvas", { ...size, role: "img", "aria-label": words });
    const context = canvas.getContext("2d");
    if (context === null) return;
    context.imageSmoothingQuality = "high";
    context.drawImage(this.photo, 0, 0, canvas.width, canvas.height);
    drawFaces(context, this.faces, scale, (index) => index === this.picked);
    this.view.replaceChildren(canvas);
  }

  private drawChooser(): void {
    this.chooser.hidden = this.faces.length === 0;
    const options = this.faces.map((found, index) => this.option(found, index));
    const legend = this.faces.length > 1 ? "Which face is compared" : "The face, aligned";
    this.chooser.replaceChildren(make("legend", { class: "soft" }, legend), ...options);
  }

  private option(found: FoundFace, index: number): HTMLElement {
    const { resolution, byDsr } = found.face;
    const number = this.faces.length > 1 ? `Face ${index + 1}: ` : "";
    const words = `${number}${resolution} pixels of the photo${byDsr ? ", by way of the DSR" : ""}`;
    const choice = make("input", { type: "radio", name: `${this.root.id}-face`, checked: index === this.picked });
    choice.addEventListener("change", () => {
      this.picked = index;
      this.draw();
      this.changed();
    });
    const crop = picture(found.pixels, `${this.called}, face ${index + 1}, aligned`, found.pixels.width < 112);
    return make("label", { class: "face" }, this.faces.length > 1 ? choice : null, crop, make("span", {}, words));
  }

  private acceptDrops(): void {
    this.root.addEventListener("dragover", (event) => {
      event.preventDefault();
      this.root.classList.add("over");
    });
    this.root.addEventListener("dragleave", () => this.root.classList.remove("over"));
    this.root.addEventListener("drop", (event) => {
      event.preventDefault();
      this.root.classList.remove("over");
      const file = event.dataTransfer?.files.item(0);
      if (file) void this.show(() => readPhoto(file, file.name), file.name);
    });
  }
}

/** A file or link dropped beside a slot is not opened in place of the page: the people enrolled would be lost. */
export function refuseOtherDrops(): void {
  const refuse = (event: DragEvent): void => {
    const field = event.target instanceof HTMLInputElement && event.target.type === "text";
    const file = event.dataTransfer?.types.includes("Files") ?? false;
    if (!field || file) event.preventDefault(); // words may be dragged into a field
  };
  document.addEventListener("dragover", refuse);
  document.addEventListener("drop", refuse);
}

/** The face with the largest box: whom a photo is of, more often than not. */
function largest(faces: readonly FoundFace[]): number {
  const areas = faces.map(({ face: { box } }) => (box === null ? 0 : (box[2] - box[0]) * (box[3] - box[1])));
  return Math.max(0, areas.indexOf(Math.max(...areas)));
}
