/** The answer in words, its score on a scale with the thresholds, and what either way gives. */

import type { Comparison } from "../recognition/comparison";
import type { Answer, Verdict } from "../recognition/thresholds";
import { make, makeSvg } from "./dom";

export const WORDS: Readonly<Record<Answer, string>> = {
  same: "The same person",
  different: "Two people",
  "cannot tell": "Cannot tell",
};
const CLASSES: Readonly<Record<Answer, string>> = { same: "same", different: "different", "cannot tell": "unsure" };
const SIGNS: Readonly<Record<Answer, string>> = { same: "=", different: "≠", "cannot tell": "?" };

const [LOWEST, HIGHEST] = [-0.2, 1];
const [WIDTH, HEIGHT, BAR] = [360, 78, 14];

export function showAnswer(card: HTMLElement, { verdict, scores }: Comparison): void {
  card.replaceChildren(
    make(
      "p",
      { class: `verdict ${CLASSES[verdict.answer]}` },
      make("span", { class: "sign", "aria-hidden": "true" }, SIGNS[verdict.answer]),
      ` ${WORDS[verdict.answer]}`,
    ),
    make("p", { class: "score" }, "Similarity ", make("b", {}, verdict.score.toFixed(3)), ` at ${pixels(verdict)}`),
    scale(verdict),
    make("p", { class: "soft" }, verdict.reason),
    ...(scores === null ? [] : [ways(scores)]),
    ...verdict.notes.map((note) => make("p", { class: "notice" }, note)),
  );
}

export function askForPhotos(card: HTMLElement, missing: string): void {
  card.replaceChildren(make("p", { class: "soft" }, missing));
}

function pixels(verdict: Verdict): string {
  return `${verdict.resolution} pixels, the smaller face`;
}

function place(score: number): number {
  const inside = Math.min(Math.max(score, LOWEST), HIGHEST);
  return 8 + ((inside - LOWEST) / (HIGHEST - LOWEST)) * (WIDTH - 16);
}

/** A bar from different over cannot tell to same, with the score on it. */
function scale({ score, accept, reject }: Verdict): SVGSVGElement {
  const from = reject ?? LOWEST;
  const to = accept ?? HIGHEST;
  const zone = (low: number, high: number, name: string): SVGRectElement =>
    makeSvg("rect", { x: place(low), y: 26, width: Math.max(0, place(high) - place(low)), height: BAR, class: name });
  const marks = [...new Set([reject, accept])].filter((value) => value !== null);
  const words = `Similarity ${score.toFixed(3)} on a scale from ${LOWEST} to ${HIGHEST}`;
  return makeSvg(
    "svg",
    { class: "scale", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": words },
    ...zoneNames(from, to),
    zone(LOWEST, from, "zone different"),
    zone(from, to, "zone unsure"),
    zone(to, HIGHEST, "zone same"),
    ...marks.map((value) => makeSvg("text", { x: place(value), y: 72, "text-anchor": "middle" }, value.toFixed(2))),
    makeSvg("path", { class: "needle", d: `M${place(score)} 44 v-24 l-6 -10 h12 l-6 10` }),
  );
}

/** What each zone says, where there is room for it. */
function zoneNames(from: number, to: number): SVGElement[] {
  const named: [number, number, string][] = [
    [LOWEST, from, "two people"],
    [from, to, "cannot tell"],
    [to, HIGHEST, "the same"],
  ];
  return named.flatMap(([low, high, name]) => {
    const middle = (place(low) + place(high)) / 2;
    if (place(high) - place(low) < 72) return [];
    return [makeSvg("text", { class: "zone-name", x: middle, y: 54, "text-anchor": "middle" }, name)];
  });
}

function ways(scores: Readonly<Record<"bicubic" | "dsr", number>>): HTMLElement {
  const row = (name: string, score: number): HTMLElement =>
    make("tr", {}, make("th", { scope: "row" }, name), make("td", {}, score.toFixed(3)));
  return make(
    "table",
    {},
    make("caption", { class: "soft" }, "Similarity, the small face enlarged by"),
    make("tbody", {}, row("bicubic", scores.bicubic), row("DSR", scores.dsr)),
  );
}
