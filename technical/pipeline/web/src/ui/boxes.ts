/** Boxes around faces, drawn into a canvas. */

import type { FoundFace } from "../engine/engine";

export function counted(faces: number): string {
  if (faces === 0) return "no face found";
  return faces === 1 ? "one face" : `${faces} faces`;
}

/** A box around each face; around those that are `marked` a stronger one, with the landmarks. */
export function drawFaces(
  context: Context,
  faces: readonly FoundFace[],
  scale: number,
  marked: (index: number) => boolean,
): void {
  const line = Math.max(2, context.canvas.width / 240);
  faces.forEach(({ face }, index) => {
    if (face.box === null) return;
    const [left, top, right, bottom] = face.box.map((value) => (value + 0.5) * scale);
    outline(context, [left, top, right - left, bottom - top], line, marked(index));
    if (!marked(index)) return;
    for (const [x, y] of face.landmarks ?? []) dot(context, (x + 0.5) * scale, (y + 0.5) * scale, line);
  });
}

type Context = CanvasRenderingContext2D;

function outline(context: Context, box: [number, number, number, number], line: number, marked: boolean): void {
  context.lineWidth = 2 * line;
  context.strokeStyle = "#000a";
  context.strokeRect(...box);
  context.lineWidth = marked ? line : line / 2;
  context.strokeStyle = marked ? "#6cf" : "#fff";
  context.strokeRect(...box);
}

function dot(context: Context, x: number, y: number, radius: number): void {
  context.beginPath();
  context.arc(x, y, radius, 0, 2 * Math.PI);
  context.fillStyle = "#6cf";
  context.strokeStyle = "#000a";
  context.lineWidth = radius / 2;
  context.fill();
  context.stroke();
}
