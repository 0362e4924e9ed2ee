/** Enrol people for this visit, and say who is in a photo. */

import type { FoundFace } from "../engine/engine";
import { Gallery, type EmbeddedFace, type Identification } from "../recognition/gallery";
import type { Thresholds } from "../recognition/thresholds";
import { make, messageOf } from "./dom";

/** A photo that faces can be taken from. */
export interface Source {
  readonly called: string;
  /** The face that is picked. */
  readonly face: FoundFace | null;
  readonly faces: readonly FoundFace[];
  /** As it takes part in the comparison: made smaller where the slider says so. */
  embedded(face: FoundFace): Promise<EmbeddedFace>;
}

export class PeoplePanel {
  private readonly gallery = new Gallery();
  private turn = 0; // changes when what is being looked up is of no use any more
  private readonly list = make("ul", { class: "people" });
  private readonly found = make("ol", { class: "found" });
  private readonly note = make("p", { class: "note soft", role: "status" });
  private readonly name = make("input", { id: "person-name", type: "text", maxlength: 200, autocomplete: "off" });
  private readonly source = make("select", { id: "person-source" });

  constructor(
    card: HTMLElement,
    private readonly sources: readonly Source[],
    private readonly thresholds: Thresholds | null,
  ) {
    const enrol = make("button", { type: "button" }, "Enrol");
    const identify = make("button", { type: "button", class: "main" }, "Who is this?");
    this.source.append(...sources.map((source, at) => make("option", { value: at }, source.called)));
    enrol.addEventListener("click", () => void this.say(() => this.enrol()));
    this.name.addEventListener("keydown", (event) => {
      // Held down, it repeats; while an input method composes, it chooses a word.
      if (event.key !== "Enter" || event.repeat || event.isComposing) return;
      void this.say(() => this.enrol());
    });
    identify.addEventListener("click", () => void this.say(() => this.identify()));
    card.append(
      make(
        "div",
        { class: "controls" },
        make("div", {}, make("label", { for: "person-source" }, "Face from"), this.source),
        make("div", { class: "grow" }, make("label", { for: "person-name" }, "Name"), this.name),
        make("div", { class: "buttons" }, enrol, identify),
      ),
      this.note,
      this.found,
      make("h3", {}, "Enrolled"),
      this.list,
    );
    this.draw();
  }

  /** Take away what was said of another photo or size. */
  clearAnswers(): void {
    this.turn++;
    if (this.found.childElementCount === 0) return;
    this.found.replaceChildren();
    this.note.textContent = "";
  }

  private async say(act: () => Promise<string>): Promise<void> {
    try {
      this.note.textContent = await act();
    } catch (error) {
      this.note.textContent = messageOf(error);
    }
    this.draw();
  }

  private get chosen(): Source {
    return this.sources[Number(this.source.value)];
  }

  private async enrol(): Promise<string> {
    const { face } = this.chosen;
    const typed = this.name.value;
    if (face === null) throw new Error(`${this.chosen.called}: there is no face yet. Choose a photo above.`);
    if (typed.trim() === "") throw new Error("Give the person a name.");
    this.name.value = ""; // before the wait, in which the next name may be typed
    try {
      const name = this.gallery.enrol(typed, await this.chosen.embedded(face));
      return `${name} is enrolled for this visit.`;
    } catch (error) {
      if (this.name.value === "") this.name.value = typed;
      throw error;
    }
  }

  private async identify(): Promise<string> {
    const source = this.chosen;
    const { faces, called } = source;
    if (faces.length === 0) throw new Error(`${called}: there is no face yet. Choose a photo above.`);
    if (this.gallery.names.length === 0) throw new Error("Nobody is enrolled yet.");
    this.clearAnswers();
    const turn = this.turn;
    const answers: HTMLElement[] = [];
    for (const [at, face] of faces.entries()) {
      const answer = this.gallery.identify(await source.embedded(face), this.thresholds);
      if (turn !== this.turn) return this.note.textContent; // of another photo or size, or asked again
      if (answer !== null) answers.push(make("li", {}, described(at + 1, answer)));
    }
    this.found.replaceChildren(...answers);
    return `${called}: ${faces.length === 1 ? "one face" : `${faces.length} faces`} looked up.`;
  }

  private draw(): void {
    const { names } = this.gallery;
    const empty = make("li", { class: "soft" }, "Nobody yet. They are kept in this tab's memory, and gone with it.");
    this.list.replaceChildren(...(names.length > 0 ? names.map((name) => this.entry(name)) : [empty]));
  }

  private entry(name: string): HTMLElement {
    const forget = make("button", { type: "button", "aria-label": `Forget ${name}` }, "Forget");
    forget.addEventListener("click", () => {
      this.gallery.delete(name);
      this.clearAnswers();
      this.note.textContent = `${name} is forgotten.`;
      this.draw();
      this.name.focus();
    });
    const faces = this.gallery.faces(name);
    const count = make("span", { class: "soft" }, faces === 1 ? "one face" : `${faces} faces`);
    return make("li", {}, make("span", { class: "grow" }, name), count, forget);
  }
}

function described(number: number, { name, verdict, candidates }: Identification): string {
  const who = name ?? (verdict.answer === "cannot tell" ? "cannot tell" : "unknown");
  const others = candidates.slice(0, 3).map((one) => `${one.name} ${one.score.toFixed(3)}`);
  return `Face ${number} (${verdict.resolution} pixels): ${who}. Most alike: ${others.join(", ")}.`;
}
