/** Measured accuracy against the size of the face, with the size that is compared now. */

import type { Curve, CurvePoint } from "../engine/manifest";
import { make, makeSvg } from "./dom";

const [WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM] = [420, 250, 56, 14, 14, 44];
const SERIES = [
  ["bicubic", "bicubic"],
  ["dsr", "DSR"],
] as const;
const PROTOCOLS: Readonly<Record<string, string>> = {
  "lr-hr": "a small face against a large one",
  "lr-lr": "two small faces",
};

type SizedPoint = CurvePoint & { readonly size: number };

/** Draws `curve`; `size` is the smaller face's, null while none is compared, and `bothSmall` chooses the protocol. */
export function showCurve(card: HTMLElement, curve: Curve | null, size: number | null, bothSmall: boolean): void {
  const wanted = bothSmall ? "lr-lr" : "lr-hr";
  const points = curve?.points.filter((point) => point.protocol === wanted) ?? [];
  const sized = points.filter((point): point is SizedPoint => point.size !== null);
  if (curve === null || sized.length === 0) {
    const why = "No measurement came with these models. `python -m pipeline.web_models --results` adds one.";
    card.replaceChildren(make("p", { class: "soft" }, why));
    return;
  }
  const large = points.find((point) => point.size === null);
  const protocol = PROTOCOLS[wanted] ?? wanted;
  card.replaceChildren(
    legend(large !== undefined),
    plot(sized, large, size, `Accuracy by size: ${protocol}`),
    make("p", { class: "soft" }, `${curve.title}, ${curve.recogniser}, ${protocol}; bars: 95 % intervals.`),
    make("p", {}, sentence(sized, size)),
    table(sized, large),
  );
}

function plot(
  points: readonly SizedPoint[],
  large: CurvePoint | undefined,
  size: number | null,
  words: string,
): SVGSVGElement {
  const sizes = points.map((point) => point.size);
  const [smallest, largest] = [Math.min(...sizes), Math.max(...sizes)];
  const lowest = Math.min(...points.map((point) => point.interval?.[0] ?? point.accuracy));
  const floor = Math.max(0, Math.floor(lowest * 20) / 20);
  const x = (value: number): number => LEFT + ((value - smallest) / (largest - smallest || 1)) * (WIDTH - LEFT - RIGHT);
  const y = (value: number): number => TOP + ((1 - value) / (1 - floor)) * (HEIGHT - TOP - BOTTOM);
  const step = 1 - floor > 0.2 ? 0.1 : 0.05;
  const lines = Array.from({ length: Math.round((1 - floor) / step) + 1 }, (_, index) => 1 - index * step);
  const now = size === null ? [] : marker(x(Math.min(Math.max(size, smallest), largest)), size, largest);
  return makeSvg(
    "svg",
    { class: "plot", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": words },
    ...lines.filter((value) => value >= floor - 1e-9).flatMap((value) => gridLine(y(value), value)),
    ...[...new Set(sizes)].map((value) =>
      makeSvg("text", { x: x(value), y: HEIGHT - BOTTOM + 18, "text-anchor": "middle" }, String(value)),
    ),
    makeSvg("text", { x: (LEFT + WIDTH) / 2, y: HEIGHT - 4, "text-anchor": "middle" }, "size of the face in pixels"),
    ...(large ? [makeSvg("path", { class: "line hr", d: `M${LEFT} ${y(large.accuracy)} H${WIDTH - RIGHT}` })] : []),
    ...now,
    ...SERIES.flatMap(([method]) => series(method, points.filter((point) => point.method === method), x, y)),
  );
}

function gridLine(y: number, value: number): SVGElement[] {
  return [
    makeSvg("path", { class: "grid", d: `M${LEFT} ${y} H${WIDTH - RIGHT}` }),
    makeSvg("text", { x: LEFT - 6, y: y + 4, "text-anchor": "end" }, `${Math.round(100 * value)} %`),
  ];
}

function series(
  method: string,
  points: readonly SizedPoint[],
  x: (size: number) => number,
  y: (accuracy: number) => number,
): SVGElement[] {
  const path = points.map((point, index) => `${index ? "L" : "M"}${x(point.size)} ${y(point.accuracy)}`).join(" ");
  const whiskers = points.flatMap(({ size, interval }) =>
    interval ? [makeSvg("path", { class: `whisker ${method}`, d: `M${x(size)} ${y(interval[0])} V${y(interval[1])}` })] : [],
  );
  const dots = points.map(({ size, accuracy }) =>
    makeSvg("circle", { class: `mark ${method}`, cx: x(size), cy: y(accuracy), r: 4 }),
  );
  return [makeSvg("path", { class: `line ${method}`, d: path }), ...whiskers, ...dots];
}

function marker(x: number, size: number, largest: number): SVGElement[] {
  const toLeft = x > WIDTH / 2;
  const label = size > largest ? `${size} pixels: larger` : `${size} pixels now`;
  return [
    makeSvg("path", { class: "now", d: `M${x} ${TOP} V${HEIGHT - BOTTOM}` }),
    makeSvg(
      "text",
      { class: "now", x: x + (toLeft ? -6 : 6), y: HEIGHT - BOTTOM - 8, "text-anchor": toLeft ? "end" : "start" },
      label,
    ),
  ];
}

function legend(withLarge: boolean): HTMLElement {
  const entries = [...SERIES, ...(withLarge ? ([["hr", "large faces"]] as const) : [])];
  const item = ([method, label]: readonly [string, string]): HTMLElement =>
    make(
      "li",
      {},
      makeSvg(
        "svg",
        { viewBox: "0 0 30 14", "aria-hidden": "true", class: "plot" },
        makeSvg("path", { class: `line ${method}`, d: "M1 7 H29" }),
      ),
      label,
    );
  return make("ul", { class: "legend" }, ...entries.map(item));
}

/** The nearest measured size, in words: what the marker shows, for those who do not see it. */
function sentence(points: readonly SizedPoint[], size: number | null): string {
  if (size === null) return "Choose two photos, and the size of the smaller face is marked.";
  const distance = (point: SizedPoint): number => Math.abs(point.size - size);
  const nearest = Math.min(...points.map(distance));
  const there = points.filter((point) => distance(point) === nearest && distance(point) === nearest);
  const at = there[0].size;
  const found = SERIES.flatMap(([method, label]) => {
    const point = there.find((one) => one.method === method && one.size === at);
    return point ? [`${label} ${percent(point.accuracy)}`] : [];
  });
  return `The face compared has ${size} pixels. Measured at ${at}: ${found.join(", ")}.`;
}

function table(points: readonly SizedPoint[], large: CurvePoint | undefined): HTMLElement {
  const sizes = [...new Set(points.map((point) => point.size))];
  const cell = (size: number, method: string): HTMLElement => {
    const point = points.find((one) => one.size === size && one.method === method);
    return make("td", {}, point ? percent(point.accuracy) : "-");
  };
  const rows = sizes.map((size) =>
    make("tr", {}, make("th", { scope: "row" }, String(size)), ...SERIES.map(([method]) => cell(size, method))),
  );
  const titles = ["size", ...SERIES.map(([, label]) => label)].map((title) => make("th", { scope: "col" }, title));
  const last = large ? `Large faces: ${percent(large.accuracy)}.` : null;
  return make(
    "details",
    {},
    make("summary", {}, "The same as a table"),
    make("table", {}, make("thead", {}, make("tr", {}, ...titles)), make("tbody", {}, ...rows)),
    last === null ? null : make("p", { class: "soft" }, last),
  );
}

function percent(share: number): string {
  return `${(100 * share).toFixed(1)} %`;
}
